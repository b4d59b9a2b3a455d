//! What is finished is remembered for a while and then forgotten.

use test_kit::wait;

use crate::world::{SOON, World};

const REFUSE_P1: &str = "case $OUT_PATHS in *-p1*) exit 65;; esac";

/// One delivered path and one dead one, in a daemon that keeps both.
fn stage() -> (World, Vec<String>) {
    let mut world = World::new(&World::command_cache("main", REFUSE_P1, ""));
    let mut paths = world.valid_paths(2);
    paths.sort_by_key(|path| path[path.len() - 2..].to_owned());
    world.start();
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    world.until("main", "done", 1);
    world.until("main", "dead", 1);
    // A dead letter keeps its path: it may be retried.
    wait::until(SOON, || world.status()["gc_roots"] == 1);
    assert_eq!(world.stop(), 0);
    (world, paths)
}

#[test]
fn delivered_ones_are_forgotten_after_keep_done_and_may_be_queued_again() {
    let (mut world, paths) = stage();
    world.configure("keep_done = \"1ms\"", &World::command_cache("main", REFUSE_P1, ""));
    world.start();
    wait::until(SOON, || world.list(&[]).len() == 1);
    assert_eq!(world.list(&[])[0]["path"], paths[1].as_str());
    assert_eq!(world.ask(&["show", &paths[0]]).code, 3);
    assert_eq!(world.hook(&paths[0], "").err, "");
    world.until("main", "done", 1);
}

#[test]
fn dead_letters_are_forgotten_after_keep_dead_and_their_paths_are_free() {
    let (mut world, paths) = stage();
    world.configure("keep_dead = \"1ms\"", &World::command_cache("main", REFUSE_P1, ""));
    world.start();
    wait::until(SOON, || world.list(&[]).len() == 1);
    assert_eq!(world.list(&[])[0]["path"], paths[0].as_str());
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    let deleted = world.tool("nix-store").args(["--delete", &paths[1]]).output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
}

#[test]
fn what_is_still_owed_is_never_forgotten() {
    let (mut world, _) = stage();
    let more = world.valid_paths(1).remove(0);
    world.configure("keep_done = \"1ms\"\nkeep_dead = \"1ms\"", &World::command_cache("main", REFUSE_P1, ""));
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.hook(&more, "").err, "");
    assert_eq!(world.stop(), 0);
    world.start();
    wait::until(SOON, || world.list(&[]).len() == 1);
    assert_eq!(world.count("main", "queued"), 1);
}
