//! Destinations that refuse, hang, talk for ever, leave children behind, or miss what they need.

use std::fs;
use std::time::{Duration, Instant};

use test_kit::wait;

use super::assert_works;
use crate::chaos::is_alive;
use crate::world::{SOON, World, lines};

/// Starts a world whose destination `main` runs this script in bash, beside one that works.
fn stage(script: &str, keys: &str) -> (World, String) {
    let broken = World::command_cache("broken", script, keys).replace("/bin/sh", "/bin/bash");
    let mut world = World::new(&[broken, World::command_cache("main", "", "")].concat());
    // Reading from it takes for ever: somebody holds it open and never writes.
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    (world, path)
}

/// Sleeps for ever, in bash, without a child of its own.
const FOR_EVER: &str = "exec 9<> $W/never; read x <&9";

fn row(world: &World) -> serde_json::Value {
    world.list(&["--destination", "broken"]).remove(0)
}

#[test]
fn one_that_refuses_for_good_gives_a_dead_letter_at_once() {
    let (world, path) = stage("echo it is not for us >&2; exit 65", "");
    world.until("broken", "dead", 1);
    assert_eq!(row(&world)["attempts"], 1);
    assert_eq!(row(&world)["last_error"], "/bin/bash exited 65: it is not for us");
    assert_eq!(lines(&world.path("broken.log")).len(), 1);
    wait::until(SOON, || world.log().contains(&format!("gave up {path} for broken")));
    assert_works(&world);
}

#[test]
fn one_that_hangs_is_ended_after_its_time_with_all_its_children() {
    let script = format!("echo $$ > $W/pid; (echo $BASHPID > $W/child; {FOR_EVER}) & {FOR_EVER}");
    let (world, _) = stage(&script, "timeout = \"3s\"\nattempts_max = 1");
    let begun = Instant::now();
    world.until("broken", "dead", 1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(row(&world)["attempts"], 1);
    assert_eq!(row(&world)["last_error"], "/bin/bash printed nothing for 3s and was ended");
    for file in ["pid", "child"] {
        let pid = fs::read_to_string(world.path(file)).unwrap().trim().parse().unwrap();
        wait::until(SOON, || !is_alive(pid));
    }
    assert_works(&world);
    // What that queued for it has hung and was ended as well: nothing is left when the daemon goes.
    world.until("broken", "dead", 2);
}

/// The time-out is about silence: who says something every now and then may take as long as it likes.
#[test]
fn one_that_is_slow_and_talks_is_let_be() {
    let script =
        "exec 9<> $W/never; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; read -t 0.3 x <&9; done; true";
    let (world, _) = stage(script, "timeout = \"3s\"");
    world.until("broken", "done", 1);
    assert_eq!((row(&world)["attempts"].as_u64(), lines(&world.path("broken.log")).len()), (Some(0), 1));
}

#[test]
fn one_that_talks_without_end_fills_nothing() {
    let script = "head -c 50000000 /dev/zero | tr '\\\\0' x; echo; echo the end >&2; exit 1";
    let (world, path) = stage(script, "attempts_max = 1");
    world.until("broken", "dead", 1);
    assert_eq!(row(&world)["last_error"], "/bin/bash exited 1: the end");
    let shown = world.ask(&["show", "--json", &path]).out;
    assert!(shown.len() < 20_000, "{} bytes", shown.len());
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "peak memory {peak} kB");
}

/// What a program prints is shown to people, who sit at terminals.
#[test]
fn what_it_prints_cannot_drive_a_terminal() {
    let script = "printf '\\\\033]0;owned\\\\007\\\\033[2J\\\\377\\\\r\\\\n\\\\033[31mred' >&2; exit 65";
    let (world, path) = stage(script, "");
    world.until("broken", "dead", 1);
    for said in [world.ask(&["list"]), world.ask(&["show", &path]), world.ask(&["show", "--json", &path])] {
        assert!(said.out.contains("red"), "{said:?}");
        assert!(said.out.chars().all(|c| c == '\n' || hook_wire::is_printable(c)), "{said:?}");
    }
    assert!(world.log().chars().all(|c| c == '\n' || hook_wire::is_printable(c)), "{}", world.log());
}

