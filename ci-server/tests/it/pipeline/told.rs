//! What is said of what is not there, of errors, and of what is too much.

use std::fs;

use ci_model::attr::ErrorKind;
use ci_model::flow::Verdict;
use ci_model::outcome::{Progress, Side};
use ci_server::pipeline::Base;

use super::{PACKAGES, World};

#[test]
fn what_was_asked_for_and_is_not_there_is_named_with_what_is() {
    let world = World::new();
    let error = world.run(|request| request.jobs = vec!["al".parse().unwrap()]).unwrap_err();
    assert!(error.is_usage());
    assert_eq!(error.to_string(), "there is no job al; there is all");
    let error = world.run(|request| request.base = Base::Revision("nothing".into())).unwrap_err();
    assert!(error.is_usage(), "{error}");
    world.write(".ekaci/config.json", r#"{ "jbos": {} }"#);
    let error = world.run(|_| {}).unwrap_err();
    assert!(error.is_usage());
    let text = error.to_string();
    assert!(text.contains(".ekaci/config.json:1:3") && text.contains("jobs"), "{text}");
    fs::remove_file(world.path("repository/.ekaci/config.json")).unwrap();
    std::os::unix::fs::symlink("../default.nix", world.path("repository/.ekaci/config.json")).unwrap();
    let error = world.run(|_| {}).unwrap_err();
    assert!(error.to_string().contains("is a link"), "{error}");
}

/// More errors than are asked for their messages: those that are new have them.
#[test]
fn a_new_error_has_its_message_however_many_there_are() {
    let world = World::new();
    let many: String = (0..8).map(|n| format!("  old{n} = throw \"old {n}\";\n")).collect();
    let packages = PACKAGES.replace("  alone =", &format!("{many}  alone ="));
    world.write("default.nix", &packages);
    world.commit("many");
    world
        .write("default.nix", &packages.replace("  alone =", "  zz-new = throw \"the new one\";\n  alone ="));
    let outcome = world.run(|request| request.limits.explained_max = 2).unwrap();
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert_eq!((error.path.to_string().as_str(), error.message.as_str()), ("zz-new", "the new one"));
    assert_eq!(outcome.comparison.errors.still.len(), 8);
}

/// How far it is: from the first attribute on, and all of them at the end, however few they are and wherever they are from.
#[test]
fn the_end_of_an_evaluation_is_told_with_all_that_it_comes_to() {
    let world = World::new();
    let bad = "  bad = throw \"no\";\n";
    world.write("default.nix", &PACKAGES.replace("  alone =", &format!("{bad}  alone =")));
    for is_reused in [false, true] {
        let (mut on_the_way, mut at_the_end) = (Vec::new(), Vec::new());
        let mut told = |progress: Progress| match progress {
            Progress::Evaluated { side: Side::Head, attrs, errors, .. } => on_the_way.push((attrs, errors)),
            Progress::EvaluationEnded { side: Side::Head, attrs, errors, cost, .. } => {
                at_the_end.push((attrs, errors, cost.reused));
            }
            _ => {}
        };
        let outcome = world.run_told(|_| {}, &mut told).unwrap();
        let job = &outcome.jobs[0];
        assert_eq!((job.attrs, job.errors), (5, 1), "those that fail are attributes of the job as well");
        assert_eq!(at_the_end, [(4, 1, is_reused)]);
        assert_eq!(
            on_the_way.iter().any(|(attrs, errors)| attrs + errors == 1),
            !is_reused,
            "{on_the_way:?}"
        );
    }
}

/// Code can make its results as large as it likes; what is kept of them is bounded.
#[test]
fn results_beyond_what_is_kept_are_an_error_of_the_whole_job() {
    let world = World::new();
    let many = r#"  many = { recurseForDerivations = true; } // builtins.listToAttrs (map (n: { name = "a${toString n}"; value = pkg "p${toString n}" "1" { } // { meta.description = text; }; }) (builtins.genList (n: n) 400));"#;
    let text = r#"text = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 200);"#;
    let packages = PACKAGES
        .replace("  alone =", &format!("{many}\n  alone ="))
        .replace("in rec {", &format!("  {text}\nin rec {{"));
    world.write("default.nix", &packages);
    let outcome = world.run(|request| request.results_bytes_max = 400_000).unwrap();
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert!(error.path.is_root() && error.kind == ErrorKind::TooLarge, "{error:?}");
    assert_eq!((outcome.verdict, outcome.jobs[0].attrs), (Verdict::Bad, 1));
    // With room for all of it, all of it is there.
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!(outcome.comparison.totals().added, 400);
}

/// What throws is held until all of it is known, and so is which attributes were for another system.
#[test]
fn what_is_held_for_later_is_bounded_as_well() {
    let long = r#"long = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 300);"#;
    let many = |value: &str| {
        let many = r#"  ${long} = { recurseForDerivations = true; } // builtins.listToAttrs (builtins.genList (n: { name = "a${toString n}"; value = VALUE; }) 400);"#;
        PACKAGES
            .replace("  alone =", &format!("{}\n  alone =", many.replace("VALUE", value)))
            .replace("in rec {", &format!("  {long}\nin rec {{"))
    };
    let elsewhere = "derivation { name = \"e\"; system = \"aarch64-linux\"; builder = \"/bin/sh\"; }";
    for (value, errors) in [("throw \"no\"", 400), (elsewhere, 0)] {
        let world = World::new();
        world.write("default.nix", &many(value));
        let run = |bytes| {
            let systems = vec!["x86_64-linux".parse().unwrap()];
            world.run(|request| (request.results_bytes_max, request.systems) = (bytes, systems)).unwrap()
        };
        let cut = run(400_000).comparison.errors.new;
        assert!(
            matches!(&cut[..], [(_, error)] if error.path.is_root() && error.kind == ErrorKind::TooLarge),
            "{cut:?}"
        );
        let all = run(100_000_000).comparison.errors.new;
        assert_eq!(all.len(), errors, "{:?}", all.first());
    }
}

#[test]
fn a_system_that_nothing_is_for_is_named() {
    let world = World::new();
    world.bump_zlib();
    let error = world.run(|request| request.systems = vec!["x86_64-linx".parse().unwrap()]).unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("x86_64-linx"), "{error}");
}

/// Where an error is, in words that are the same wherever the code was checked out.
#[test]
fn an_error_says_where_it_is_in_the_repository() {
    let world = World::new();
    world.write("broken.nix", "{ a ; }\n");
    let broken = "  broken = import ./broken.nix;\n  thrown = throw \"in ${toString ./default.nix}\";\n  absent = import ./absent.nix;";
    world.write("default.nix", &PACKAGES.replace("  alone =", &format!("{broken}\n  alone =")));
    for _ in ["afresh", "remembered"] {
        let outcome = world.run(|_| {}).unwrap();
        let errors = &outcome.comparison.errors.new;
        let of = |path: &str| errors.iter().find(|(_, of)| of.path.to_string() == path).map(|(_, of)| of);
        assert_eq!(
            of("broken").unwrap().message,
            "syntax error, unexpected ';', expecting '.' or '=' at broken.nix:1:5"
        );
        assert_eq!(of("thrown").unwrap().message, "in default.nix");
        assert!(of("absent").unwrap().message.contains("'absent.nix'"), "{errors:?}");
        let ours = world.dir.path().to_string_lossy();
        assert!(!format!("{errors:?}").contains(&*ours), "{errors:?}");
    }
}
