//! Disks that fill up, under the state, under the spool and under both: builds go on, what went wrong is said, reading
//! goes on, and with space again everything continues by itself. What was acknowledged arrives.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use eka_queue::delivery::StateName;
use hook_wire::{Source, Status};
use service_kit::clock::{Clock, Time};
use test_kit::seed;
use test_kit::tmpfs::Tmpfs;
use test_kit::vfs::{Fault, Shim};
use test_kit::wait;

use crate::chaos::{Diary, assert_sound, factor, pause, registered_paths};
use crate::frames::Frame;
use crate::inside::{Inside, ask};
use crate::world::{SOON, World, run};

/// How soon after there is space again everything must go on.
const RECOVERY: Duration = Duration::from_secs(10);
/// Room for a database and some thousand spool files.
const DISK_BYTES: u64 = 4 << 20;

/// A world in which these folders lie on one small disk of their own; none, with the reason printed, where the test
/// may not mount one.
fn world_on_small_disk(folders: &[&str]) -> Option<(World, Tmpfs)> {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: {reason}");
            return None;
        }
    };
    let world = World::new("");
    world.let_hook_give_up_soon();
    for folder in folders {
        fs::create_dir(disk.path().join(folder)).unwrap();
        symlink(disk.path().join(folder), world.path(folder)).unwrap();
    }
    Some((world, disk))
}

/// Runs `condition` until it holds, and fails if that takes longer than a recovery may.
#[track_caller]
fn recovers(freed: Instant, condition: impl FnMut() -> bool) {
    wait::until(SOON, condition);
    let took = freed.elapsed();
    assert!(took <= RECOVERY, "recovered after {took:?}");
}

