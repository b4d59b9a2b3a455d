//! Derivations: written once more when they were collected, and told of when they cannot be written or used.

use std::fs;
use std::process::Command;

use ci_model::flow::Verdict;
use ci_model::outcome::Progress;

use super::{PACKAGES, World, assert_zlib_is_why, kinds};

#[test]
fn derivations_that_were_collected_are_written_again() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    let mut collect = Command::new("nix-store");
    collect.arg("--gc").envs(world.env());
    assert!(collect.output().unwrap().status.success());
    let left = fs::read_dir(world.path("store")).unwrap().filter_map(Result::ok);
    assert_eq!(left.filter(|file| file.path().extension().is_some_and(|kind| kind == "drv")).count(), 0);
    let outcome = world.run(|_| {}).unwrap();
    assert_zlib_is_why(&outcome);
    assert!(outcome.warnings.is_empty(), "{:?}", outcome.warnings);
}

/// What an unchanged attribute needs is gone, while its own file is still there.
#[test]
fn a_derivation_of_which_a_part_is_gone_takes_nobody_with_it() {
    for quick in [false, true] {
        let world = World::new();
        let packages = PACKAGES.replace(
            "  alone =",
            "  other = pkg \"other\" \"1\" { below = pkg \"below\" \"1\" { }; };\n  alone =",
        );
        world.write("default.nix", &packages);
        world.commit("other");
        let mut write = Command::new("nix-instantiate");
        write.arg(world.path("repository/default.nix")).envs(world.env());
        assert!(write.output().unwrap().status.success());
        let store = fs::read_dir(world.path("store")).unwrap().filter_map(Result::ok);
        let below: Vec<_> =
            store.filter(|file| file.file_name().to_string_lossy().ends_with("-below.drv")).collect();
        assert_eq!(below.len(), 1);
        fs::remove_file(below[0].path()).unwrap();
        world.write("default.nix", &packages.replace("\"1.2\"", "\"1.3\""));
        let outcome = world.run(|request| request.quick = quick).unwrap();
        let seen = kinds(&outcome);
        let seen: Vec<(&str, &str)> = seen.iter().map(|(attr, kind)| (attr.as_str(), *kind)).collect();
        assert_eq!(seen, [("curl", "rebuilt"), ("git", "rebuilt"), ("zlib", "bumped")]);
        assert_eq!(outcome.comparison.unseen, 2, "the attribute that needs it, on either side");
    }
}

/// A collection between the writing and the reading: the files go while the run is told how far it is.
#[test]
fn derivations_that_are_collected_meanwhile_are_written_again() {
    let world = World::new();
    world.bump_zlib();
    let (store, env) = (world.path("store"), world.env());
    let mut collected = false;
    let mut told = |progress: Progress| {
        // The last attribute is written, and nothing has been read.
        if let Progress::Instantiating { done, of } = progress
            && done == of
            && !collected
        {
            collected = true;
            for drv in fs::read_dir(&store).unwrap().filter_map(Result::ok) {
                if drv.file_name().to_string_lossy().ends_with("-git.drv") {
                    let delete =
                        Command::new("nix-store").arg("--delete").arg(drv.path()).envs(env.clone()).output();
                    assert!(delete.unwrap().status.success(), "nothing needs it and nothing holds it");
                }
            }
        }
    };
    let outcome = world.run_told(|_| {}, &mut told).unwrap();
    assert!(collected);
    assert_zlib_is_why(&outcome);
}

/// Whoever writes an expression can name a derivation that nobody wrote.
#[test]
fn a_derivation_that_nobody_wrote_takes_nobody_with_it() {
    let world = World::new();
    let fake = r#"  fake = rec { type = "derivation"; name = "zz"; system = "x86_64-linux"; drvPath = "${builtins.storeDir}/00000000000000000000000000000000-zz.drv"; outPath = drvPath; };"#;
    let packages = PACKAGES.replace("  alone =", &format!("{fake}\n  alone ="));
    world.write("default.nix", &packages.replace("\"1.2\"", "\"1.3\""));
    let outcome = world.run(|_| {}).unwrap();
    assert!(kinds(&outcome).contains(&("zlib".to_owned(), "bumped")), "{:?}", kinds(&outcome));
    assert!(outcome.warnings.iter().any(|warning| warning.contains("-zz.drv")), "{:?}", outcome.warnings);
}

