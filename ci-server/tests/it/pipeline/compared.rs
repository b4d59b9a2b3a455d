//! What counts as a change, what as an error that is new, and what asks for a word.

use std::fs;
use std::time::Duration;

use ci_model::flow::Verdict;
use ci_model::outcome::{Progress, Side};
use ci_server::pipeline::{Base, Request, RunError};

use super::{CONFIG, PACKAGES, World, assert_zlib_is_why, kinds};

#[test]
fn a_change_is_led_back_to_what_differs_by_itself() {
    let world = World::new();
    world.bump_zlib();
    let outcome = world.run(|_| {}).unwrap();
    assert_zlib_is_why(&outcome);
    assert_eq!(outcome.files_changed, 1);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

/// Nix names what it copies after its folder: that one has the same name on both sides, and on a person's own machine.
#[test]
fn a_source_is_the_same_where_only_files_differ_that_it_drops() {
    let world = World::new();
    let source = r#"{
      filtered = derivation {
        name = "filtered"; system = "x86_64-linux"; builder = "/bin/sh";
        src = builtins.filterSource (path: type: baseNameOf path != "README.md") ./.;
      };
      whole = derivation { name = "whole"; system = "x86_64-linux"; builder = "/bin/sh"; src = ./.; };
    }"#;
    world.write("default.nix", source);
    world.write("README.md", "read me");
    world.commit("sources");
    world.write("README.md", "read me again");
    let asked = |request: &mut Request| request.jobs = vec!["all".parse().unwrap()];
    let outcome = world.run(asked).unwrap();
    assert_eq!(kinds(&outcome), [("whole".to_owned(), "rebuilt")]);
    assert_eq!((outcome.files_changed, outcome.comparison.totals().unchanged), (1, 1));
    let copied = fs::read_dir(world.path("store")).unwrap().map(|entry| entry.unwrap().file_name());
    let copied: Vec<String> = copied.map(|name| name.to_string_lossy().into_owned()).collect();
    let sources = copied.iter().filter(|name| !name.ends_with(".drv") && !name.starts_with('.'));
    let names: Vec<&str> = sources.map(|name| &name[33..]).collect();
    assert_eq!(names, ["source"; 3], "the whole of both sides, and what both filter");
}

#[test]
fn a_base_that_did_not_come_to_its_end_is_not_compared_with() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("in rec {", "in let sum = f: n: builtins.foldl' (a: b: a + f b) 0 (builtins.genList (x: x) n);\nin rec { endless = sum (x: sum (y: y) 10000) 1000000;"));
    world.commit("endless");
    world.write("default.nix", PACKAGES);
    let error = world.run(|request| request.limits.wall = Duration::from_secs(2)).unwrap_err();
    let RunError::BaseUnfinished { job, .. } = &error else { panic!("{error}") };
    assert_eq!(job.as_str(), "all");
    assert!(!error.is_usage());
}

#[test]
fn a_first_configuration_is_no_change_of_what_is_built() {
    let world = World::new();
    world.git(&["rm", "-rq", ".ekaci"]);
    world.commit("none");
    world.write(".ekaci/config.json", CONFIG);
    let outcome = world.run(|request| request.jobs = vec!["all".parse().unwrap()]).unwrap();
    assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
    assert!(outcome.comparison.is_empty(), "{:?}", kinds(&outcome));
}

