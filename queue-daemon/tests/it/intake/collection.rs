//! Paths, and the garbage collector that wants them.

use std::path::Path;
use std::process::Stdio;

use hook_wire::{Source, Status};
use test_kit::proc::Guard;
use test_kit::wait;

use crate::frames::Frame;
use crate::world::{SOON, World, tool};

/// Enough that a collection lasts while a few requests are made.
const GARBAGE: usize = 1_500;

/// A world of garbage whose daemon is paused, and a collection that has begun to delete.
fn collecting() -> (World, Vec<String>, Guard) {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(GARBAGE);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    let mut collect = world.tool("nix-store");
    let collect = collect.arg("--gc").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let collector = Guard::spawn(collect).unwrap();
    wait::until(SOON, || paths.iter().any(|path| !exists(path)));
    (world, paths, collector)
}

fn exists(path: &str) -> bool {
    Path::new(path).symlink_metadata().is_ok()
}

fn signal(name: &str, process: &Guard) {
    assert!(tool("kill").arg(format!("-{name}")).arg(process.pid().to_string()).status().unwrap().success());
}

/// The collector read the roots before these requests came. It is stopped between them, so that it lasts.
#[test]
fn what_is_acknowledged_during_a_collection_outlives_it() {
    let (world, paths, mut collector) = collecting();
    let mut kept = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..12 {
        signal("STOP", &collector);
        let left: Vec<&String> = paths.iter().filter(|path| exists(path) && !kept.contains(path)).collect();
        let Some(path) = left.last().copied() else {
            signal("CONT", &collector);
            break;
        };
        rounds.push(left.len());
        let answer = std::thread::scope(|scope| {
            let answer = scope.spawn(|| Frame::enqueue(Source::Hook).path(path).send(&world));
            signal("CONT", &collector);
            answer.join().unwrap()
        });
        match answer.status {
            Status::Queued => kept.push(path),
            // It was deleted just now, or the collector was too slow to say that it heard.
            Status::Refused | Status::Busy => {}
            Status::Partly => panic!("{answer:?}"),
        }
    }
    assert!(collector.wait(SOON).success());
    let left = paths.iter().filter(|path| exists(path)).count();
    println!("{} acknowledged of {rounds:?} left at the time, {left} left at the end", kept.len());
    assert!(kept.len() > 2 && left < rounds[2], "the collection was over too soon");
    assert!(kept.iter().all(|path| exists(path)), "acknowledged and deleted");
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", kept.len() as u64);
}

/// One that cannot be told what to keep may delete it: nothing is acknowledged, and the hook's spool keeps the request.
#[test]
fn while_a_collection_does_not_listen_nothing_is_acknowledged() {
    let (world, paths, mut collector) = collecting();
    signal("STOP", &collector);
    let path = paths.iter().rev().find(|path| exists(path)).expect("it has only begun");
    let answer = Frame::enqueue(Source::Hook).path(path).send(&world);
    assert_eq!(answer.status, Status::Busy, "{answer:?}");
    assert!(answer.text.contains("garbage collection under way"), "{answer:?}");
    let said = world.hook(path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!((world.list(&[]).len(), &world.status()["spool_files"]), (0, &1.into()));
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    signal("CONT", &collector);
    assert!(collector.wait(SOON).success());
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let state = if exists(path) { "queued" } else { "gone" };
    assert_eq!(world.list(&[path])[0]["state"], state);
}

/// A root stops the collector, but not somebody who means it.
#[test]
fn a_path_that_is_deleted_by_force_is_gone_and_the_others_arrive() {
    let mut world = World::new(
        "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"file://$W/cache\"\n",
    );
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    let delete = |flags: &[&str]| world.tool("nix-store").arg("--delete").args(flags).arg(&paths[0]).output();
    assert!(!delete(&[]).unwrap().status.success(), "it has a root");
    let deleted = delete(&["--ignore-liveness"]).unwrap();
    assert!(deleted.status.success() && !exists(&paths[0]), "{deleted:?}");
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "gone", 1);
    world.until("main", "done", 1);
    assert_eq!(world.list(&[&paths[0]])[0]["state"], "gone");
    assert_eq!(world.list(&[&paths[1]])[0]["state"], "done");
    assert!(world.path(&format!("cache/{}.narinfo", &paths[1].rsplit('/').next().unwrap()[..32])).exists());
    assert_eq!(world.ask(&["wait", "--all"]).code, 1);
    wait::until(SOON, || world.status()["gc_roots"] == 0);
}
