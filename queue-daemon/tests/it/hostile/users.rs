//! Another user of the machine at the daemon's doors.

use std::fs;

use hook_wire::{Source, Status};
use test_kit::wait;

use crate::frames::Frame;
use crate::nobody::{Nobody, UID, world_of};
use crate::world::{SOON, World, run};

#[test]
fn who_is_not_allowed_is_told_so_and_no_build_fails() {
    let mut world = world_of("allowed_users = [ \"root\" ]");
    let path = world.valid_paths(1).remove(0);
    world.start();
    let Some(nobody) = Nobody::in_world(&world) else { return };
    let said = run(nobody.hook().env("OUT_PATHS", &path), b"");
    let line = format!(
        "eka-hook: user {UID} may not enqueue; allowed_users and allowed_groups of [queue] decide that\n"
    );
    assert_eq!((said.code, said.err.as_str()), (0, line.as_str()));
    assert_eq!(run(nobody.hook().args(["--strict", &path]), b"").code, 1);
    assert_eq!(world.list(&[]).len(), 0);
    assert_eq!(world.status()["spool_files"], 0, "a refusal is no reason to spool");
    super::assert_works(&world);
}

#[test]
fn users_and_groups_on_the_lists_may() {
    for list in [format!("allowed_users = [ \"{UID}\" ]"), format!("allowed_groups = [ \"{UID}\" ]")] {
        let mut world = world_of(&list);
        let path = world.valid_paths(1).remove(0);
        world.start();
        let Some(nobody) = Nobody::in_world(&world) else { return };
        let said = run(nobody.hook().env("OUT_PATHS", &path), b"");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        world.until("main", "done", 1);
        let shown: serde_json::Value =
            serde_json::from_str(&world.ask(&["show", "--json", &path]).out).unwrap();
        assert_eq!(shown["uid"], UID);
    }
}

/// Outside of the group neither the socket nor the spool can be reached: one clear line, and the build goes on.
#[test]
fn who_cannot_open_the_socket_gets_one_line() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    let Some(nobody) = Nobody::in_world(&world) else { return };
    let said = run(nobody.hook().env("OUT_PATHS", &path), b"");
    assert_eq!((said.code, said.err.lines().count()), (0, 1), "{said:?}");
    assert!(said.err.starts_with("eka-hook: 1 path is not queued. "), "{said:?}");
    assert!(said.err.contains(world.path("enqueue.sock").to_str().unwrap()), "{said:?}");
    super::assert_works(&world);
}

/// Full: further requests wait in the spool, others' do not, and when there is room they are taken in.
#[test]
fn a_user_at_its_quota_waits_in_the_spool_and_holds_nobody() {
    let mut world = world_of("quota_per_uid = 2");
    let paths = world.valid_paths(6);
    world.start();
    let Some(nobody) = Nobody::in_world(&world) else { return };
    assert_eq!(world.ask(&["pause"]).code, 0);
    // One request may go past the quota, or one that is larger would wait for ever.
    let hook = |paths: &[String]| {
        let said = run(nobody.hook().env("OUT_PATHS", paths.join(" ")), b"");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    };
    hook(&paths[..1]);
    hook(&paths[1..4]);
    assert_eq!(world.count("main", "queued"), 4);
    hook(&paths[4..5]);
    assert_eq!((world.count("main", "queued"), &world.status()["spool_files"]), (4, &1.into()));
    assert_eq!(nobody.says(&Frame::enqueue(Source::Hook).path(&paths[4])).status, Status::Busy);
    // The spool asks again from time to time, and root's file behind it goes past.
    let said = run(world.hook_command().args(["--socket", "/nonexistent", &paths[5]]), b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    world.until("main", "queued", 5);
    assert_eq!(world.status()["spool_files"], 1);
    assert!(
        world.log().contains("waits: user 65534 has 4 deliveries queued (quota_per_uid)"),
        "{}",
        world.log()
    );

    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 6);
    wait::until(SOON, || world.status()["spool_files"] == 0);
}

/// A spool file says who wrote it by its owner: what may not come over the socket may not come this way.
#[test]
fn the_spool_is_no_way_around_the_lists() {
    let mut world = world_of("allowed_users = [ \"root\" ]");
    let paths = world.valid_paths(2);
    world.start();
    let Some(nobody) = Nobody::in_world(&world) else { return };
    let said = run(nobody.hook().args(["--socket", "/nonexistent", &paths[0]]), b"");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    wait::until(SOON, || world.log().contains("may not enqueue"));
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_eq!(world.list(&[]).len(), 0);
    assert_eq!(fs::read_dir(world.path("state/refused")).unwrap().count(), 1, "kept for the operator");
    super::assert_works(&world);
}
