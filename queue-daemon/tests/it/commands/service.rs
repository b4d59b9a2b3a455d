//! Under a service manager: readiness, sockets it opened, the end; and the files the daemon makes.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use test_kit::proc::Guard;
use test_kit::wait;

use crate::world::{SOON, World, queue_program, run};

fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4_096];
    let length = manager.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn the_manager_hears_of_readiness_life_and_the_end() {
    let mut world = World::new("");
    let manager = UnixDatagram::bind(world.path("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let notify = world.path("notify");
    world.start_with(|command| {
        command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "200000");
    });
    let mut said = vec![heard(&manager)];
    while !said.iter().any(|line| line.starts_with("READY=1")) || said.len() < 4 {
        said.push(heard(&manager));
    }
    let ready = said.iter().find(|line| line.starts_with("READY=1")).unwrap();
    assert_eq!(ready, "READY=1\nSTATUS=taking paths in\n");
    assert!(said.iter().filter(|line| *line == "WATCHDOG=1\n").count() >= 2, "{said:?}");
    assert_eq!(world.stop(), 0);
    wait::until(SOON, || heard(&manager) == "STOPPING=1\n");
}

/// A child that could answer for the daemon would tell the manager lies.
#[test]
fn children_know_nothing_of_the_manager() {
    let mut world = World::new(&World::command_cache("main", "env > $W/env", ""));
    let manager = UnixDatagram::bind(world.path("notify")).unwrap();
    let path = world.valid_paths(1).remove(0);
    let notify = world.path("notify");
    world.start_with(|command| {
        command.env("NOTIFY_SOCKET", notify);
    });
    assert_eq!(world.hook(&path, "").err, "");
    world.until("main", "done", 1);
    let env = fs::read_to_string(world.path("env")).unwrap();
    assert!(env.contains("OUT_PATHS=") && !env.contains("NOTIFY_SOCKET"), "{env}");
    drop(manager);
}

#[test]
fn sockets_that_the_manager_opened_are_served_and_left_to_it() {
    let activate = Path::new("/usr/bin/systemd-socket-activate");
    if !activate.exists() {
        eprintln!("skipped: there is no {}", activate.display());
        return;
    }
    let world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    let (enqueue, control) = (world.path("enqueue.sock"), world.path("control.sock"));
    let mut manager = world.tool(activate);
    manager.arg("-l").arg(&enqueue).arg("-l").arg(&control).args(["--fdname", "enqueue:control"]);
    for name in
        ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR", "NIX_CONFIG", "HOME", "PATH"]
    {
        manager.arg("-E").arg(name);
    }
    manager.arg(queue_program()).arg("serve").arg("--config-file").arg(world.path("ekaci.toml"));
    manager.stderr(fs::File::create(world.path("daemon.log")).unwrap());
    let mut daemon = Guard::spawn(&mut manager).unwrap();
    wait::until(SOON, || enqueue.exists() && control.exists());
    // The first call of the hook is what starts the daemon.
    let said = world.hook(&path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    world.until("main", "done", 1);
    let ended = run(world.tool("kill").arg(daemon.pid().to_string()), b"");
    assert_eq!(ended.code, 0);
    assert_eq!(daemon.wait(SOON).code(), Some(0), "{}", world.log());
    assert!(enqueue.exists() && control.exists(), "the manager still listens there, for the next start");
}

#[test]
fn a_socket_with_a_name_that_means_nothing_is_refused() {
    let activate = Path::new("/usr/bin/systemd-socket-activate");
    if !activate.exists() {
        eprintln!("skipped: there is no {}", activate.display());
        return;
    }
    let world = World::new("");
    let mut manager = world.tool(activate);
    manager.arg("-l").arg(world.path("enqueue.sock")).args(["--fdname", "intake"]);
    manager.arg(queue_program()).arg("serve").arg("--config-file").arg(world.path("ekaci.toml"));
    manager.stderr(fs::File::create(world.path("daemon.log")).unwrap());
    let mut daemon = Guard::spawn(&mut manager).unwrap();
    wait::until(SOON, || world.path("enqueue.sock").exists());
    // The socket's file is there before anybody listens.
    let path = world.valid_paths(1).remove(0);
    wait::until(SOON, || {
        assert_eq!(world.hook(&path, "").code, 0);
        daemon.child().try_wait().unwrap().is_some()
    });
    assert_eq!(daemon.wait(SOON).code(), Some(70));
    assert!(
        world.log().contains("passed a socket named `intake`; name them `enqueue` and `control`"),
        "{}",
        world.log()
    );
}

#[test]
fn what_the_daemon_makes_has_the_least_rights_that_work() {
    let mut world = World::new("");
    world.start();
    let mode = |file: &str| fs::metadata(world.path(file)).unwrap().mode() & 0o7777;
    assert_eq!(mode("enqueue.sock"), 0o660);
    assert_eq!(mode("control.sock"), 0o600);
    assert_eq!(mode("state"), 0o750);
    assert_eq!(mode("spool"), 0o3770);
    assert!(fs::metadata(world.path("enqueue.sock")).unwrap().file_type().is_socket());
    assert_eq!(world.stop(), 0);
    assert!(!world.path("enqueue.sock").exists() && !world.path("control.sock").exists());
}

#[test]
fn json_logs_are_one_object_a_line() {
    let mut world = World::new("");
    world.start_with(|command| {
        command.args(["--log-format", "json", "--log", "debug"]);
    });
    assert_eq!(world.stop(), 0);
    let log = world.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("is ready"))),
        "{log}"
    );
}
