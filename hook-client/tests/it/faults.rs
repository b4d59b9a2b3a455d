//! The world at its worst: a daemon that sleeps, spools that cannot be written, closed streams, many hooks at
//! once. The build goes on, and nothing is lost while there is any place for it. How long it takes is for `alone`.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use hook_wire::Status;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::harness::{DEV, DRV, HELLO, Hook, Outcome, PROMISE, Program, command, finished, spooled};
use crate::on_both;
use crate::server::{Manner, Server};

fn hook(program: Program) -> Hook {
    Hook::new(program).hurried().env("OUT_PATHS", format!("{HELLO} {DEV}")).env("DRV_PATH", DRV)
}

pub(crate) fn is_root() -> bool {
    crate::harness::scratch().path().metadata().unwrap().uid() == 0
}

fn nobody_listens(program: Program) {
    let hook = hook(program).arg("--strict");
    hook.run().is_silent();
    drop(std::os::unix::net::UnixListener::bind(hook.socket()).unwrap());
    hook.run().is_silent();
    let spooled = hook.spooled();
    assert_eq!(spooled.len(), 2);
    assert!(spooled.iter().all(|said| said.paths == [HELLO, DEV] && said.drv.as_deref() == Some(DRV)));
}

fn accepted_but_never_answered(program: Program) {
    // Time to be heard in, on a busy machine too.
    let hook = hook(program).args(["--strict", "--timeout-ms", "2000"]);
    let server = Server::start(&hook.socket(), Manner::Silent);
    hook.run().is_silent();
    let spooled: Vec<_> = hook.spooled().into_iter().map(|said| said.key).collect();
    assert_eq!(spooled, [server.only().key], "the daemon heard it and the spool has it: one key");
}

/// As a daemon under SIGSTOP: connections wait in the backlog, and nobody will ever take them.
fn a_stopped_daemon(program: Program, backlog_full: bool) {
    let hook = hook(program).arg("--strict");
    let address = SocketAddrUnix::new(hook.socket()).unwrap();
    let new = |flags| rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let listener = new(SocketFlags::CLOEXEC);
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, if backlog_full { 0 } else { 100 }).unwrap();
    let mut waiting = Vec::new();
    if backlog_full {
        let client = || new(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let connected = |client: &OwnedFd| rustix::net::connect(client, &address).is_ok();
        waiting.extend(std::iter::repeat_with(client).take_while(connected));
        assert!(!waiting.is_empty());
    }
    hook.run().is_silent();
    assert_eq!(hook.spooled()[0].paths, [HELLO, DEV]);
}

fn a_stopped_daemon_with_room_in_its_backlog(program: Program) {
    a_stopped_daemon(program, false);
}

fn a_stopped_daemon_with_a_full_backlog(program: Program) {
    a_stopped_daemon(program, true);
}

fn a_socket_path_that_is_too_long(program: Program) {
    let hook = hook(program);
    let long = format!("/{}", "s".repeat(108));
    let outcome = hook.arg("--strict").args(["--socket", &long]).run();
    assert_eq!(outcome.code, 0);
    assert!(outcome.stderr.contains("connect: the path is too long"), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1);
}

fn a_spool_is_made_with_its_parents(program: Program) {
    let hook = hook(program);
    let spool = hook.dir.path().join("a/b//c/");
    let hook = hook.arg("--strict").arg("--spool").arg(&spool);
    hook.run().is_silent();
    assert_eq!(spooled(&spool)[0].paths, [HELLO, DEV]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&spool), 0o700);
    assert_eq!(mode(&hook.dir.path().join("a/b")) & 0o700, 0o700);
    let file = fs::read_dir(&spool).unwrap().next().unwrap().unwrap().path();
    assert_eq!(mode(&file), 0o640);
}

fn a_relative_spool_is_made_where_we_are(program: Program) {
    let hook = hook(program).args(["--strict", "--spool", "here/spool"]);
    hook.run().is_silent();
    assert_eq!(spooled(&hook.dir.path().join("here/spool")).len(), 1);
}

fn is_lost(outcome: &Outcome, words: &str) {
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    let line = &outcome.stderr;
    assert_eq!(line.lines().count(), 1, "{line}");
    for words in ["2 paths are not queued", "connect: no such file or folder", "Start eka-queue", words] {
        assert!(line.contains(words), "{words} in {line}");
    }
}

fn a_spool_that_cannot_be_written(program: Program) {
    let plain = hook(program);
    fs::write(plain.dir.path().join("file"), "").unwrap();
    symlink("nowhere", plain.dir.path().join("link")).unwrap();
    for (spool, words) in [
        (plain.dir.path().join("file"), "open the folder: a part of the path is not a folder"),
        (plain.dir.path().join("file/deeper"), "a part of the path is not a folder"),
        (plain.dir.path().join("link"), "open the folder: no such file or folder"),
        ("/proc/eka/spool".into(), "make the folder: "),
        (format!("/{}", "d".repeat(300)).into(), "the path is too long"),
        (format!("/{}", "d/".repeat(3000)).into(), "the path is too long"),
    ] {
        let hook = hook(program).arg("--spool").arg(spool);
        let outcome = hook.run();
        assert_eq!(outcome.code, 0, "a build goes on");
        is_lost(&hook.arg("--strict").run(), words);
    }
}

