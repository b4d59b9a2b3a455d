//! What a change is compared with where nobody says it, and what is said where that is not what people expect.

use std::fs;

use ci_model::flow::Verdict;
use ci_server::pipeline::{Base, Head};

use super::{CONFIG, PACKAGES, World, assert_zlib_is_why};

/// The only warning of a run.
#[track_caller]
fn warning(world: &World, head: Head) -> String {
    let outcome = world.run(|request| request.head = head).unwrap();
    let [warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
    warning.clone()
}

#[test]
fn without_a_main_branch_something_else_is_compared_with_and_named() {
    let world = World::new();
    world.git(&["branch", "-qm", "main", "develop"]);
    world.git(&["checkout", "-qb", "topic"]);
    world.bump_zlib();
    let said =
        |what: &str| format!("There is no main branch to compare with, so {what} is; name one with --base.");
    assert_eq!(warning(&world, Head::Worktree), said("HEAD"));
    world.commit("zlib: 1.3");
    assert_eq!(warning(&world, Head::Worktree), said("HEAD~1"));
    assert_eq!(warning(&world, Head::Revision("topic".into())), said("the commit before the head"));
    let named = world.run(|request| request.base = Base::Revision("develop".into())).unwrap();
    assert!(named.warnings.is_empty(), "{:?}", named.warnings);
}

#[test]
fn a_main_branch_with_another_history_is_told() {
    let world = World::new();
    world.git(&["checkout", "-q", "--orphan", "other"]);
    world.commit("from the beginning");
    world.bump_zlib();
    let said =
        "The head shares no commit with the main branch, so HEAD is compared with; name one with --base.";
    assert_eq!(warning(&world, Head::Worktree), said);
}

#[test]
fn a_shallow_clone_is_told_with_the_remedy() {
    let world = World::new();
    world.bump_zlib();
    world.commit("zlib: 1.3");
    world.git(&[
        "clone",
        "-q",
        "--depth",
        "1",
        "--no-tags",
        &format!("file://{}", world.path("repository").display()),
        "../shallow",
    ]);
    let run = |base: Base| {
        world.run(|request| {
            request.path = world.path("shallow");
            request.base = base;
        })
    };
    let outcome = run(Base::WhereItBegan).unwrap();
    assert_eq!(outcome.base, None);
    assert_eq!(
        outcome.warnings,
        ["This clone is shallow and holds no commit before, so it is compared with nothing; run `git fetch \
          --unshallow`, or name one with --base."]
    );
    assert!(run(Base::Nothing).unwrap().warnings.is_empty(), "that was asked for");
    let error = run(Base::Revision("HEAD~1".into())).unwrap_err();
    assert!(error.is_usage());
    assert!(error.to_string().contains("this clone is shallow: run `git fetch --unshallow`"), "{error}");
}

/// Its history ends before it meets the main branch.
#[test]
fn a_shallow_clone_of_a_branch_is_told() {
    let world = World::new();
    world.git(&["checkout", "-qb", "topic"]);
    for name in ["one", "two", "three"] {
        world.write("notes", name);
        world.commit(name);
    }
    world.git(&["checkout", "-q", "main"]);
    let from = format!("file://{}", world.path("repository").display());
    world.git(&[
        "clone",
        "-q",
        "--depth",
        "2",
        "--no-single-branch",
        "--branch",
        "topic",
        &from,
        "../shallow",
    ]);
    let outcome = world.run(|request| request.path = world.path("shallow")).unwrap();
    assert!(outcome.base.is_some());
    let [warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
    assert!(warning.contains("does not hold where the head left the main branch, so HEAD~1 is"), "{warning}");
}

#[test]
fn what_a_base_without_a_configuration_that_is_taken_has_wrong_is_told_with_its_place() {
    let world = World::new();
    let config = fs::read_to_string(world.path("repository/.ekaci/config.json")).unwrap();
    world.write(".ekaci/config.json", "{\n  \"jobs\": { \"all\": { \"fiel\": \"default.nix\" } } }");
    world.commit("a mistake");
    world.write(".ekaci/config.json", &config);
    let warning = warning(&world, Head::Worktree);
    assert!(warning.contains("on both sides: .ekaci/config.json:2:"), "{warning}");
    assert!(warning.contains("fiel"), "{warning}");
}

/// What was fetched last, and what was left: references that lie beside `HEAD`.
#[test]
fn what_was_fetched_is_a_head() {
    let world = World::new();
    world.git(&["checkout", "-qb", "theirs"]);
    world.bump_zlib();
    world.commit("a pull request");
    let from = format!("file://{}", world.path("repository").display());
    world.git(&["clone", "-q", "--single-branch", "--branch", "main", &from, "../mine"]);
    let mine = world.path("mine");
    let run = |head: &str, base: &str| {
        let (head, base) = (Head::Revision(head.into()), Base::Revision(base.into()));
        world.run(|request| (request.path, request.head, request.base) = (mine.clone(), head, base))
    };
    let error = run("FETCH_HEAD", "origin/main").unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("FETCH_HEAD"), "{error}");
    world.git(&["-C", "../mine", "fetch", "-q", "origin", "main", "theirs"]);
    let outcome = run("FETCH_HEAD", "origin/main").unwrap();
    assert!(outcome.comparison.changes.is_empty(), "the first of what was fetched counts");
    world.git(&["-C", "../mine", "fetch", "-q", "origin", "theirs"]);
    let outcome = run("FETCH_HEAD", "origin/main").unwrap();
    assert_zlib_is_why(&outcome);
    world.git(&["-C", "../mine", "reset", "-q", "--hard", "FETCH_HEAD"]);
    assert_zlib_is_why(&run("HEAD", "ORIG_HEAD").unwrap());
    // What is no commit's name is none, and no reason not to look at others.
    fs::write(mine.join(".git/FETCH_HEAD"), "ref: refs/heads/main\n").unwrap();
    assert!(run("FETCH_HEAD", "main").unwrap_err().is_usage());
    run("main", "main").unwrap();
}

/// A job whose code is as new as it is did not fail before.
#[test]
fn what_the_first_configuration_brings_is_new() {
    let bad = PACKAGES.replace("  alone =", "  bad = throw \"no\";\n  alone =");
    let world = World::new();
    world.git(&["rm", "-rqf", ".ekaci", "default.nix"]);
    world.write("notes", "nothing to build");
    world.commit("before there was anything");
    for file in ["ci.nix", "nix/default.nix"] {
        world.git(&["clean", "-qfdx"]);
        let named = file.trim_end_matches("/default.nix");
        world.write(".ekaci/config.json", &CONFIG.replace("default.nix", named));
        world.write(file, &bad);
        let outcome = world.run(|_| {}).unwrap();
        assert_eq!(outcome.verdict, Verdict::Bad, "{file}: {:?}", outcome.reasons);
        assert_eq!(
            (outcome.comparison.errors.new.len(), outcome.comparison.totals().added),
            (1, 4),
            "{file}"
        );
        world.write(file, PACKAGES);
        let outcome = world.run(|_| {}).unwrap();
        assert_eq!(outcome.verdict, Verdict::Good, "{file}: {:?}", outcome.reasons);
        assert_eq!(outcome.comparison.totals().added, 4, "{file}");
    }
    // Without a configuration it is the same.
    world.git(&["clean", "-qfdx"]);
    world.write("default.nix", &bad);
    assert_eq!(world.run(|_| {}).unwrap().verdict, Verdict::Bad);
}

/// Without a configuration this machine's system is what counts, unless another is asked for.
#[test]
fn a_system_that_is_asked_for_counts_without_a_configuration() {
    let world = World::new();
    world.git(&["rm", "-rqf", ".ekaci", "default.nix"]);
    let of = |system: &str| {
        format!("{system}.a = derivation {{ name = \"a\"; system = \"{system}\"; builder = \"/bin/sh\"; }};")
    };
    let flake =
        format!("{{ outputs = _: {{ packages = {{ {} {} }}; }}; }}", of("x86_64-linux"), of("aarch64-linux"));
    world.write("flake.nix", &flake);
    world.commit("a flake");
    for (asked, expected) in [(vec![], "x86_64-linux"), (vec!["aarch64-linux"], "aarch64-linux")] {
        let outcome = world
            .run(|request| {
                request.base = Base::Nothing;
                request.systems = asked.iter().map(|system| system.parse().unwrap()).collect();
            })
            .unwrap();
        let systems: Vec<&str> =
            outcome.jobs.iter().flat_map(|job| &job.systems).map(|system| system.as_str()).collect();
        assert_eq!(systems, [expected], "{:?}", outcome.comparison.errors);
    }
}
