//! The daemon's memory stays its own: no core file, and no other process of its user may look into it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use test_kit::wait;

use crate::nobody::{UID, copy_program};
use crate::world::{SOON, World, queue_program, same_world, tool};

/// The two core limits of a process, as the kernel shows them.
fn core_limits(pid: u32) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    line["Max core file size".len()..].split_whitespace().take(2).map(str::to_owned).collect()
}

/// The owner of what would show the memory: root where the process is not dumpable, whoever it runs as.
fn owner_of_memory(pid: u32) -> u32 {
    fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid()
}

/// A command that tells its pid and waits until `$W/enough` is there.
fn waiting() -> String {
    let script = "echo $$ > $W/pid.new; mv $W/pid.new $W/pid; until test -e $W/enough; do read -t 1 x <> $W/pipe; done";
    World::command_cache("main", script, "")
}

fn child(world: &World) -> u32 {
    let mut pid = None;
    wait::until(SOON, || {
        pid = fs::read_to_string(world.path("pid")).ok().and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    pid.unwrap()
}

#[test]
fn neither_the_daemon_nor_what_it_starts_writes_core_files() {
    let mut world = World::new(&waiting().replace("/bin/sh", "/bin/bash"));
    assert!(tool("mkfifo").arg(world.path("pipe")).status().unwrap().success());
    let path = world.valid_paths(1).remove(0);
    // As generous as a machine may be.
    world.start_with(|command| {
        let mut limited = same_world(command, "prlimit");
        limited.arg("--core=unlimited").arg(command.get_program()).args(command.get_args());
        let log = fs::OpenOptions::new().append(true).open(world_log(command)).unwrap();
        limited.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
        *command = limited;
    });
    assert_eq!(core_limits(world.daemon_pid()), ["0", "0"]);
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(core_limits(child(&world)), ["0", "0"]);
    fs::write(world.path("enough"), "").unwrap();
    world.until("main", "done", 1);
    // What writes a core file anywhere else.
    world.signal("ABRT");
    assert_eq!(world.daemon_end(), -1);
    let here = std::env::current_dir().unwrap();
    for folder in [here, world.path(""), world.path("state")] {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let cores: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("core")).collect();
        assert!(cores.is_empty(), "{cores:?}");
    }
}

/// The log that `World::spawn` writes to.
fn world_log(command: &std::process::Command) -> std::path::PathBuf {
    let config = command.get_args().last().unwrap();
    std::path::Path::new(config).with_file_name("daemon.log")
}

/// As a user without rights: root's `/proc` belongs to root anyway.
#[test]
fn no_process_of_the_daemons_own_user_may_look_into_its_memory() {
    let mut world = World::new(&waiting().replace("/bin/sh", "/bin/bash"));
    if fs::metadata(world.path("")).unwrap().uid() != 0 {
        println!("skipped: only root can act as another user");
        return;
    }
    assert!(tool("mkfifo").arg(world.path("pipe")).status().unwrap().success());
    let path = world.valid_paths(1).remove(0);
    let program = world.path("eka-queue");
    copy_program(queue_program(), &program);
    let theirs = UID.to_string();
    assert!(tool("chown").args(["-R", &theirs]).arg(world.path("")).status().unwrap().success());
    world.start_with(|command| {
        let mut theirs = same_world(command, "setpriv");
        theirs.args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups"]);
        theirs.arg(&program).args(command.get_args());
        let log = fs::OpenOptions::new().append(true).open(world_log(command)).unwrap();
        theirs.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
        *command = theirs;
    });
    let daemon = world.daemon_pid();
    let uid = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    assert!(uid.contains(&format!("\nUid:\t{UID}\t")), "it runs as that user: {uid}");
    assert_eq!(owner_of_memory(daemon), 0);
    let read = |file: &str| {
        let mut command = tool("setpriv");
        command.args([&format!("--reuid={UID}"), &format!("--regid={UID}"), "--clear-groups", "cat"]);
        command.arg(format!("/proc/{daemon}/{file}")).output().unwrap().status.success()
    };
    assert!(!read("environ") && !read("maps"), "secrets may be in its variables");
    assert!(read("status") && read("cmdline"), "what everybody may see is there");
    // What it starts is a program like any other.
    assert!(world.ask(&["push", &path]).code == 0);
    assert_eq!(owner_of_memory(child(&world)), UID);
    fs::write(world.path("enough"), "").unwrap();
    world.until("main", "done", 1);
}
