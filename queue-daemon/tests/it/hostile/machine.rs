//! The machine under the daemon: a second daemon, what a killed one left behind, a clock that jumps, few open files.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use eka_queue::delivery::{FaultClass, StateName};
use service_kit::clock::{Clock, Time};
use test_kit::wait;

use super::{PROMPT, assert_works};
use crate::frames::connect;
use crate::inside::Inside;
use crate::world::{SOON, World, lines, queue_program, run, same_world};

#[test]
fn a_second_daemon_on_the_same_folder_ends_at_once_and_names_it() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    world.start();
    let mut second = world.tool(queue_program());
    let said = run(second.arg("serve").arg("--config-file").arg(world.path("ekaci.toml")), b"");
    assert_eq!(said.code, 70);
    let line = format!(
        "state folder {} is in use by process {}; stop that process, or name another folder",
        world.path("state").display(),
        world.daemon_pid()
    );
    assert!(said.err.contains(&line), "{said:?}");
    assert_works(&world);
    // Its place is free the moment it is gone, however it went.
    world.kill();
    world.start();
    assert_works(&world);
}

#[test]
fn socket_files_of_a_killed_daemon_are_replaced() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    world.start();
    world.kill();
    assert!(world.path("enqueue.sock").exists() && world.path("control.sock").exists());
    fs::write(world.path("enqueue.sock.new"), "left over from a start that was killed").unwrap();
    let path = world.valid_paths(1).remove(0);
    let said = world.hook(&path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "nobody answers there: it goes to the spool");
    world.start();
    world.until("main", "done", 1);
    assert_works(&world);
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let world = World::new("");
    fs::write(world.path("enqueue.sock"), "somebody's file").unwrap();
    let mut serve = world.tool(queue_program());
    let said = run(serve.arg("serve").arg("--config-file").arg(world.path("ekaci.toml")), b"");
    assert_eq!(said.code, 70);
    let line = format!(
        "{} is there already and is no socket; remove it, or configure another path",
        world.path("enqueue.sock").display()
    );
    assert!(said.err.contains(&line), "{said:?}");
    assert_eq!(fs::read_to_string(world.path("enqueue.sock")).unwrap(), "somebody's file");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = World::with_queue(&format!("metrics_address = \"{address}\""), "");
    let mut serve = world.tool(queue_program());
    let said = run(serve.arg("serve").arg("--config-file").arg(world.path("ekaci.toml")), b"");
    assert_eq!(said.code, 70);
    assert!(said.err.contains(&format!("cannot listen on metrics_address {address}")), "{said:?}");
}

/// A database that is not ours, or damaged, is not touched.
#[test]
fn a_file_that_is_no_queue_is_refused_and_left_as_it_was() {
    let world = World::new("");
    fs::create_dir(world.path("state")).unwrap();
    let noise = b"this is no database, but it is longer than the header of one: ".repeat(40);
    fs::write(world.path("state/queue.db"), &noise).unwrap();
    let mut serve = world.tool(queue_program());
    let said = run(serve.arg("serve").arg("--config-file").arg(world.path("ekaci.toml")), b"");
    assert_eq!(said.code, 70);
    assert!(said.err.contains(world.path("state/queue.db").to_str().unwrap()), "{said:?}");
    assert_eq!(fs::read(world.path("state/queue.db")).unwrap(), noise);
}

/// SIGTERM in the middle of a push: `stop_timeout`, then the lease goes back, and the next start delivers.
#[test]
fn a_stop_in_the_middle_of_a_push_returns_the_lease() {
    let script = "test -e $W/go || { exec 9<> $W/never; read x <&9; }";
    let cache = World::command_cache("main", script, "").replace("/bin/sh", "/bin/bash");
    let mut world = World::with_queue("stop_timeout = \"200ms\"", &cache);
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || lines(&world.path("main.log")).len() == 1);
    assert_eq!(world.stop(), 0);
    fs::write(world.path("go"), "").unwrap();
    world.start();
    world.until("main", "done", 1);
    assert_eq!(world.list(&[])[0]["attempts"], 0, "to be stopped is no failure of the path");
}