/// Mounts a tiny file system for one test.
pub(crate) struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    pub(crate) fn mount(at: &'a Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mount = |program| {
            command(program).args(["-t", "tmpfs", "-o", "size=16k,mode=0700", "tiny"]).arg(at).output()
        };
        if !is_root() || !mount("mount").is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: mounting a tmpfs needs root and the right to mount");
            return None;
        }
        Some(Self(at))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let done = command("umount").arg("--lazy").arg(self.0).status();
        assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking(), "umount {:?}", self.0);
    }
}

/// Three pages of four: a name fits, its content does not.
pub(crate) fn fill(tiny: &Path) {
    let full = |name: &str, bytes: &[u8]| fs::write(tiny.join(name), bytes).is_err();
    assert!(full("filler", &[1; 16 << 10]) || full("more", &[1]));
}

fn a_spool_on_a_full_disk(program: Program) {
    let hook = hook(program);
    let spool = hook.spool();
    let Some(_tiny) = Tiny::mount(&spool) else { return };
    fill(&spool);
    is_lost(&hook.arg("--strict").run(), "write: no space left");
    let left: Vec<_> = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "filler" || name == "more"), "no rest of a file: {left:?}");
}

fn root_gives_the_file_to_the_spools_owner(program: Program) {
    if !is_root() {
        return eprintln!("skipped: only root may give files away");
    }
    let hook = hook(program);
    fs::create_dir(hook.spool()).unwrap();
    std::os::unix::fs::chown(hook.spool(), Some(12_345), Some(54_321)).unwrap();
    hook.run().is_silent();
    let file = fs::read_dir(hook.spool()).unwrap().next().unwrap().unwrap().metadata().unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (12_345, 54_321, 0o640));
}

fn closed_streams_do_no_harm(program: Program) {
    let hook = hook(program).arg("not-a-path").arg(HELLO);
    let mut shell = command("sh");
    let inner = hook.command();
    shell.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(inner.get_program()).args(inner.get_args());
    let status = shell.env_clear().current_dir(hook.dir.path()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(hook.spooled()[0].paths, [HELLO], "the line about the bad word is not in the file");
}

fn a_reader_of_our_lines_that_hung_up_does_no_harm(program: Program) {
    let hook = hook(program).arg("not-a-path").arg(HELLO);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = hook.command().stdin(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(hook.spooled().len(), 1);
}

fn sixteen_at_once(program: Program) {
    let hook = hook(program).arg("--strict");
    let all_at_once = || {
        let start = || {
            let mut command = hook.command();
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let children: Vec<_> = (0..16).map(|_| start()).collect();
        children.into_iter().for_each(|child| finished(child, Instant::now()).is_silent());
    };
    all_at_once();
    assert_eq!(hook.spooled().len(), 16);
    let server = Server::start(&hook.socket(), Manner::ack(Status::Queued, ""));
    all_at_once();
    // A machine under load may leave some without an answer in time: those are in the spool too.
    let keys: BTreeSet<_> = hook.spooled().into_iter().chain(server.heard()).map(|said| said.key).collect();
    assert_eq!(keys.len(), 32);
}

fn a_longer_timeout_is_kept(program: Program) {
    let hook = hook(program).args(["--timeout-ms", "400"]);
    let _server = Server::start(&hook.socket(), Manner::Silent);
    let took = hook.run().took;
    assert!(took > PROMISE, "{took:?}");
}

on_both! {
    nobody_listens
    accepted_but_never_answered
    a_stopped_daemon_with_room_in_its_backlog
    a_stopped_daemon_with_a_full_backlog
    a_socket_path_that_is_too_long
    a_spool_is_made_with_its_parents
    a_relative_spool_is_made_where_we_are
    a_spool_that_cannot_be_written
    a_spool_on_a_full_disk
    root_gives_the_file_to_the_spools_owner
    closed_streams_do_no_harm
    a_reader_of_our_lines_that_hung_up_does_no_harm
    sixteen_at_once
    a_longer_timeout_is_kept
}

/// The standard library leaves the signal for too large files alone, so this is for the bare program.
#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let hook = hook(Program::Raw).arg("--strict");
    let mut shell = command("sh");
    let inner = hook.command();
    shell.args(["-c", "ulimit -f 0; exec \"$0\" \"$@\""]).arg(inner.get_program()).args(inner.get_args());
    shell
        .env_clear()
        .env("OUT_PATHS", format!("{HELLO} {DEV}"))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    is_lost(&finished(shell.spawn().unwrap(), Instant::now()), "write: too big");
    assert_eq!(fs::read_dir(hook.spool()).unwrap().count(), 0);
}
