//! The state folder's lock across processes: refused while the other lives, free as soon as it is killed.

use service_kit::lock::{LockError, StateLock};

use crate::children::Helper;

#[test]
fn a_killed_holder_frees_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let mut holder = Helper::start("locking::child_holds_the_lock", &[("LOCK_TEST_DIR", folder)]);
    let pid: u32 = holder.line_after("holding as ").parse().unwrap();
    let refused = StateLock::take(dir.path()).unwrap_err();
    assert!(matches!(refused, LockError::StateLocked { pid: Some(p), .. } if p == pid), "{refused}");
    holder.signal("KILL");
    holder.wait();
    StateLock::take(dir.path()).unwrap();
}

#[test]
#[ignore = "the child of a_killed_holder_frees_the_folder"]
fn child_holds_the_lock() {
    let folder = std::env::var("LOCK_TEST_DIR").unwrap();
    let _lock = StateLock::take(folder.as_ref()).unwrap();
    println!("holding as {}", std::process::id());
    loop {
        std::thread::park();
    }
}
