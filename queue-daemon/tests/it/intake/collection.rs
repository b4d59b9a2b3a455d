//! Paths, and the garbage collector that wants them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};

use hook_wire::{Source, Status};
use test_kit::proc::Guard;
use test_kit::wait;

use crate::frames::Frame;
use crate::world::{FOLDER_CACHE, SOON, World, tool};

/// More than a collector can announce before it waits for its reader (the pipe and the reader hold 72 KiB, an
/// announcement has more than 70 bytes), and what a test lets it go on with besides.
const GARBAGE: usize = 1_500;
/// Requests that are acknowledged while it lasts.
const ROUNDS: usize = 6;
/// Deletions that each of them lets it go on with.
const STEP: usize = 32;

/// A collection that has read the roots and begun to delete. It says each path that it deletes, before it does; what
/// it says is read here, and only on demand: it comes to no end that the test has not asked for.
struct Collection {
    process: Guard,
    said: Receiver<String>,
}

impl Collection {
    fn begin(world: &World) -> Collection {
        let mut collect = world.tool("nix-store");
        collect.arg("--gc").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Guard::spawn(&mut collect).unwrap();
        let lines = BufReader::new(process.child().stderr.take().unwrap()).lines();
        let (tell, said) = mpsc::sync_channel(0);
        // Ends with the collector, or with whoever listens.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let collection = Collection { process, said };
        collection.go_on(1);
        collection
    }

    /// Lets it delete so many more.
    fn go_on(&self, count: usize) {
        let mut deleted = 0;
        while deleted < count {
            let line =
                self.said.recv_timeout(SOON).expect("it says what it deletes, and has not come to its end");
            deleted += usize::from(line.starts_with("deleting '/"));
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.pid().to_string();
        assert!(tool("kill").arg(format!("-{name}")).arg(pid).status().unwrap().success());
    }

    /// Lets it delete all that is left.
    fn end(mut self) {
        while self.said.recv_timeout(SOON).is_ok() {}
        assert!(self.process.wait(SOON).success());
    }
}

/// A world of garbage whose daemon is paused.
fn world_of_garbage() -> (World, Vec<String>) {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(GARBAGE);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    (world, paths)
}

fn exists(path: &str) -> bool {
    Path::new(path).symlink_metadata().is_ok()
}

/// Asks for one of the paths that are left, which is kept when it is acknowledged.
fn ask<'p>(world: &World, paths: &'p [String], kept: &mut Vec<&'p String>) {
    let path = paths.iter().rfind(|path| exists(path) && !kept.contains(path)).expect("it waits for us");
    let answer = Frame::enqueue(Source::Hook).path(path).send(world);
    match answer.status {
        Status::Queued => kept.push(path),
        // It was deleted just now, or the collector was too slow to say that it heard.
        Status::Refused | Status::Busy => {}
        Status::Partly => panic!("{answer:?}"),
    }
}

/// The collector read the roots before these requests came, and goes on while they are answered.
#[test]
fn what_is_acknowledged_during_a_collection_outlives_it() {
    let (world, paths) = world_of_garbage();
    let collection = Collection::begin(&world);
    let mut kept: Vec<&String> = Vec::new();
    for round in 1..=ROUNDS {
        std::thread::scope(|scope| {
            scope.spawn(|| ask(&world, &paths, &mut kept));
            collection.go_on(STEP);
        });
        wait::until(SOON, || {
            if kept.len() < round {
                ask(&world, &paths, &mut kept);
            }
            kept.len() == round
        });
    }
    let left = || paths.iter().filter(|path| exists(path)).count();
    let before = left();
    collection.end();
    assert!(left() < before, "{before} were left before, {} after", left());
    assert!(kept.iter().all(|path| exists(path)), "acknowledged and deleted");
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", ROUNDS as u64);
}

/// One that cannot be told what to keep may delete it: nothing is acknowledged, and the hook's spool keeps the request.
#[test]
fn while_a_collection_does_not_listen_nothing_is_acknowledged() {
    let (world, paths) = world_of_garbage();
    let collection = Collection::begin(&world);
    collection.signal("STOP");
    let path = paths.iter().rev().find(|path| exists(path)).expect("it has only begun");
    let answer = Frame::enqueue(Source::Hook).path(path).send(&world);
    assert_eq!(answer.status, Status::Busy, "{answer:?}");
    assert!(answer.text.contains("garbage collection under way"), "{answer:?}");
    let said = world.hook(path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!((world.list(&[]).len(), &world.status()["spool_files"]), (0, &1.into()));
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    collection.signal("CONT");
    collection.end();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let state = if exists(path) { "queued" } else { "gone" };
    assert_eq!(world.list(&[path])[0]["state"], state);
}

/// A root stops the collector, but not somebody who means it.
#[test]
fn a_path_that_is_deleted_by_force_is_gone_and_the_others_arrive() {
    let mut world = World::new(FOLDER_CACHE);
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