/// What does not evaluate is not written, and a comment changes nothing: nothing needs to be looked at.
#[test]
fn where_nothing_can_be_new_nothing_is_missed() {
    let world = World::new();
    world.write("default.nix", &format!("# a comment\n{PACKAGES}"));
    let outcome = world.run(|_| {}).unwrap();
    assert!(outcome.comparison.is_empty() && outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    assert_eq!(outcome.comparison.unseen, 0);
    let broken = PACKAGES.replace("pkg \"alone\" \"1.0\" { }", "throw \"x\"");
    world.write("default.nix", &broken);
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!((outcome.verdict, outcome.comparison.unseen), (Verdict::Bad, 0), "{:?}", outcome.reasons);
    // Another name for what the base has is new for none, but others may need it: all is looked at.
    world.write("default.nix", &PACKAGES.replace("  alone =", "  alias = curl;\n  alone ="));
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!((kinds(&outcome), outcome.comparison.unseen), (vec![("alias".to_owned(), "added")], 0));
    assert_eq!(outcome.comparison.totals().to_build(), 0);
    assert_eq!(outcome.comparison.reach[0].dependants, 1, "{:?}", outcome.comparison.reach);
}

/// No error tells that a file is no set of packages any more.
#[test]
fn a_job_that_loses_everything_asks_for_a_word() {
    let world = World::new();
    for nothing in ["{ pkgs }: pkgs", "\"text\"", "null", "{ }"] {
        world.write("default.nix", nothing);
        let outcome = world.run(|_| {}).unwrap();
        assert_eq!(outcome.verdict, Verdict::NeedsAction, "{nothing}: {:?}", outcome.reasons);
        assert!(outcome.reasons[0].starts_with("Nothing is left of the job all;"), "{:?}", outcome.reasons);
    }
}

/// A base that names a file that is not there can be mended; a head that does is refused.
#[test]
fn a_base_whose_file_is_not_there_can_be_mended() {
    let world = World::new();
    world.write(".ekaci/config.json", &CONFIG.replace("default.nix", "other.nix"));
    world.commit("misspelt");
    let error = world.run(|_| {}).unwrap_err();
    assert!(error.is_usage() && matches!(error, RunError::Evaluate { side: Side::Head, .. }), "{error:?}");
    world.write("other.nix", PACKAGES);
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
    assert_eq!((outcome.comparison.errors.fixed.len(), outcome.comparison.errors.new.len()), (4, 0));
    assert_eq!(outcome.comparison.unseen, 0);
    // It is found out again.
    let again = world.run(|_| {}).unwrap();
    assert_eq!((again.verdict, again.comparison), (outcome.verdict, outcome.comparison));
}

/// Two versions side by side: what the base has of the one is not new to the other.
#[test]
fn a_version_that_the_base_has_elsewhere_is_not_counted_as_new() {
    let world = World::new();
    let two = |which: &str| {
        PACKAGES
            .replace("in rec {", "  ssl1 = pkg \"openssl\" \"1.1\" { }; ssl3 = pkg \"openssl\" \"3.0\" { };\nin rec {\n  nginx = pkg \"nginx\" \"1\" { inherit ssl3; };")
            .replace("{ inherit zlib; }", &format!("{{ ssl = {which}; }}"))
    };
    world.write("default.nix", &two("ssl1"));
    world.commit("two");
    world.write("default.nix", &two("ssl3"));
    let outcome = world.run(|_| {}).unwrap();
    let totals = outcome.comparison.totals();
    assert_eq!((totals.to_build(), outcome.comparison.unseen), (2, 0), "curl and git");
    let causes: Vec<_> = outcome.comparison.root_causes.iter().map(|cause| cause.after.drv_name()).collect();
    assert_eq!(causes, ["curl"]);
    let quick = world.run(|request| request.checkouts = world.path("elsewhere")).unwrap();
    assert_eq!(quick.comparison, outcome.comparison, "whatever lies in the store");
}

/// What is added needs something that the base has, but not where the two differ: it is not new.
#[test]
fn what_the_base_has_elsewhere_is_not_counted_as_new() {
    let world = World::new();
    let more = PACKAGES.replace("  alone =", "  wget = pkg \"wget\" \"1.0\" { inherit curl; };\n  alone =");
    world.write("default.nix", &more);
    let outcome = world.run(|_| {}).unwrap();
    let seen = kinds(&outcome);
    assert_eq!(seen, [("wget".to_owned(), "added")]);
    assert_eq!(outcome.comparison.totals().to_build(), 1, "curl and zlib are the base's");
    assert_eq!(outcome.comparison.unseen, 0);
}

/// Something new fetches from elsewhere what the base has: the file is there then, and only what is made of it is built.
#[test]
fn what_the_base_fetches_from_elsewhere_is_not_to_be_built() {
    let world = World::new();
    let fetching = |more: &str| {
        PACKAGES.replace(
            "  alone =",
            &format!(
                r#"
  src = from: derivation {{
    name = "src"; system = "x86_64-linux"; builder = "/bin/sh"; url = from;
    outputHash = "0000000000000000000000000000000000000000000000000000"; outputHashAlgo = "sha256";
  }};
  mine = pkg "mine" "1" {{ src = src "https://a/src"; }};
  {more}
  alone ="#
            ),
        )
    };
    world.write("default.nix", &fetching(""));
    world.commit("mine");
    world.write("default.nix", &fetching(r#"yours = pkg "yours" "1" { src = src "https://mirror/src"; };"#));
    // As it is read, and as it is remembered.
    for _ in 0..2 {
        let outcome = world.run(|_| {}).unwrap();
        let totals = outcome.comparison.totals();
        assert_eq!((totals.drvs, totals.same_outputs, totals.to_build()), (2, 1, 1));
        assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
    }
}

/// Without a base there is no cause to look for, so no file of what is known is missed.
#[test]
fn without_a_base_no_file_is_looked_into() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("  inherit zlib;\n", ""));
    for _ in 0..2 {
        let outcome = world.run(|request| request.base = Base::Nothing).unwrap();
        assert_eq!(outcome.comparison.totals().to_build(), 4);
        assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
        let store = fs::read_dir(world.path("store")).unwrap().filter_map(Result::ok);
        let of_zlib = store.filter(|file| file.file_name().to_string_lossy().ends_with("-zlib.drv"));
        of_zlib.for_each(|file| fs::remove_file(file.path()).unwrap());
    }
}

/// What failed to evaluate and is taken out of the repository is told, and is no reason against it.
#[test]
fn what_did_not_evaluate_and_is_gone_is_removed() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("  alone =", "  broken = throw \"it says no\";\n  alone ="));
    world.commit("broken");
    world.write("default.nix", PACKAGES);
    let outcome = world.run(|_| {}).unwrap();
    let removed: Vec<_> = outcome.comparison.errors.removed.iter().map(|of| of.path.to_string()).collect();
    assert_eq!((removed, outcome.verdict), (vec!["broken".to_owned()], Verdict::Good));
    assert_eq!(outcome.reasons, ["1 attribute changes, and nothing is to be built."]);
}

#[test]
fn code_that_is_another_each_time_is_told_of() {
    let world = World::new();
    world.write("default.nix", &PACKAGES.replace("\"1.2\"", "(toString builtins.currentTime)"));
    // The first pass and the second are not in the same second.
    let mut told = |progress: Progress| {
        if let Progress::EvaluationEnded { side: Side::Head, .. } = progress {
            let ended = std::time::Instant::now();
            test_kit::wait::until(Duration::from_secs(5), || ended.elapsed() > Duration::from_millis(1_100));
        }
    };
    let outcome = world.run_told(|_| {}, &mut told).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.contains("each time")), "{:?}", outcome.warnings);
}