/// A program that ends and leaves a child behind, which holds its output open, has ended.
#[test]
fn one_that_leaves_a_child_behind_is_not_waited_for() {
    let script = format!("(echo $BASHPID > $W/child; {FOR_EVER}) & until test -s $W/child; do :; done");
    let (world, _) = stage(&script, "");
    let begun = Instant::now();
    world.until("broken", "done", 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let pid = fs::read_to_string(world.path("child")).unwrap().trim().parse().unwrap();
    wait::until(SOON, || !is_alive(pid));
}

#[test]
fn one_that_is_killed_again_and_again_is_given_up_with_the_reason() {
    let keys = "attempts_max = 2\nbackoff = { min = \"1ms\", max = \"10ms\" }";
    let (world, _) = stage("kill -SEGV $$", keys);
    world.until("broken", "dead", 1);
    assert_eq!(row(&world)["last_error"], "/bin/bash was killed by signal 11");
    assert_eq!(row(&world)["attempts"], 2);
}

/// The program itself is away: no path is to blame, nothing dies, and it goes on when it is back.
#[test]
fn a_program_that_is_away_kills_no_delivery() {
    let program = "[[caches]]\nid = \"broken\"\ncache_type = \"command\"\ncommand = [ \"$W/program\" ]\n\
                   attempts_max = 1\nbackoff = { min = \"1ms\", max = \"10ms\" }\nbreaker = { failures = 3, probe = \"20ms\" }\n";
    let mut world = World::new(program);
    let script = world.path("program");
    test_kit::script::write(&script, "#!/bin/sh\n");
    let paths = world.valid_paths(5);
    world.start();
    let put = || {
        test_kit::script::write(&world.path("new"), "#!/bin/sh\n");
        fs::rename(world.path("new"), world.path("program")).unwrap();
    };
    fs::remove_file(world.path("program")).unwrap();
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    wait::until(SOON, || world.status()["destinations"]["broken"]["breaker"] != "closed");
    wait::until(SOON, || world.list(&[]).iter().any(|row| !row["last_error"].is_null()));
    let failed = world.list(&[]).into_iter().find(|row| !row["last_error"].is_null()).unwrap();
    assert!(failed["last_error"].as_str().unwrap().contains("/program"), "{failed}");
    assert_eq!((world.count("broken", "dead"), &failed["attempts"]), (0, &0.into()));
    put();
    world.until("broken", "done", 5);
}

/// A signing key that cannot be read: the reason names the file and never what was in it.
#[test]
fn a_key_file_that_is_away_is_named_and_nothing_is_lost() {
    let cache = "[[caches]]\nid = \"broken\"\ncache_type = \"nix-copy\"\ndestination = \"file://$W/cache\"\n\
                 backoff = { min = \"100ms\", max = \"200ms\" }\n";
    let caches = [cache.to_owned(), World::command_cache("main", "", "")].concat();
    let mut world = World::with_queue("signing_key_files = [ \"$W/key.sec\" ]", &caches);
    let made = world
        .tool("nix-store")
        .args(["--generate-binary-cache-key", "k-1"])
        .args([world.path("key.sec"), world.path("key.pub")])
        .status();
    assert!(made.unwrap().success());
    let secret = fs::read_to_string(world.path("key.sec")).unwrap();
    let path = world.valid_paths(1).remove(0);
    world.start();
    fs::remove_file(world.path("key.sec")).unwrap();
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || !row(&world)["last_error"].is_null());
    let why = row(&world)["last_error"].as_str().unwrap().to_owned();
    assert!(why.contains("key.sec"), "{why}");
    // Cut off, as by a copy that was interrupted.
    fs::write(world.path("key.sec"), &secret[..40]).unwrap();
    wait::until(SOON, || row(&world)["last_error"] != why.as_str());
    fs::write(world.path("key.sec"), &secret).unwrap();
    world.until("broken", "done", 1);
    let said = [world.log(), world.ask(&["show", &path]).out].concat();
    assert!(!said.contains(&secret[4..30]), "the key is nowhere to be read");
    assert_works(&world);
}
