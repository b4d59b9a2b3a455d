//! A folder whose file system hangs holds nobody but those who go there.
//!
//! FIFOs in place of narinfo files stand for it: whoever opens one hangs, and nothing can call that off.

use std::fs;

use test_kit::wait;

use super::stage::{Made, block, made, narinfo_key, queue_with};
use crate::world::{SOON, World, tool};

/// More than the daemon has blocking threads.
const HUNG: usize = 40;

#[test]
fn a_folder_that_hangs_is_stuck_and_holds_neither_others_nor_the_end() {
    let mut world = World::new("");
    let keys = "timeout = \"1s\"\nbackoff = { min = \"20ms\", max = \"50ms\" }\n\
                breaker = { failures = 1000, probe = \"1s\" }";
    let url = |id: &str| format!("file://{}", world.path(id).display());
    world.configure("", &(block("hung", &url("hung"), keys) + &block("fine", &url("fine"), "")));
    let set: Vec<Made> = (0..=HUNG).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
    let paths = made(&world, &set);
    fs::create_dir(world.path("hung")).unwrap();
    let info = format!("StoreDir: {}\n", world.path("nix/store").display());
    fs::write(world.path("hung/nix-cache-info"), info).unwrap();
    for path in &paths[..HUNG] {
        let fifo = world.path("hung").join(narinfo_key(path));
        assert!(tool("mkfifo").arg(fifo).status().unwrap().success());
    }
    world.start();
    // One after the other, so that each batch hangs on a thread of its own.
    for path in &paths[..HUNG] {
        queue_with(&world, &["--to", "hung"], std::slice::from_ref(path));
    }
    // Those that were asked for first are tried again first, so it may be the same few all the time.
    let rows = || world.list(&["--destination", "hung"]);
    let attempts = || rows().iter().map(|row| row["attempts"].as_u64().unwrap()).sum::<u64>();
    assert!(wait::comes_true(4 * SOON, || attempts() >= 20), "{:#?}\n{}", rows(), world.log());
    let is_stuck = |why: &str| why.contains("the folder did not answer for 1s");
    assert!(rows().iter().all(|row| row["last_error"].as_str().is_none_or(is_stuck)), "{:#?}", rows());
    queue_with(&world, &["--to", "fine"], &paths[HUNG..]);
    world.until("fine", "done", 1);
    let threads = fs::read_dir(format!("/proc/{}/task", world.daemon_pid())).unwrap().filter_map(Result::ok);
    let names = threads.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let folder = names.filter(|name| name.trim() == "folder").count();
    assert!(folder <= 2 * 8, "{folder} threads for two folders");
    assert_eq!(world.stop(), 0, "{}", world.log());
}
