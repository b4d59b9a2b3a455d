//! `pause`, `resume`, `retry`, `drop`, `drain`: an operator's hands on the queue.

use std::fs;

use test_kit::wait;

use crate::world::{SOON, World, lines};

/// A destination whose program fails while `$W/broken` is there.
fn mendable(id: &str, exit: u8, keys: &str) -> String {
    World::command_cache(id, &format!("test ! -e $W/broken || exit {exit}"), keys)
}

#[test]
fn a_paused_destination_starts_nothing_until_it_is_resumed_even_over_a_restart() {
    let caches = ["a", "b"].map(|id| World::command_cache(id, "", "")).concat();
    let mut world = World::new(&caches);
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["pause", "a"]).out, "1 destination(s) paused\n");
    assert_eq!(world.hook(&paths[0], "").err, "");
    world.until("b", "done", 1);
    assert_eq!(world.count("a", "queued"), 1);
    assert_eq!(world.stop(), 0);
    world.start();
    assert_eq!(world.hook(&paths[1], "").err, "");
    world.until("b", "done", 2);
    assert_eq!(world.count("a", "queued"), 2);
    assert_eq!(world.status()["destinations"]["a"]["paused"], true);
    assert!(lines(&world.path("a.log")).is_empty());
    assert_eq!(world.ask(&["resume", "a"]).out, "1 destination(s) go on\n");
    world.until("a", "done", 2);
    assert_eq!(world.ask(&["pause"]).out, "2 destination(s) paused\n");
    assert_eq!(world.ask(&["--json", "resume"]).out, "{\"count\":2,\"refused\":0}\n");
    for command in ["pause", "resume"] {
        let said = world.ask(&[command, "typo"]);
        let sentence =
            "eka-queue: there is no destination `typo`; `eka-queue status` shows those there are\n";
        assert_eq!((said.code, said.err.as_str()), (3, sentence));
    }
}

#[test]
fn dead_ones_are_tried_again_by_path_by_tag_by_destination_or_all() {
    let caches = [mendable("a", 65, ""), mendable("b", 65, "")].concat();
    let mut world = World::new(&caches);
    let paths = world.valid_paths(4);
    fs::write(world.path("broken"), "").unwrap();
    world.start();
    for (path, tag) in paths.iter().zip(["x", "x", "y", "z"]) {
        assert_eq!(world.ask(&["push", path, "--tag", tag]).code, 0);
    }
    world.until("a", "dead", 4);
    world.until("b", "dead", 4);
    fs::remove_file(world.path("broken")).unwrap();
    let retry = |flags: &[&str]| world.ask(&[&["retry"], flags].concat()).out;
    assert_eq!(retry(&[&paths[0], "--destination", "a"]), "1 to be tried again\n");
    world.until("a", "done", 1);
    assert_eq!(retry(&["--tag", "y"]), "2 to be tried again\n");
    world.until("b", "done", 1);
    assert_eq!(retry(&["--state", "dead", "--destination", "b"]), "3 to be tried again\n");
    world.until("b", "done", 4);
    assert_eq!(retry(&["--all"]), "2 to be tried again\n");
    world.until("a", "done", 4);
    assert!(world.list(&[]).iter().all(|row| row["attempts"] == 0 && row["last_error"].is_null()));
    // There is nothing left; to say so is the answer to --all and an error for everything else.
    let said = world.ask(&["retry", "--all"]);
    assert_eq!((said.code, said.out.as_str()), (0, "0 to be tried again\n"));
    let said = world.ask(&["retry", &paths[0]]);
    assert_eq!((said.code, said.out.as_str()), (3, "0 to be tried again\n"));
    assert!(said.err.contains("nothing that was selected is waiting, dead or vanished"), "{said:?}");
    // A name that is wrong is no empty answer.
    for command in [&["retry"][..], &["drop"], &["list"], &["wait", "--all"]] {
        let said = world.ask(&[command, &["--destination", "nope"]].concat());
        assert_eq!(said.code, 3, "{command:?}: {said:?}");
        assert!(said.err.contains("there is no destination `nope`"), "{command:?}: {said:?}");
    }
}

