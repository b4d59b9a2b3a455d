//! What a confined child may take, and that nothing of it is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ci_server::sandbox::{Groups, Limits, Share};
use nix_store::process::{Exit, Spec, Stream, run_with_lines};
use test_kit::wait;
use tokio::sync::oneshot;

use super::support::{Stage, both};

/// How many processes are in this pid namespace, as its link in `/proc` names it.
fn members(namespace: &str) -> usize {
    let links = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let link = entry.ok()?.path().join("ns/pid");
        fs::read_link(link).ok() // no process, or one that just ended
    });
    links.filter(|link| link == Path::new(namespace)).count()
}

#[tokio::test]
async fn nothing_of_a_confined_tree_is_left_when_it_is_called_off() {
    let Some(stage) = Stage::set().await else { return };
    // Each leaves its group and its session; two lose their parent as well.
    let script = "for i in 1 2 3; do (setsid sleep 600 &) ; setsid sleep 600 & done; \
                  readlink /proc/self/ns/pid; exec sleep 600";
    let spec = Spec::new("/bin/sh").args(["-c", script]).limits(Some(Duration::from_secs(60)), None);
    let spec = stage.sandbox.confine(&spec, &stage.confinement()).unwrap();
    let (begin, begun) = oneshot::channel::<()>();
    let (mut begin, mut called_off) = (Some(begin), None);
    let cancel = async { begun.await.unwrap() };
    let mut hear = |stream, line: &str| {
        if stream == Stream::Stdout && line.starts_with("pid:[") {
            // bubblewrap's own first process, the shell, and six sleepers
            wait::until(Duration::from_secs(30), || members(line) >= 8);
            called_off = Some(line.to_owned());
            begin.take().unwrap().send(()).unwrap();
        }
    };
    let outcome = run_with_lines(&spec, cancel, &mut hear).await.unwrap();
    assert_eq!(outcome.exit, Exit::Cancelled);
    let namespace = called_off.unwrap();
    wait::until(Duration::from_secs(30), || members(&namespace) == 0);
}

#[tokio::test]
async fn nothing_is_left_of_what_outlives_the_program() {
    let Some(stage) = Stage::set().await else { return };
    let said = stage.shell("(setsid sleep 600 &); readlink /proc/self/ns/pid").await;
    let namespace = said.lines().next().unwrap();
    assert!(namespace.starts_with("pid:["), "{said}");
    wait::until(Duration::from_secs(30), || members(namespace) == 0);
}

#[tokio::test]
async fn each_bound_is_in_force() {
    let Some(stage) = Stage::set().await else { return };
    let mut confinement = stage.confinement();
    confinement.limits = Limits {
        memory_bytes: 64 << 20,
        processes: 20,
        files: 64,
        file_bytes: 1 << 20,
        cpu_seconds: 7,
        scratch_bytes: 4 << 20,
    };
    let shell = |script: &str| Spec::new("/bin/sh").args(["-c", script]);
    let ask = async |script: &str| both(&stage.inside(shell(script), &confinement).await);

    let limits = ask("cat /proc/self/limits").await;
    for (name, value) in [
        ("Max data size", 64 << 20),
        ("Max address space", (64 << 20) + (2_u64 << 30)),
        ("Max processes", 20),
        ("Max open files", 64),
        ("Max file size", 1 << 20),
        ("Max cpu time", 7),
        ("Max core file size", 0),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [value.to_string(), value.to_string()], "{name}");
    }
    let memory = ask("head -c 200000000 /dev/zero | tail -c 190000000 | wc -c").await;
    assert!(memory.contains("memory exhausted") && memory.starts_with('0'), "{memory}");
    let many = ask("i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all").await;
    assert!(many.contains("fork") && !many.contains("all"), "{many}");
    let large = ask("head -c 2000000 /dev/zero > /tmp/large; wc -c < /tmp/large").await;
    assert!(large.contains("1048576"), "{large}");
    let full = ask("for i in 1 2 3 4 5 6; do head -c 1000000 /dev/zero > /tmp/f$i; done").await;
    assert!(full.contains("No space left on device"), "{full}");
}

#[tokio::test]
async fn calls_that_only_an_attacker_needs_are_refused() {
    let Some(stage) = Stage::set().await else { return };
    let said = stage
        .shell("grep Seccomp: /proc/self/status; unshare -U true; unshare -r -m true; mount -t tmpfs x /tmp")
        .await;
    assert!(said.contains("Seccomp:\t2"), "{said}");
    assert_eq!(said.matches("unshare failed: Operation not permitted").count(), 2, "{said}");
    assert!(said.contains("mount: ") && !said.contains("[exit code 0]"), "{said}");
    // The same outside, as nobody: what is refused is refused by the filter.
    let outside = Spec::new("setpriv").args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "unshare",
        "-U",
        "true",
    ]);
    if rustix::process::geteuid().is_root() {
        let outside = nix_store::process::run(&outside, std::future::pending()).await.unwrap();
        assert!(outside.success(), "{}", both(&outside));
    }
}

#[tokio::test]
async fn all_children_of_a_group_share_its_bounds() {
    let Some(stage) = Stage::set().await else { return };
    let groups = Groups::find();
    let share = Share { memory_bytes: 96 << 20, processes: 40 };
    let Some(group) = groups.make(share).unwrap() else {
        println!("SKIPPED: there is no place for control groups here");
        return;
    };
    println!("groups: {groups:?}");
    let mut confinement = stage.confinement();
    confinement.groups = group.entrances();
    let shell = |script: &str| Spec::new("/bin/sh").args(["-c", script]);
    // Each within its own limits, all of them together beyond the group's.
    // Each holds what it read until the others have read theirs.
    let script = "for i in 1 2 3 4; do ((head -c 40000000 /dev/zero; sleep 10) | tail -c 39000000 | wc -c) & done; wait";
    let said = both(&stage.inside(shell(script), &confinement).await);
    let whole = said.matches("39000000").count();
    assert!(whole < 4, "{said}");
    let script = "i=0; while [ $i -lt 50 ]; do sleep 5 & i=$((i+1)); done; echo all";
    let said = both(&stage.inside(shell(script), &confinement).await);
    assert!(said.contains("fork") && !said.contains("all"), "{said}");
    let members = group.entrances();
    let folders: Vec<_> = members.iter().map(|file| file.parent().unwrap().to_owned()).collect();
    // They have ended with their namespace. A busy machine may take longer to take the last of them apart than the end of
    // a group waits for.
    let is_empty = |members: &PathBuf| fs::read_to_string(members).unwrap().is_empty();
    wait::until(Duration::from_secs(30), || members.iter().all(is_empty));
    drop(group);
    assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
}
