//! `push`: what the hook never fired for.

use std::fs;

use service_kit::clock::{Clock, Time};
use test_kit::wait;

use crate::world::{SOON, World, lines};

/// `app` needs `lib`, both built here without a hook; gives their paths.
fn built(world: &World) -> [String; 2] {
    let said = world.build_with_hook(
        r#"rec {
          lib = run "lib" { } "echo lib > $out";
          app = run "app" { } "echo ${lib} > $out";
        }"#,
        &world.path("no-hook.sh"),
        "#!/bin/sh\n",
    );
    assert_eq!(said.code, 0, "{said:?}");
    let path = |name| said.out.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
    [path("-lib"), path("-app")]
}

fn sorted<'a>(paths: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut paths: Vec<String> = paths.into_iter().cloned().collect();
    paths.sort();
    paths
}

fn listed(world: &World, flags: &[&str]) -> Vec<String> {
    let mut paths: Vec<String> =
        world.list(flags).iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect();
    paths.sort();
    paths
}

#[test]
fn paths_by_name_and_from_standard_input() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(4);
    world.start();
    let input = format!("{}\n  {}\t{}\n", paths[1], paths[2], paths[3]);
    let said = world.ask_with_input(&["push", &paths[0], "-", "--tag", "by hand"], input.as_bytes());
    assert_eq!((said.code, said.out.as_str()), (0, "queued 4, refused 0\n"), "{said:?}");
    assert_eq!(world.ask(&["wait", "--tag", "by hand", "--timeout", "30s"]).code, 0);
    assert_eq!(listed(&world, &["--state", "done"]), sorted(&paths));
    // Again: the receipts count, nothing is run twice.
    let said = world.ask(
        &[&["push", "--json"], paths.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat(),
    );
    assert_eq!((said.code, said.out.as_str()), (0, "{\"count\":4,\"refused\":0}\n"));
    let run: usize =
        lines(&world.path("main.log")).iter().map(|line| line.matches("/nix/store/").count()).sum();
    assert_eq!(run, 4);
}

/// One bad word costs the others nothing, and the exit code says that there was one.
#[test]
fn words_that_are_no_paths_are_refused_and_the_rest_is_queued() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let good = world.valid_paths(1).remove(0);
    world.start();
    let absent = format!("{good}-absent");
    let said = world.ask(&[
        "push",
        "--",
        "-rf",
        "hello",
        &absent,
        "/nix/store/11111111111111111111111111111111-x",
        &good,
    ]);
    assert_eq!((said.code, said.out.as_str()), (1, "queued 1, refused 4\n"), "{said:?}");
    assert!(said.err.contains("eka-queue: `-rf` is not a store path: "), "{said:?}");
    assert!(said.err.contains(&format!("{absent} is not valid in the Nix database")), "{said:?}");
    assert!(said.err.contains("is not in this machine's store"), "{said:?}");
    world.until("main", "done", 1);
}

#[test]
fn a_closure_is_queued_path_by_path() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let [lib, app] = built(&world);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.ask(&["push", &app]).out, "queued 1, refused 0\n");
    assert_eq!(listed(&world, &[]), sorted([&app]));
    assert_eq!(world.ask(&["push", "--closure", &app]).out, "queued 2, refused 0\n");
    assert_eq!(listed(&world, &[]), sorted([&lib, &app]));
}

/// One that is not there costs the closures of the others nothing.
#[test]
fn closures_of_what_is_not_valid_are_refused_and_the_others_queued() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let [lib, app] = built(&world);
    world.start();
    let absent = format!("{app}-absent");
    let said = world.ask(&[
        "push",
        "--closure",
        &absent,
        &app,
        "/nix/store/11111111111111111111111111111111-x",
        "hello",
    ]);
    assert_eq!((said.code, said.out.as_str()), (1, "queued 2, refused 3\n"), "{said:?}");
    assert!(said.err.contains(&format!("{absent} is not valid in the store")), "{said:?}");
    assert!(said.err.contains("-x does not lie in this store"), "{said:?}");
    world.until("main", "done", 2);
    assert_eq!(listed(&world, &[]), sorted([&lib, &app]));
    let said = world.ask(&["push", "--closure", &absent]);
    assert_eq!((said.code, said.out.as_str()), (1, "queued 0, refused 1\n"), "{said:?}");
}