/// Descriptors run out under a crowd: hooks go to the spool or wait, and nothing is lost.
#[test]
fn a_daemon_with_few_open_files_survives_a_crowd() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    let log = fs::OpenOptions::new().create(true).append(true).open(world.path("daemon.log")).unwrap();
    let (program, config) = (queue_program(), world.path("ekaci.toml"));
    world.start_with(|command| {
        let mut limited = same_world(command, "prlimit");
        limited.arg("--nofile=64:64").arg(program).arg("serve").arg("--config-file").arg(config);
        limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *command = limited;
    });
    world.let_hook_give_up_soon();
    let crowd: Vec<_> = (0..60).map(|_| connect(&world)).collect();
    let said = world.hook(&path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.took < PROMPT, "{said:?}");
    wait::until(SOON, || world.log().contains("enqueue socket cannot accept"));
    drop(crowd);
    wait::until(SOON, || world.ask(&["status"]).code == 0);
    world.until("main", "done", 1);
    assert_works(&world);
}

/// An operator sets the clock back by a year while deliveries wait for their time: they do not wait a year.
#[test]
fn a_clock_that_jumps_back_delays_nothing() {
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let now = Time::from_ms(1_800_000_000_000);
    let (clock, manual) = Clock::manual(now);
    let mut inside = Inside::new(clock.clone(), "", &["main"]);
    let paths = inside.valid_paths(0..2);
    inside.start(None);
    inside.destination("main").set_failing(Some(FaultClass::Failed));
    inside.enqueue(1, &[&paths[0]]);
    wait::until(SOON, || inside.count("main", StateName::Waiting) == 1);
    manual.set_wall(now.minus(year));
    inside.destination("main").set_failing(None);
    let tick = |seconds| inside.block_on(manual.advance(Duration::from_secs(seconds)));
    wait::until(SOON, || {
        tick(5);
        inside.count("main", StateName::Done) == 1
    });
    // Requests of the past are as good as any, and ages are never negative.
    inside.enqueue(2, &[&paths[1]]);
    wait::until(SOON, || {
        tick(5);
        inside.count("main", StateName::Done) == 2
    });
    assert!(inside.destination("main").has(&paths[1]));
    let passed = clock.now().since(now.minus(year));
    assert!(passed < Duration::from_secs(3_600), "{passed:?} of the new time have passed");
    inside.stop();
}

/// The same with the breaker open: probes go on.
#[test]
fn a_clock_that_jumps_back_does_not_silence_the_probes() {
    let now = Time::from_ms(1_800_000_000_000);
    let (clock, manual) = Clock::manual(now);
    let mut inside = Inside::new(clock, "", &["main"]);
    let paths = inside.valid_paths(0..10);
    inside.start(None);
    inside.destination("main").set_failing(Some(FaultClass::Unreachable));
    for (key, path) in (1..).zip(&paths) {
        inside.enqueue(key, &[path]);
    }
    wait::until(SOON, || inside.status().destinations["main"].breaker.as_deref() == Some("open"));
    manual.set_wall(now.minus(Duration::from_secs(7 * 24 * 60 * 60)));
    inside.destination("main").set_failing(None);
    wait::until(SOON, || {
        inside.block_on(manual.advance(Duration::from_secs(30)));
        inside.count("main", StateName::Done) == 10
    });
    inside.stop();
}

/// A listener that nobody serves: the backlog is full and connect hangs, as with a daemon that is stopped.
#[test]
fn a_daemon_that_was_suspended_takes_everything_in_when_it_goes_on() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(3);
    world.start();
    world.let_hook_give_up_soon();
    world.signal("STOP");
    for path in &paths {
        let said = world.hook(path, "");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(said.took < PROMPT, "{said:?}");
    }
    world.signal("CONT");
    world.until("main", "done", 3);
    // What is done stood in the table before its file was removed.
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let unserved = UnixListener::bind(world.path("other.sock")).unwrap();
    let said = run(world.hook_command().arg("--socket").arg(world.path("other.sock")).arg(&paths[0]), b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    drop(unserved);
}
