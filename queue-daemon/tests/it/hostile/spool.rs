//! Files in the spool that no hook wrote.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use hook_wire::{Kind, SPOOL_FILE_MAX, Source};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use test_kit::tmpfs::Tmpfs;
use test_kit::wait;

use crate::frames::Frame;
use crate::nobody::UID;
use crate::world::{SOON, World, run};

/// The names in a folder, sorted.
fn names(world: &World, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(world.path(folder)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn stage() -> (World, Vec<String>) {
    let world = World::new(&World::command_cache("main", "", ""));
    fs::create_dir(world.path("spool")).unwrap();
    let paths = world.valid_paths(3);
    (world, paths)
}

#[test]
fn what_can_never_be_taken_in_is_moved_aside_with_its_reason_and_the_rest_is_taken() {
    let (mut world, paths) = stage();
    let put = |name: &str, bytes: &[u8]| fs::write(world.path("spool").join(name), bytes).unwrap();
    let good = Frame::enqueue(Source::Hook).path(&paths[0]).bytes();
    put("1-noise.req", b"what is this");
    put("2-empty.req", b"");
    put("3-cut.req", &good[..good.len() - 1]);
    put("4-longer.req", &[good.as_slice(), b"x"].concat());
    put(
        "5-claim.req",
        &Frame::claim(1, hook_wire::Trust::TrustedPush, 60).drv(&format!("{}.drv", paths[0])).bytes(),
    );
    put("6-cli.req", &Frame::enqueue(Source::Cli).path(&paths[0]).bytes());
    put("7-kind.req", &Frame::empty(Kind::Ack).bytes());
    put("8-nothing-good.req", &Frame::enqueue(Source::Hook).path("/etc/passwd").bytes());
    fs::File::create(world.path("spool/9-huge.req")).unwrap().set_len(SPOOL_FILE_MAX as u64 + 1).unwrap();
    put("a-good.req", &Frame::enqueue(Source::Hook).path(&paths[1]).bytes());
    // A file that the hook had not finished; nobody but the hook may touch it.
    put(".b-unfinished.req.tmp", &good);
    world.start();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_eq!(names(&world, "spool"), [".b-unfinished.req.tmp"]);
    let refused = names(&world, "state/refused");
    assert_eq!(refused.len(), 9, "{refused:?}");
    let log = world.log();
    let reasons = [
        ("1-noise.req", "not a message for eka-queue"),
        ("2-empty.req", "the message ends too early"),
        ("3-cut.req", "the message ends too early"),
        ("4-longer.req", "1 bytes follow the end of the message"),
        ("5-claim.req", "holds no enqueue"),
        ("6-cli.req", "source `cli` is taken over the control socket alone"),
        ("7-kind.req", "holds no enqueue"),
        ("8-nothing-good.req", "no usable path: /etc/passwd"),
        ("9-huge.req", "is larger than a request can be"),
    ];
    for (name, reason) in reasons {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("refused, kept as") && line.contains(reason), "{line}");
    }
    // Put back by the operator, what was wrong with one may be right: it is taken like any other.
    fs::write(world.path("spool/0-again.req"), good).unwrap();
    world.until("main", "done", 2);
}

/// Links, folders, pipes and devices are not read: whoever may write here must not choose what the daemon opens.
#[test]
fn what_is_no_ordinary_file_is_moved_aside_unread() {
    let (mut world, paths) = stage();
    let spool = world.path("spool");
    let elsewhere = world.path("elsewhere");
    fs::write(&elsewhere, Frame::enqueue(Source::Hook).path(&paths[0]).bytes()).unwrap();
    symlink(&elsewhere, spool.join("1-link.req")).unwrap();
    symlink("/nonexistent", spool.join("2-dangling.req")).unwrap();
    fs::create_dir_all(spool.join("3-folder.req/with/more")).unwrap();
    assert!(world.tool("mkfifo").arg(spool.join("4-pipe.req")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(spool.join("5-socket.req")).unwrap();
    fs::write(spool.join("6-good.req"), Frame::enqueue(Source::Hook).path(&paths[1]).bytes()).unwrap();
    world.start();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let expected = ["1-link.req", "2-dangling.req", "3-folder.req", "4-pipe.req", "5-socket.req"];
    assert_eq!(names(&world, "state/refused"), expected);
    assert_eq!(world.log().matches("is no ordinary file").count(), 5, "{}", world.log());
    assert!(elsewhere.exists(), "what the link leads to is not touched");
    assert_eq!(world.list(&[]).len(), 1);
    super::assert_works(&world);
}

/// Whoever may write here may also replace a file at the very moment it is looked at; a pipe that was opened would be
/// read for ever.
#[test]
fn a_file_that_turns_into_a_pipe_or_a_link_holds_nobody() {
    let (mut world, paths) = stage();
    world.start();
    let spool = world.path("spool");
    let (file, other) = (spool.join(".file"), spool.join(".other"));
    for round in 0..2_000 {
        let name = spool.join(format!("{}.req", round % 7));
        fs::write(&file, b"noise").unwrap();
        match round % 2 {
            0 => mkfifo(&other, Mode::S_IRUSR).unwrap(),
            _ => symlink("/etc/passwd", &other).unwrap(),
        }
        fs::rename(&file, &name).unwrap();
        fs::rename(&other, &name).unwrap();
    }
    let good = Frame::enqueue(Source::Hook).path(&paths[0]).bytes();
    fs::write(&file, good).unwrap();
    fs::rename(&file, spool.join("9-good.req")).unwrap();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
}

/// The folder for refused files may lie on another disk. What is refused is not copied there: it may be a link to a
/// file that only the daemon can read, or a pipe.
#[test]
fn what_cannot_be_moved_to_another_disk_is_hidden_where_it_lies() {
    let disk = match Tmpfs::mount(32 << 20) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let (mut world, paths) = stage();
    symlink(disk.path(), world.path("state")).unwrap();
    let spool = world.path("spool");
    fs::write(spool.join("1-noise.req"), b"noise").unwrap();
    symlink("/etc/shadow", spool.join("2-link.req")).unwrap();
    mkfifo(&spool.join("3-pipe.req"), Mode::S_IRUSR).unwrap();
    fs::create_dir_all(spool.join("4-folder.req/with/more")).unwrap();
    fs::write(spool.join("5-good.req"), Frame::enqueue(Source::Hook).path(&paths[0]).bytes()).unwrap();
    world.start();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let hidden = ["1-noise", "2-link", "3-pipe", "4-folder"].map(|name| format!(".refused-{name}.req"));
    assert_eq!(names(&world, "spool"), hidden);
    assert_eq!(names(&world, "state/refused"), [""; 0]);
    assert!(
        world.log().contains(&format!("kept as {}", spool.join(&hidden[2]).display())),
        "{}",
        world.log()
    );
}

/// Names come from outside: they appear in the log escaped, and are no paths.
#[test]
fn names_of_any_kind_are_only_names() {
    use std::os::unix::ffi::OsStrExt;
    let (mut world, _) = stage();
    let odd: [&[u8]; 4] = [b"\xff\xfe", b"a\nb\x1b[31m", b"-rf *", b"$(touch x)"];
    for name in odd {
        fs::write(world.path("spool").join(std::ffi::OsStr::from_bytes(name)), b"noise").unwrap();
    }
    world.start();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_eq!(fs::read_dir(world.path("state/refused")).unwrap().count(), 4);
    let log = world.log();
    assert!(log.lines().all(|line| line.chars().all(|c| !c.is_control())), "{log:?}");
    super::assert_works(&world);
}

/// A source is a right here as well: only a file of root's, the daemon's or the CI's user speaks for the CI.
#[test]
fn the_owner_of_a_file_decides_what_it_may_say() {
    let (mut world, paths) = stage();
    let put = |name: &str, path: &str| {
        let file = world.path("spool").join(name);
        fs::write(&file, Frame::of_the_ci(hook_wire::Trust::TrustedPush).path(path).bytes()).unwrap();
        file
    };
    put("1-root.req", &paths[0]);
    let theirs = put("2-theirs.req", &paths[1]);
    if chown(&theirs, Some(UID), Some(UID)).is_err() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    world.start();
    world.until("main", "done", 1);
    wait::until(SOON, || world.log().contains("may not speak for the CI"));
    wait::until(SOON, || names(&world, "state/refused") == ["2-theirs.req"]);
    assert_eq!(world.list(&[])[0]["path"], paths[0].as_str());
}

/// The same request over the socket and, because the answer was lost, through the spool.
#[test]
fn a_request_that_was_taken_in_already_is_not_taken_in_twice() {
    let (mut world, paths) = stage();
    world.start();
    let frame = Frame::enqueue(Source::Hook).path(&paths[0]);
    assert_eq!(frame.send(&world).accepted, 1);
    world.until("main", "done", 1);
    fs::write(world.path("spool/1-again.req"), frame.bytes()).unwrap();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let shown: serde_json::Value =
        serde_json::from_str(&world.ask(&["show", "--json", &paths[0]]).out).unwrap();
    assert_eq!(shown["requests"].as_array().unwrap().len(), 1);
    assert_eq!(crate::world::lines(&world.path("main.log")).len(), 1);
}

/// A spool that cannot be used now is said, and used again when it can.
#[test]
fn a_spool_that_is_away_for_a_while() {
    let (mut world, paths) = stage();
    world.start();
    fs::rename(world.path("spool"), world.path("away")).unwrap();
    wait::until(SOON, || world.log().contains("cannot be read"));
    super::assert_works(&world);
    // The hook makes the folder anew; its file waits there until the daemon looks.
    let said = run(world.hook_command().args(["--socket", "/nonexistent", &paths[0]]), b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    world.until("main", "done", 2);
    assert_eq!(fs::metadata(world.path("spool")).unwrap().permissions().mode() & 0o777, 0o700);
}