/// What can be evaluated, and not written: no verdict may be good for it.
#[test]
fn an_attribute_whose_derivation_cannot_be_written_fails() {
    let world = World::new();
    let odd = r#"  odd = let p = builtins.toFile "mode" "1"; there = builtins.pathExists (builtins.unsafeDiscardStringContext p); in if builtins.seq p there then throw "no, now that it is written" else pkg "odd" "1" { };"#;
    world.write("default.nix", &PACKAGES.replace("  alone =", &format!("{odd}\n  alone =")));
    let outcome = world.run(|_| {}).unwrap();
    assert_eq!(outcome.verdict, Verdict::Bad, "{:?}", outcome.reasons);
    let [(_, error)] = &outcome.comparison.errors.new[..] else { panic!("{:?}", outcome.comparison.errors) };
    assert_eq!(error.path.to_string(), "odd");
    assert!(error.message.contains("now that it is written"), "{}", error.message);
}

/// One derivation that makes no sense takes the explanation of what needs it away, and nothing else.
#[test]
fn a_derivation_that_cannot_be_used_is_told_and_the_others_are_explained() {
    let world = World::new();
    let odd = r#"
      strange = pkg "strange" "1.0" { system = "x86_64 linux"; inherit zlib; };
      odd = name: pkg name "1.0" { inherit strange; };
    in rec {
      odd-1 = odd "one"; odd-2 = odd "two"; odd-3 = odd "three"; odd-4 = odd "four"; odd-5 = odd "five";"#;
    let packages = PACKAGES.replace("in rec {", odd);
    world.write("default.nix", &packages);
    world.commit("odd ones");
    world.write("default.nix", &packages.replace("\"1.2\"", "\"1.3\""));
    let first = world.run(|_| {}).unwrap();
    // What is remembered of the first run does not hide it from the second.
    let second = world.run(|_| {}).unwrap();
    for outcome in [&first, &second] {
        let changed: Vec<String> = kinds(outcome).into_iter().map(|(attr, _)| attr).collect();
        assert_eq!(changed, ["curl", "git", "odd-1", "odd-2", "odd-3", "odd-4", "odd-5", "zlib"]);
        let causes = &outcome.comparison.root_causes;
        let zlib = causes.iter().find(|cause| cause.after.drv_name() == "zlib").unwrap();
        assert_eq!((zlib.attrs, zlib.drvs), (3, 3), "as without them");
        assert_eq!(outcome.comparison.unseen, 10, "those five, on either side");
        // The head's and the base's are the same fault.
        let [incomplete, warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
        assert!(incomplete.contains("10 attributes were not there"), "{incomplete}");
        assert!(warning.contains("odd-1, odd-2, odd-3 (and 2 more)"), "{warning}");
        assert!(warning.contains("-strange.drv") && warning.contains("x86_64 linux"), "{warning}");
        assert!(warning.contains("correct the code"), "{warning}");
        assert_eq!(outcome.verdict, Verdict::Good, "{:?}", outcome.reasons);
    }
    // Another reason, or what another attribute needs, is another fault.
    let other = packages.replace("x86_64 linux", "aarch64 linux");
    let more = other.replace(
        "alone =",
        "twice = pkg \"twice\" \"1.0\" { s = pkg \"strange\" \"1.0\" { system = \"a b\"; }; };\n alone =",
    );
    world.write("default.nix", &more);
    let outcome = world.run(|_| {}).unwrap();
    let reasons = ["x86_64 linux", "aarch64 linux", "a b"];
    assert_eq!(outcome.warnings.len(), 4, "{:?}", outcome.warnings);
    for reason in reasons {
        assert_eq!(outcome.warnings.iter().filter(|warning| warning.contains(reason)).count(), 1, "{reason}");
    }
}