#[test]
fn all_valid_paths_or_only_those_built_here_or_only_the_new_ones() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let added = world.valid_paths(2);
    let clock = Clock::system();
    let second = clock.now().as_ms() / 1_000;
    // Nix notes whole seconds.
    wait::until(SOON, || clock.now().as_ms() / 1_000 > second);
    let since = Time::from_ms((second + 1) * 1_000);
    let built = built(&world);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    let push = |flags: &[&str]| {
        let said = world.ask(&[&["push", "--all-valid"], flags].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let queued = listed(&world, &[]);
        assert_eq!(world.ask(&["drop", "--all"]).code, 0);
        queued
    };
    assert_eq!(push(&["--ultimate"]), sorted(&built), "what was copied in was not built here");
    for spelled in [format!("@{}", since.as_ms() / 1_000), since.to_string()] {
        let new = push(&["--since", &spelled]);
        assert!(built.iter().all(|path| new.contains(path)), "{new:?}");
        assert!(!added.iter().any(|path| new.contains(path)), "{new:?}");
    }
    let all = push(&["--since", "1h"]);
    assert!(added.iter().chain(&built).all(|path| all.contains(path)), "{all:?}");
    assert_eq!(push(&[]), all);
    assert!(!all.iter().any(|path| path.ends_with(".drv")), "derivation files are no outputs: {all:?}");
    let said = world.ask(&["push", "--all-valid", "--since", "soon"]);
    assert_eq!(said.code, 64, "{said:?}");
    assert!(said.err.contains("--since"), "{said:?}");
}

/// After the loss of the database and the spool, the store itself still knows what was built here.
#[test]
fn what_the_queue_never_saw_is_found_again() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let built = built(&world);
    world.start();
    assert_eq!(world.ask(&["push", "--all-valid", "--ultimate"]).code, 0);
    world.until("main", "done", 2);
    world.kill();
    fs::remove_dir_all(world.path("state")).unwrap();
    world.start();
    assert_eq!(world.list(&[]).len(), 0);
    assert_eq!(world.ask(&["push", "--all-valid", "--ultimate", "--tag", "again"]).code, 0);
    assert_eq!(world.ask(&["wait", "--tag", "again", "--timeout", "30s"]).code, 0);
    assert_eq!(listed(&world, &["--state", "done"]), sorted(&built));
}

#[test]
fn a_push_goes_where_it_is_told_and_the_higher_priority_first() {
    let caches = ["a", "b"].map(|id| World::command_cache(id, "", "concurrency = 1")).concat();
    let mut world = World::with_queue("default_destinations = [ \"a\" ]", &caches);
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    for (path, priority) in paths.iter().zip(["0", "7", "-7"]) {
        assert_eq!(world.ask(&["push", "--to", "b", path, "--priority", priority]).code, 0);
    }
    assert_eq!(world.ask(&["push", &paths[0]]).code, 0);
    assert_eq!((world.count("a", "queued"), world.count("b", "queued")), (1, 3));
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("b", "done", 3);
    let order = lines(&world.path("b.log")).join(" ");
    let at = |path: &str| order.find(path).unwrap();
    assert!(at(&paths[1]) < at(&paths[0]) && at(&paths[0]) < at(&paths[2]), "{order}");

    let said = world.ask(&["push", "--to", "c", &paths[0]]);
    assert_eq!((said.code, said.out.as_str()), (1, "queued 0, refused 1\n"));
    assert!(said.err.contains("destination `c` is not configured; configured: a, b"), "{said:?}");
    let said = world.ask(&["push", "--to", "no/id", &paths[0]]);
    assert_eq!(said.code, 64, "{said:?}");
    let said = world.ask(&["push", "--tag", "two\nlines", &paths[0]]);
    assert_eq!(said.code, 64, "{said:?}");
}
