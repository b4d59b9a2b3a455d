//! Bounds on those who ask: a time limit that holds whatever the daemon does, a drain that ends with whoever asked for
//! it, connections that say nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use test_kit::proc::Guard;
use test_kit::wait;

use crate::world::{SOON, Said, World, queue_program, tool};

/// A subcommand that runs beside the test.
pub(crate) fn begin(world: &World, arguments: &[&str]) -> Guard {
    let mut command = world.tool(queue_program());
    command.arg("--config-file").arg(world.config_file()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Guard::spawn(&mut command).unwrap()
}

/// What it said, once it has ended by itself; fails the test if it does not.
#[track_caller]
pub(crate) fn end(mut begun: Guard) -> Said {
    let status = begun.wait(SOON);
    let (mut out, mut err) = (String::new(), String::new());
    begun.child().stdout.take().unwrap().read_to_string(&mut out).unwrap();
    begun.child().stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Said { code: status.code().unwrap_or(-1), out, err, took: Duration::ZERO }
}

/// Connections to the control socket that the daemon has accepted, as the kernel lists them.
pub(crate) fn conversations(world: &World) -> usize {
    const CONNECTED: &str = "03";
    let socket = world.path("control.sock");
    let listed = fs::read_to_string("/proc/net/unix").unwrap();
    let ours = listed.lines().filter(|line| line.contains(socket.to_str().unwrap()));
    ours.filter(|line| line.split_whitespace().nth(5) == Some(CONNECTED)).count()
}

/// Connections to a port of the loopback interface that this process has accepted: those that wait in the backlog have
/// no descriptor.
fn served(pid: &str, port: u16) -> usize {
    const CONNECTED: &str = "01";
    let address = format!("0100007F:{port:04X}");
    let listed = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row[1] == address && row[3] == CONNECTED);
    let sockets: BTreeSet<String> = ours.map(|row| format!("socket:[{}]", row[9])).collect();
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    // One that was closed since it was listed leads nowhere.
    let held = open.filter_map(|descriptor| fs::read_link(descriptor).ok());
    held.filter(|held| held.to_str().is_some_and(|name| sockets.contains(name))).count()
}

/// As Ctrl-C does; but a shell may have had its background jobs ignore that one, and us with them.
fn interrupt(begun: &Guard) {
    assert!(tool("kill").args(["-TERM", &begun.pid().to_string()]).status().unwrap().success());
}

#[test]
fn a_drain_ends_with_whoever_asked_for_it() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.hook(&paths[0], "").err, "");
    let mut drain = begin(&world, &["drain"]);
    wait::until(SOON, || world.status()["draining"] == true);
    interrupt(&drain);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&drain.wait(SOON)), Some(15));
    wait::until(SOON, || world.status()["draining"] == false);
    assert_eq!(world.hook(&paths[1], "").err, "");
    assert_eq!(world.status()["spool_files"], 0, "it was acknowledged, not spooled");
    assert_eq!(world.count("a", "queued"), 2);
    wait::until(SOON, || world.log().contains("the drain was called off"));
}

/// Side by side, so that what each waits of itself passes once.
#[test]
fn who_only_looks_at_a_daemon_that_is_stopped_is_told_after_a_while() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.ask(&["push", &path]).code, 0);
    world.until("a", "done", 1);
    world.signal("STOP");
    let own: [&[&str]; 3] = [&["status"], &["list"], &["show", &path]];
    let begun: Vec<Guard> = own.iter().map(|command| begin(&world, command)).collect();
    let sentence = format!(
        "eka-queue: the daemon at {} does not answer in time: it is stopped or hung, or the machine is overloaded; \
         see `systemctl status eka-queue` and its log, then let it go on (SIGCONT) or restart it\n",
        world.path("control.sock").display()
    );
    for command in own {
        let said = world.ask(&[command, &["--timeout", "200ms"]].concat());
        assert_eq!((said.code, said.out.as_str(), &said.err), (69, "", &sentence), "{command:?}");
    }
    for said in begun.into_iter().map(end) {
        assert_eq!((said.code, said.out.as_str(), &said.err), (69, "", &sentence));
    }
    let said = world.ask(&["status", "--json", "--timeout", "200ms"]);
    let object: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, format!("eka-queue: {}\n", object["error"].as_str().unwrap())), (69, sentence));
    world.signal("CONT");
    assert_eq!(world.ask(&["show", &path]).code, 0);
}

/// Otherwise the end of one would open what the other has closed.
#[test]
fn there_is_one_drain_at_a_time() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(2);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.hook(&paths[0], "").err, "");
    let first = begin(&world, &["drain"]);
    wait::until(SOON, || world.status()["draining"] == true);
    let second = world.ask(&["drain", "--timeout", "10ms"]);
    assert_eq!((second.code, second.out.as_str()), (69, ""), "{second:?}");
    assert!(second.err.contains("another drain is under way"), "{second:?}");
    assert_eq!(world.status()["draining"], true);
    assert_eq!(world.hook(&paths[1], "").err, "");
    assert_eq!(world.status()["spool_files"], 1);
    assert_eq!(world.ask(&["resume"]).code, 0);
    let first = end(first);
    assert_eq!((first.code, first.out.as_str()), (0, "1 delivered\n"), "{first:?}");
    assert_eq!(world.daemon_end(), 0);
}

/// Whoever may open the port may not take the daemon's descriptors from those who enqueue.
#[test]
fn connections_that_say_nothing_hold_no_hook() {
    // As many as a backlog holds, so that all of them are there before the first hook.
    const IDLE: usize = 100;
    const SPARE: usize = 40;
    /// How many the daemon serves at once.
    const SERVED: usize = 16;
    let port = test_kit::port::free();
    let address = format!("metrics_address = \"127.0.0.1:{port}\"");
    let mut world = World::with_queue(&address, &World::command_cache("a", "", ""));
    let paths = world.valid_paths(4);
    world.start();
    let pid = world.daemon_pid().to_string();
    // The worker that answered us last may not have hung up yet.
    wait::until(SOON, || conversations(&world) == 0);
    let at_most = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() + SPARE;
    let limit = format!("--nofile={at_most}:{at_most}");
    assert!(tool("prlimit").args(["--pid", &pid, &limit]).status().unwrap().success());
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    wait::until(SOON, || served(&pid, port) == SERVED);
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    assert_eq!(world.status()["spool_files"], 0);
    world.until("a", "done", 4);
    assert!(served(&pid, port) <= SERVED);
    drop(idle);
    assert_eq!(world.stop(), 0, "they hold up no end either");
}
