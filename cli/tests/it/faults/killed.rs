//! The end of the program at any of its writes, as by `kill -9`: whatever it had written, the next run answers as one that
//! nothing happened to, and leaves what that one leaves.
//!
//! `strace` counts the calls that change files, thread by thread, and kills at the one that is asked for; programs that
//! `ekaci` starts are let go, so they are ended, or not, as they are without it. `EKA_CHAOS_FACTOR` has it tried at
//! so many times more points.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use test_kit::proc::Guard;
use test_kit::seed;

use super::world::{SOON, World};

/// Calls that change what is on disk. Those that a machine does not have are passed over.
const CALLS: [&str; 21] = [
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "ftruncate",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "symlink",
    "symlinkat",
    "flock",
    "utimensat",
    "openat",
];
/// Points at which it is killed, of some hundreds.
const POINTS: usize = 10;
/// So many times as many may be tried. Which thread makes a call differs from run to run, and on what a first one left
/// there is less to do: a run may come to its end before it comes to the point.
const TRIES_MAX: usize = 20;

/// As many times as `make chaos` asks for.
fn points() -> usize {
    let factor = std::env::var("EKA_CHAOS_FACTOR");
    POINTS * factor.map_or(1, |text| text.parse::<usize>().expect("EKA_CHAOS_FACTOR is a whole number"))
}

/// A call and how often a thread makes it in a calm run, for each call.
fn counted(world: &World) -> Vec<(&'static str, usize)> {
    let log = world.stage.path("calls");
    let trace = format!("trace={}", CALLS.map(|call| format!("?{call}")).join(","));
    let log_name = log.display().to_string();
    let said = world.stage.run(world.run(&strace(&["-o", &log_name, "-e", &trace])));
    assert_eq!(said.code, super::world::BAD, "{said:?}");
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        if let Some(call) = CALLS.iter().find(|call| **call == name) {
            *counts.entry((thread.to_owned(), call)).or_default() += 1;
        }
    }
    let most = |call: &str| counts.iter().filter(|((_, of), _)| *of == call).map(|(_, count)| *count).max();
    CALLS.iter().filter_map(|call| Some((*call, most(call)?))).collect()
}

/// strace, which follows threads and lets go of other programs.
fn strace<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["strace", "-f", "--seccomp-bpf", "--detach-on=execve", "-qqq"]
        .into_iter()
        .chain(more.iter().copied())
        .collect()
}

/// A run that ends at the n-th time that a thread makes a call. Did it come so far?
fn killed_at(world: &World, call: &str, time: usize) -> bool {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={time}"));
    let mut run = world.run(&strace(&["-o", "/dev/null", "-e", &trace, "-e", &inject]));
    run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let end = Guard::spawn(&mut run).unwrap().wait(SOON);
    world.assert_still();
    end.code() != Some(super::world::BAD)
}

#[test]
fn killed_at_any_write() {
    let path = std::env::var_os("PATH").unwrap();
    if !std::env::split_paths(&path).any(|folder| folder.join("strace").exists()) {
        println!("SKIPPED: strace is not installed, which kills at a write");
        return;
    }
    let world = World::new();
    let calm = world.report();
    calm.assert_no_warnings();
    let left = world.checkouts();
    world.forget();
    let counts = counted(&world);
    let all: usize = counts.iter().map(|(_, count)| count).sum();
    assert!(all > 200, "{counts:?}");

    let mut seeded = seed::start();
    let (mut kills, mut tries) = (0, 0);
    while kills < points() {
        assert!(tries < TRIES_MAX * points(), "killed {kills} times in {tries} tries, of {counts:?}");
        world.forget();
        // Twice in a row: the second finds what the first left.
        let mut tried = Vec::new();
        for _ in 0..2 {
            let (call, most) = seeded.rng.pick(&counts);
            let time = 1 + seeded.rng.index(*most);
            let was_killed = killed_at(&world, call, time);
            kills += usize::from(was_killed);
            tries += 1;
            tried.push((*call, time, was_killed));
        }
        assert_eq!(world.report(), calm, "after {tried:?}");
        assert_eq!(world.checkouts(), left, "after {tried:?}");
        world.assert_still();
        world.assert_sound();
    }
    println!("killed {kills} times in {tries} tries, of {counts:?}");
}