/// Whoever reads what is printed may have had enough.
#[test]
fn a_closed_output_is_no_fault_of_the_daemon() {
    let mut world = World::new(&World::command_cache("a", "true", ""));
    let paths = world.valid_paths(40);
    world.start();
    assert_eq!(world.hook(&paths.join(" "), "").code, 0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = world.tool(crate::world::queue_program());
    command.args(["list", "--config-file"]).arg(world.config_file());
    let said = command.stdout(writer).output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn a_retry_does_not_wait_for_the_back_off() {
    let mut world = World::new(&mendable("a", 1, "backoff = { min = \"1h\", max = \"1h\" }"));
    let path = world.valid_paths(1).remove(0);
    fs::write(world.path("broken"), "").unwrap();
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    world.until("a", "waiting", 1);
    fs::remove_file(world.path("broken")).unwrap();
    assert_eq!(world.ask(&["retry", &path]).code, 0);
    world.until("a", "done", 1);
}

#[test]
fn what_is_dropped_is_forgotten_and_free_for_the_garbage_collector() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    for (path, tag) in paths.iter().zip(["x", "y", "y"]) {
        assert_eq!(world.ask(&["push", path, "--tag", tag]).code, 0);
    }
    assert_eq!(world.ask(&["drop", "--tag", "y"]).out, "2 dropped\n");
    assert_eq!(world.list(&[]).len(), 1);
    wait::until(SOON, || world.status()["gc_roots"] == 1);
    assert!(world.tool("nix-store").arg("--gc").output().unwrap().status.success());
    assert_eq!(paths.iter().map(|path| fs::exists(path).unwrap()).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(world.ask(&["drop", &paths[1]]).code, 3, "there is no such delivery any more");
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("a", "done", 1);
    assert_eq!(lines(&world.path("a.log")).len(), 1);
}

#[test]
fn what_an_attempt_holds_is_not_dropped() {
    let wait_for_it = "while test ! -e $W/go; do read -t 0.01 x < $W/never; done";
    let mut world = World::new(&World::command_cache("a", wait_for_it, "").replace("/bin/sh", "/bin/bash"));
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    // Somebody must hold the other end, or the opening waits.
    let _writer = fs::OpenOptions::new().read(true).write(true).open(world.path("never")).unwrap();
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || lines(&world.path("a.log")).len() == 1);
    let said = world.ask(&["drop", "--all"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "0 dropped\n", ""));
    let said = world.ask(&["drop", &path]);
    assert_eq!((said.code, said.out.as_str()), (3, "0 dropped\n"));
    assert!(said.err.contains("nothing was selected that no attempt holds"), "{said:?}");
    fs::write(world.path("go"), "").unwrap();
    world.until("a", "done", 1);
}

#[test]
fn a_drained_daemon_has_finished_and_ends_and_hooks_wait_in_the_spool() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(3);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.hook(&paths[0], "").err, "");

    let said = world.ask(&["drain", "--timeout", "50ms"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert_eq!(said.out, "0 delivered, 1 still owed when the time was over\n");
    assert_eq!(world.hook(&paths[1], "").err, "");
    assert_eq!(world.count("a", "queued"), 2, "not drained: the intake is open again");

    let drained = std::thread::scope(|scope| {
        let drain = scope.spawn(|| world.ask(&["drain"]));
        wait::until(SOON, || world.status()["draining"] == true);
        let said = world.hook(&paths[2], "");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert_eq!(world.status()["spool_files"], 1);
        let said = world.ask(&["push", &paths[2]]);
        assert_eq!(said.code, 69, "{said:?}");
        assert!(said.err.contains("the daemon is draining or stopping"), "{said:?}");
        assert_eq!(world.ask(&["resume"]).code, 0);
        drain.join().unwrap()
    });
    assert_eq!((drained.code, drained.out.as_str()), (0, "2 delivered\n"), "{drained:?}");
    assert_eq!(world.daemon_end(), 0);
    assert!(!world.path("enqueue.sock").exists(), "nobody is there any more");
    world.start();
    world.until("a", "done", 3);
}
