//! What is not evaluated twice, and what is evaluated again because it may be another.

use std::collections::HashSet;
use std::fs;

use ci_model::flow::{Trust, Verdict};
use ci_model::outcome::Outcome;
use ci_server::pipeline;
use ci_server::pipeline::{Base, Head};

use super::{PACKAGES, World, assert_zlib_is_why, kinds};

#[test]
fn the_same_tree_is_never_evaluated_twice() {
    let world = World::new();
    world.bump_zlib();
    let reused = |outcome: &Outcome| {
        let [job] = &outcome.jobs[..] else { panic!("{:?}", outcome.jobs) };
        [&job.base, &job.head].map(|cost| cost.as_ref().unwrap().reused)
    };
    assert_eq!(reused(&world.run(|_| {}).unwrap()), [false, false]);
    // The same tree as a commit is the same tree.
    world.commit("zlib: 1.3");
    let again = world.run(|request| request.head = Head::Revision("HEAD".into())).unwrap();
    assert_eq!(reused(&again), [true, true]);
    assert_zlib_is_why(&again);
    // Under other settings it is another evaluation, and of an outsider in any case.
    let other = world.run(|request| request.systems = vec!["x86_64-linux".parse().unwrap()]).unwrap();
    assert_eq!(reused(&other), [false, false]);
    let outsider = world.run(|request| request.trust = Trust::UntrustedPr).unwrap();
    assert_eq!(reused(&outsider), [false, false]);
    assert_eq!(reused(&world.run(|request| request.trust = Trust::UntrustedPr).unwrap()), [true, true]);
}

/// Also where nothing is remembered yet, and where what is remembered does not count.
#[test]
fn a_tree_that_both_sides_have_is_evaluated_once() {
    let world = World::new();
    world.git(&["commit", "-q", "--allow-empty", "-m", "the same"]);
    for afresh in [false, true] {
        let outcome = world.run(|request| {
            (request.head, request.base) = (Head::Revision("HEAD".into()), Base::Revision("HEAD~1".into()));
            request.afresh = afresh;
        });
        let outcome = outcome.unwrap();
        let job = &outcome.jobs[0];
        let reused = [&job.head, &job.base].map(|cost| cost.as_ref().unwrap().reused);
        assert_eq!(reused.iter().filter(|reused| **reused).count(), 1, "{afresh}: {:?}", outcome.jobs);
        assert_eq!(outcome.reasons, ["Nothing changes."]);
    }
}

#[test]
fn what_was_evaluated_under_other_uris_is_evaluated_again() {
    let world = World::new();
    let reused = |uris: &[&str]| {
        let outcome = world.run(|request| {
            (request.trust, request.base) = (Trust::UntrustedPr, Base::Nothing);
            request.allowed_uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        });
        outcome.unwrap().jobs[0].head.as_ref().unwrap().reused
    };
    let (a, b) = ("https://a.example/", "https://b.example/");
    for uris in [&[][..], &[a], &[b], &[a, b]] {
        assert!(!reused(uris), "{uris:?}");
        assert!(reused(uris), "{uris:?}");
    }
    assert!(reused(&[b, a, b]), "in which order, and how often it was said, does not matter");
}

#[test]
fn two_runs_of_the_same_change_at_once_say_the_same() {
    let world = World::new();
    world.bump_zlib();
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| world.run(|_| {}).unwrap())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert_zlib_is_why(outcome);
        assert_eq!(outcome.comparison, outcomes[0].comparison);
    }
}

#[test]
fn what_is_remembered_is_evaluated_again_when_somebody_says_so() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    let again = world.run(|request| request.afresh = true).unwrap();
    assert!(!again.jobs[0].head.as_ref().unwrap().reused);
    assert_zlib_is_why(&again);
}

/// The base moved on in the meantime: what is compared is what both are now.
#[test]
fn a_channel_that_was_updated_is_no_change_of_the_repository() {
    let world = World::new();
    let (old, new) = (world.path("old"), world.path("new"));
    for (folder, version) in [(&old, "1"), (&new, "2")] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("default.nix"), format!("\"{version}\"")).unwrap();
    }
    let channel = world.path("channel");
    std::os::unix::fs::symlink(&old, &channel).unwrap();
    world.write("default.nix", &PACKAGES.replace("\"1.2\"", "(import <channel>)"));
    world.commit("from a channel");
    world.write("other.nix", "1");
    let run = || {
        world.run(|request| {
            request.nix.env.push(("NIX_PATH".into(), format!("channel={}", channel.display()).into()));
            request.engine = pipeline::identity(&request.nix, false).unwrap().text;
        })
    };
    assert!(run().unwrap().comparison.is_empty());
    fs::remove_file(&channel).unwrap();
    std::os::unix::fs::symlink(&new, &channel).unwrap();
    world.write("other.nix", "2");
    let outcome = run().unwrap();
    assert!(outcome.comparison.is_empty(), "{:?}", kinds(&outcome));
}

/// What leads to a URL may be another each time: both sides are evaluated, and nothing is kept.
#[test]
fn what_reads_something_that_moves_is_not_found_again() {
    let world = World::new();
    world.bump_zlib();
    for _ in ["first", "second"] {
        let outcome = world.run(|request| request.fleeting = Some("channel:nixos-unstable".into())).unwrap();
        assert!(
            outcome
                .jobs
                .iter()
                .flat_map(|job| [&job.head, &job.base])
                .all(|cost| !cost.as_ref().unwrap().reused)
        );
        let [warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
        assert!(
            warning.starts_with("What channel:nixos-unstable leads to may be another each time"),
            "{warning}"
        );
    }
}

/// A file of settings that Nix is told to read is part of what evaluates, the second one of a list as well.
#[test]
fn settings_that_nix_is_told_to_read_are_part_of_what_evaluates() {
    let world = World::new();
    let [first, second] = ["first.conf", "second.conf"].map(|name| world.path(name));
    let mut request = world.request();
    let names = format!("{}:{}", first.display(), second.display());
    request.nix.env.push(("NIX_USER_CONF_FILES".into(), names.into()));
    let mut seen = vec![pipeline::identity(&request.nix, false).unwrap().text];
    for (file, text) in [(&first, "a"), (&second, "b"), (&second, "bb")] {
        fs::write(file, text).unwrap();
        seen.push(pipeline::identity(&request.nix, false).unwrap().text);
    }
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 4, "{seen:?}");
    assert_eq!(pipeline::identity(&request.nix, false).unwrap().text, seen[3]);
}

#[test]
fn a_change_of_documents_is_not_evaluated() {
    let world = World::new();
    world.write("README.md", "read me");
    let outcome = world.run(|_| {}).unwrap();
    assert!(outcome.jobs.is_empty());
    assert_eq!(outcome.verdict, Verdict::Good);
    assert!(outcome.reasons[0].contains("documentation"), "{:?}", outcome.reasons);
    // So whatever systems are asked for.
    let of_a_system = world.run(|request| request.systems = vec!["riscv64-linux".parse().unwrap()]).unwrap();
    assert_eq!((of_a_system.verdict, of_a_system.reasons), (Verdict::Good, outcome.reasons));
    // Unless somebody asks for a job by its name.
    let asked = world.run(|request| request.jobs = vec!["all".parse().unwrap()]).unwrap();
    assert_eq!(asked.jobs.len(), 1);
}
