//! `wait`: the verdict over what was asked for.

use std::fs;
use std::os::unix::net::UnixListener;

use super::patience::{begin, end};
use crate::world::{World, run};

/// `p0` is delivered, `p1` refused for good, `p2` held by a paused destination.
fn stage() -> (World, Vec<String>) {
    let refuse = World::command_cache("main", "case $OUT_PATHS in *-p1*) exit 65;; esac", "");
    let mut world = World::new(&[refuse, World::command_cache("held", "", "")].concat());
    let mut paths = world.valid_paths(3);
    paths.sort_by_key(|path| path[path.len() - 2..].to_owned());
    world.start();
    assert_eq!(world.ask(&["pause", "held"]).code, 0);
    for (path, to) in paths.iter().zip(["main", "main", "held"]) {
        assert_eq!(world.ask(&["push", path, "--to", to, "--tag", to]).code, 0);
    }
    world.until("main", "dead", 1);
    world.until("main", "done", 1);
    (world, paths)
}

#[test]
fn the_verdict_is_about_what_was_named() {
    let (world, paths) = stage();
    // What is owed is owed when the time is over; for anything else nobody waits so long.
    let wait = |flags: &[&str]| {
        let said = world.ask(&[&["wait", "--timeout", "2s"], flags].concat());
        assert_eq!(said.err, "");
        (said.code, said.out)
    };
    let is = |code, text: &str| (code, format!("{text}\n"));
    assert_eq!(wait(&[&paths[0]]), is(0, "1 delivered"));
    assert_eq!(wait(&[&paths[1]]), is(1, "0 delivered, 1 dead"));
    assert_eq!(wait(&[&paths[0], &paths[1]]), is(1, "1 delivered, 1 dead"));
    assert_eq!(wait(&[&paths[2]]), is(2, "0 delivered, 1 still owed when the time was over"));
    assert_eq!(wait(&["--tag", "main"]), is(1, "1 delivered, 1 dead"));
    assert_eq!(wait(&["--tag", "held"]), is(2, "0 delivered, 1 still owed when the time was over"));
    assert_eq!(wait(&["--all"]), is(2, "1 delivered, 1 dead, 1 still owed when the time was over"));
    assert_eq!(wait(&["--all", "--destination", "main"]), is(1, "1 delivered, 1 dead"));
    let (code, json) = wait(&["--all", "--json"]);
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &object["timed_out"], &object["states"]["dead"]), (2, &true.into(), &1.into()));
    assert_eq!(world.ask(&["resume"]).code, 0);
    assert_eq!(world.ask(&["wait", "--tag", "held", "--timeout", "30s"]).code, 0);
}

/// "All delivered" about nothing would be a lie.
#[test]
fn to_wait_for_what_nobody_asked_for_is_3() {
    let (world, paths) = stage();
    let absent = format!("{}x", paths[0]);
    let said = world.ask(&["wait", &absent]);
    assert_eq!(
        (said.code, said.err),
        (3, format!("eka-queue: {absent} was never queued here, or is no longer remembered\n"))
    );
    assert_eq!(world.ask(&["wait", &paths[0], &absent]).code, 3);
    let said = world.ask(&["wait", "--tag", "typo"]);
    assert_eq!((said.code, said.err.as_str()), (3, "eka-queue: no request carries the tag `typo`\n"));
}

#[test]
fn a_vanished_path_is_a_bad_answer() {
    let (mut world, paths) = stage();
    assert_eq!(world.stop(), 0);
    let gone = world.valid_paths(1).remove(0);
    assert_eq!(run(world.hook_command().args(["--tag", "late", &gone]), b"").err, "");
    let deleted = world.tool("nix-store").args(["--delete", &gone]).output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    world.start();
    let said = world.ask(&["wait", "--tag", "late", "--timeout", "30s"]);
    assert_eq!((said.code, said.out.as_str()), (1, "0 delivered, 2 vanished\n"));
    assert!(world.ask(&["wait", &paths[0]]).code == 0);
}

/// What hooks have left in the spool was asked for as much as what they could hand over.
#[test]
fn what_lies_in_the_spool_is_waited_for() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    let spooled = run(world.hook_command().args(["--tag", "early", &path]), b"");
    assert_eq!((spooled.code, spooled.err.as_str()), (0, ""));
    assert_eq!(fs::read_dir(world.path("spool")).unwrap().count(), 1);
    // The waiter is there before the daemon: it has asked whoever held the socket, and asks again.
    let socket = world.path("control.sock");
    let nobody = UnixListener::bind(&socket).unwrap();
    let waiter = begin(&world, &["wait", "--tag", "early"]);
    drop(nobody.accept().unwrap());
    drop(nobody);
    world.start();
    let waited = end(waiter);
    assert_eq!((waited.code, waited.out.as_str()), (0, "1 delivered\n"), "{waited:?}");
}

#[test]
fn a_daemon_that_stays_away_is_69_and_a_time_limit_2() {
    let world = World::new("");
    let said = world.ask(&["wait", "--all", "--reconnect", "300ms"]);
    assert_eq!(said.code, 69, "{said:?}");
    let said = world.ask(&["wait", "--all", "--timeout", "300ms"]);
    assert_eq!((said.code, said.out.as_str()), (2, "the time is over, and no daemon answered\n"));
}