#[test]
fn a_full_state_folder_sends_requests_to_the_spool_and_keeps_results() {
    let Some((mut world, disk)) = world_on_small_disk(&["state"]) else { return };
    let body = format!("while [ -e {} ]; do {}; done", world.path("hold").display(), pause(&world, "0.01"));
    let (mut diary, cache) = Diary::of(&world, "main", &body, "");
    world.configure("", &cache);
    let paths = registered_paths(&world, "f", 1_000);
    world.start();
    assert_eq!(world.hook(&paths[0], "").err, "");
    world.until("main", "done", 1);
    fs::write(world.path("hold"), "").unwrap();
    assert_eq!(world.hook(&paths[1], "").err, "");
    wait::until(SOON, || {
        diary.look();
        diary.under_way() == [paths[1].clone()]
    });

    let ballast = disk.fill().unwrap();
    let mut taken = 2;
    while world.status()["spool_files"] == 0 {
        let said = world.hook(&paths[taken], "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "the spool takes it");
        taken += 1;
    }
    assert!(
        world.log().contains("no space left; free some, the writer goes on by itself"),
        "{}",
        world.log()
    );
    assert_eq!(world.list(&["--state", "done"])[0]["path"], paths[0].as_str());
    assert_eq!(world.ask(&["show", &paths[1]]).code, 0);
    // The push ends, and its result cannot be written.
    fs::remove_file(world.path("hold")).unwrap();
    wait::until(SOON, || world.log().contains("results of main cannot be written yet"));

    ballast.remove().unwrap();
    let freed = Instant::now();
    recovers(freed, || world.count("main", "done") == taken as u64 && world.status()["spool_files"] == 0);
    assert_eq!(world.stop(), 0);
    diary.look();
    assert_eq!(diary.delivered.len(), taken);
    let runs = fs::read_to_string(world.path("main.diary")).unwrap();
    assert_eq!(
        runs.matches(&paths[1]).count(),
        2,
        "one begin and one end: the kept result spared a second run"
    );
    assert_sound(&world);
}

#[test]
fn a_full_spool_is_said_and_stops_no_build() {
    let Some((mut world, disk)) = world_on_small_disk(&["spool"]) else { return };
    let (mut diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    let paths = registered_paths(&world, "f", 3);
    let ballast = disk.fill().unwrap();
    // No daemon, no spool.
    let said = world.hook(&paths[0], "");
    assert_eq!(said.code, 0);
    assert_is_one_clear_line(&said.err);
    assert!(said.took <= Duration::from_millis(250), "{:?}", said.took);
    let strict = run(world.hook_command().args(["--strict", &paths[0]]), b"");
    assert_eq!(strict.code, 3, "{strict:?}");
    assert_eq!(fs::read_dir(world.path("spool")).unwrap().count(), 0, "nothing half-written stays");
    // With a daemon nobody needs the spool.
    world.start();
    assert_eq!(world.hook(&paths[1], "").err, "");
    world.until("main", "done", 1);
    world.kill();
    ballast.remove().unwrap();
    assert_eq!(world.hook(&paths[2], "").err, "");
    world.start();
    world.until("main", "done", 2);
    assert_eq!(world.stop(), 0);
    diary.look();
    assert_eq!(diary.delivered.iter().collect::<Vec<_>>(), [&paths[1], &paths[2]]);
    assert_sound(&world);
}

#[track_caller]
fn assert_is_one_clear_line(err: &str) {
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("1 path is not queued") && err.contains("no space left"), "{err}");
}

#[test]
fn with_state_and_spool_full_only_what_was_refused_is_missing() {
    let Some((mut world, disk)) = world_on_small_disk(&["state", "spool"]) else { return };
    let (mut diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    let paths = registered_paths(&world, "f", 1_000);
    world.start();
    let mut owed = Vec::new();
    let mut call = |path: &String| {
        let said = world.hook(path, "");
        assert_eq!(said.code, 0);
        if said.err.is_empty() {
            owed.push(path.clone());
            return true;
        }
        assert_is_one_clear_line(&said.err);
        false
    };
    let mut paths_left = paths.iter();
    for path in paths_left.by_ref().take(20) {
        assert!(call(path));
    }
    let ballast = disk.fill().unwrap();
    let refused: Vec<&String> = paths_left.by_ref().filter(|path| !call(path)).take(20).collect();
    assert_eq!(refused.len(), 20);
    assert_eq!(world.ask(&["list"]).code, 0, "reading goes on");
    assert_eq!(world.status()["draining"], false);

    ballast.remove().unwrap();
    let freed = Instant::now();
    recovers(freed, || refused.iter().all(|path| call(path)));
    recovers(freed, || world.count("main", "done") == world.list(&[]).len() as u64);
    recovers(freed, || world.status()["spool_files"] == 0);
    assert_eq!(world.stop(), 0);
    diary.look();
    let lost: Vec<_> = owed.iter().filter(|path| !diary.delivered.contains(*path)).collect();
    assert_eq!(lost, [] as [&String; 0]);
    assert_sound(&world);
}

#[test]
fn a_daemon_that_finds_no_space_says_so_and_starts_once_there_is_some() {
    let Some((mut world, disk)) = world_on_small_disk(&[]) else { return };
    let (mut diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    let path = registered_paths(&world, "f", 1).remove(0);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(world.stop(), 0);
    // The state moves to the small disk, which has had no file that its kernel may still be about to free.
    let there = disk.path().join("state");
    fs::create_dir(&there).unwrap();
    for file in ["queue.db", "lock"] {
        fs::copy(world.path("state").join(file), there.join(file)).unwrap();
    }
    fs::remove_dir_all(world.path("state")).unwrap();
    symlink(there, world.path("state")).unwrap();
    let ballast = disk.fill().unwrap();
    assert_eq!(world.spawn(|_| {}).wait(SOON).code(), Some(70), "{}", world.log());
    let log = world.log();
    let last = log.lines().last().unwrap();
    assert!(last.contains("cannot start") && last.contains("is not full"), "{last}");

    ballast.remove().unwrap();
    world.start();
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 1);
    assert_eq!(world.stop(), 0);
    diary.look();
    assert!(diary.delivered.contains(&path));
    assert_sound(&world);
}

/// R16, at any write of the database: with a disk that is full from the n-th on, requests are answered, never
/// wrongly; with space again, what was put off is taken, and everything arrives once.
#[test]
fn full_at_any_write_of_the_database() {
    let mut seeded = seed::start();
    let shim = Shim::install("full-at-any-write");
    let step = if factor() == 1 { 10 } else { 1 };
    let mut points = 0;
    for after in (seeded.rng.index(step)..).step_by(step) {
        if !full_after(shim, after as u64) {
            break;
        }
        points += 1;
    }
    println!("{points} points");
    assert!(points >= 5, "{points}");
}

/// Gives whether the story came as far as that write.
fn full_after(shim: Shim, after: u64) -> bool {
    let (clock, manual) = Clock::manual(Time::from_ms(1_700_000_000_000));
    let mut inside = Inside::new(clock, "", &["main"]);
    inside.start(Some(shim.name()));
    let paths = inside.valid_paths(0..12);
    shim.fail(Fault::Full, after);
    let mut client = inside.connect();
    let frames: Vec<_> = paths.iter().map(|path| Frame::enqueue(Source::Hook).path(path)).collect();
    let put_off: Vec<_> = frames.iter().filter(|frame| ask(&mut client, frame) == Status::Busy).collect();
    let acknowledged = (frames.len() - put_off.len()) as u64;
    let known = inside.status().destinations["main"].by_state.total();
    assert_eq!(known, acknowledged, "reading goes on, and finds what was acknowledged");
    let came_so_far = shim.heal() > 0;
    for frame in put_off {
        assert_eq!(ask(&mut client, frame), Status::Queued);
    }
    drop(client);
    // Results that could not be written are written again after a moment, which is the test's to give.
    wait::until(SOON, || {
        manual.step(Duration::from_secs(1));
        inside.count("main", StateName::Done) == paths.len() as u64
    });
    assert!(paths.iter().all(|path| inside.destination("main").has(path)));
    inside.stop();
    came_so_far
}
