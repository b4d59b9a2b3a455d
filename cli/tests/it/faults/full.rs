//! Disks that are full, each in turn: that of what is remembered, that of checkouts, and Nix' own. With some room, more and
//! nearly enough. Either the answer is right all the same, or it is said which disk has no room; with room, all is well.

use std::path::Path;

use test_kit::tmpfs::Tmpfs;

use super::world::{World, report};

const DISK_BYTES: u64 = 16 << 20;
/// How much is left, in KiB.
const LEFT_KIB: [u64; 8] = [0, 8, 40, 90, 150, 220, 300, 600];

/// Runs with a disk that is full at each of several points. `variables` name the folders on it.
fn with_full_disk(variables: &[(&'static str, &str)]) {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("SKIPPED: {reason}");
            return;
        }
    };
    let mut world = World::new();
    world.places = variables.iter().map(|(name, folder)| (*name, disk.path().join(folder))).collect();
    let calm = world.report();
    let (mut refused, mut answered) = (0, 0);
    for left in LEFT_KIB {
        clear(&world, disk.path());
        let ballast = disk.fill().unwrap();
        ballast.leave(left << 10).unwrap();
        let said = world.stage.run(world.run(&[]));
        world.assert_still();
        if said.code == 3 {
            refused += 1;
            let place = disk.path().display().to_string();
            assert!(said.err.contains(&place), "with {left} KiB it names no folder: {said:?}");
            let remedy = ["make room", "free some", "that its disk is not full"];
            assert!(
                remedy.iter().any(|words| said.err.contains(words)),
                "no remedy with {left} KiB: {said:?}"
            );
        } else {
            answered += 1;
            let (report, unrecorded) = report(&said).without("This run is not recorded as a whole: ");
            assert_eq!(report, calm, "with {left} KiB");
            let place = disk.path().display().to_string();
            assert!(unrecorded.iter().all(|said| said.contains(&place)), "with {left} KiB: {unrecorded:?}");
        }
        ballast.remove().unwrap();
        assert_eq!(world.report(), calm, "with room again, after {left} KiB");
        world.assert_still();
    }
    println!("{refused} refused, {answered} answered");
    assert!(refused > 0);
    clear(&world, disk.path());
}

/// All that is on the disk, and all that is not.
fn clear(world: &World, disk: &Path) {
    world.forget();
    let disk = disk.display();
    world.stage.script("", &format!("chmod -R u+w {disk}; rm -rf {disk}/*"));
}

#[test]
fn of_what_is_remembered() {
    with_full_disk(&[("XDG_STATE_HOME", "state")]);
}

#[test]
fn of_checkouts() {
    with_full_disk(&[("XDG_CACHE_HOME", "cache")]);
}

#[test]
fn of_nix() {
    with_full_disk(&[
        ("NIX_STORE_DIR", "nix/store"),
        ("NIX_STATE_DIR", "nix/var"),
        ("NIX_LOG_DIR", "nix/log"),
    ]);
}
