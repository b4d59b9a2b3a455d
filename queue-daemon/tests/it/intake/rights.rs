//! What another user may say, and what the daemon answers when it cannot tell who that is.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Stdio;

use hook_wire::{FieldTag, Source, Status};
use test_kit::wait;

use crate::frames::Frame;
use crate::nobody::{Nobody, UID, world_of};
use crate::world::{SOON, lines, may_mount, run, same_world};

/// To go in front of everybody, and to speak of commits and trust, is the CI's.
#[test]
fn what_only_the_ci_may_say_is_refused_from_others() {
    let mut world = world_of("");
    let paths = world.valid_paths(3);
    world.start();
    let Some(nobody) = Nobody::in_world(&world) else { return };
    assert_eq!(world.ask(&["pause"]).code, 0);
    let frame = |tag, value: &[u8]| Frame::enqueue(Source::Hook).path(&paths[0]).with(tag, value);
    let in_front = || frame(FieldTag::Priority, &i32::MAX.to_le_bytes());
    let said = [
        in_front(),
        frame(FieldTag::Repository, b"owner/name"),
        frame(FieldTag::Branch, b"main"),
        frame(FieldTag::Commit, b"0123"),
        frame(FieldTag::Trust, &[hook_wire::Trust::TrustedPush.number()]),
    ];
    for frame in said {
        let answer = nobody.says(&frame);
        assert_eq!(answer.status, Status::Refused, "{answer:?}");
        assert!(answer.text.contains("are for the CI: user 65534 may not speak for the CI"), "{answer:?}");
    }
    // The spool is no way around it.
    let file = world.path("spool/.1.req");
    fs::write(&file, in_front().bytes()).unwrap();
    chown(&file, Some(UID), Some(UID)).unwrap();
    fs::rename(&file, world.path("spool/1.req")).unwrap();
    wait::until(SOON, || world.path("state/refused/1.req").exists());
    assert_eq!(world.list(&[]).len(), 0);
    // What says nothing by it is taken, and who may is believed.
    assert_eq!(nobody.says(&frame(FieldTag::Priority, &[0; 4])).status, Status::Queued);
    let of_root = Frame::enqueue(Source::Hook).path(&paths[1]).with(FieldTag::Priority, 5_i32.to_le_bytes());
    assert_eq!(of_root.send(&world).status, Status::Queued);
    let shown: serde_json::Value =
        serde_json::from_str(&world.ask(&["show", "--json", &paths[1]]).out).unwrap();
    assert_eq!(shown["priority"], 5);
}

/// Two users build the same path: what the first said of it stays until somebody comes who may say better.
#[test]
fn nobody_replaces_the_words_of_another_user() {
    let mut world = world_of("");
    let paths = world.valid_paths(2);
    world.start();
    let drv = |name: &str| format!("{}/{:032}-{name}.drv", world.path("nix/store").display(), 0);
    let Some(nobody) = Nobody::in_world(&world) else { return };
    assert_eq!(world.ask(&["pause"]).code, 0);
    let says = |path: &str, name: &str| {
        Frame::enqueue(Source::Hook).path(path).drv(&drv(name)).with(FieldTag::Tag, name)
    };
    let words = |path: &str| {
        let rows = world.list(&[path]);
        let [row] = &rows[..] else { panic!("{rows:?}") };
        (row["drv"].as_str().unwrap().to_owned(), row["tag"].as_str().unwrap().to_owned())
    };
    let of = |name: &str| (drv(name), name.to_owned());

    assert_eq!(says(&paths[0], "ours").send(&world).status, Status::Queued);
    assert_eq!(nobody.says(&says(&paths[0], "theirs")).status, Status::Queued);
    assert_eq!(words(&paths[0]), of("ours"));
    assert_eq!(world.list(&["--tag", "theirs"]).len(), 1, "it is theirs to wait for all the same");

    assert_eq!(nobody.says(&says(&paths[1], "theirs")).status, Status::Queued);
    assert_eq!(nobody.says(&says(&paths[1], "theirs-again")).status, Status::Queued);
    assert_eq!(words(&paths[1]), of("theirs-again"), "their own words they may replace");
    assert_eq!(says(&paths[1], "ours").send(&world).status, Status::Queued);
    assert_eq!(words(&paths[1]), of("ours"), "and root may replace any");

    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 2);
    let told = lines(&world.path("main.log"));
    assert!(told.contains(&format!("{} | {}", paths[0], drv("ours"))) || told.len() == 1, "{told:?}");
    assert!(told.iter().all(|line| line.ends_with(&drv("ours"))), "{told:?}");

    // Delivered, and asked for again when that counts no more: it is theirs now.
    assert_eq!(world.ask(&["drop", &paths[0]]).code, 0);
    assert_eq!(nobody.says(&says(&paths[0], "theirs")).status, Status::Queued);
    assert_eq!(words(&paths[0]), of("theirs"));
}

/// The daemon in a machine whose list of users is away: it can refuse nobody for good, so hooks use the spool.
#[test]
fn while_users_cannot_be_looked_up_requests_wait_and_are_not_refused() {
    let mut world = world_of("allowed_users = [ \"somebody\" ]");
    let path = world.valid_paths(1).remove(0);
    if !may_mount() {
        return;
    }
    let log = world.path("daemon.log");
    world.start_with(|serve| {
        let daemon = serve.get_program().to_owned();
        let arguments: Vec<_> = serve.get_args().map(ToOwned::to_owned).collect();
        let mut inner = same_world(serve, "unshare");
        let listed = format!("somebody:x:{UID}:{UID}::/:/bin/sh");
        let script = format!("mount -t tmpfs none /etc && echo {listed} > /etc/passwd && exec \"$0\" \"$@\"");
        inner.args(["--mount", "sh", "-c", &script]);
        inner.arg(daemon).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        inner.stderr(fs::OpenOptions::new().append(true).open(&log).unwrap());
        *serve = inner;
    });
    let Some(nobody) = Nobody::in_world(&world) else { return };
    let etc = |name: &str| format!("/proc/{}/root/etc/{name}", world.daemon_pid());
    fs::rename(etc("passwd"), etc("away")).unwrap();
    let answer = nobody.says(&Frame::enqueue(Source::Hook).path(&path));
    assert_eq!(answer.status, Status::Busy, "{answer:?}");
    assert!(answer.text.contains("cannot be looked up now"), "{answer:?}");
    let said = run(nobody.hook().env("OUT_PATHS", &path), b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    wait::until(SOON, || world.log().contains("waits: the users and groups of this machine"));
    assert_eq!((world.list(&[]).len(), &world.status()["spool_files"]), (0, &1.into()));
    // Back again, it says who may: the file is taken in as if nothing had been.
    fs::rename(etc("away"), etc("passwd")).unwrap();
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["spool_files"] == 0);
    // And who is on no list is refused.
    fs::write(etc("passwd"), "somebody:x:7:7::/:/bin/sh\n").unwrap();
    let answer = nobody.says(&Frame::enqueue(Source::Hook).path(&path));
    assert_eq!(answer.status, Status::Refused, "{answer:?}");
}
