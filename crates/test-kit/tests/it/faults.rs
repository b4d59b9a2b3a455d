//! The layer below SQLite: what it counts, delays and refuses reaches SQLite as the real thing would.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use test_kit::vfs::{Fault, Shim};

use crate::powercut::{insert, open};

fn code(done: rusqlite::Result<()>) -> Option<ErrorCode> {
    done.expect_err("the fault is on").sqlite_error_code()
}

fn full_wal(dir: &tempfile::TempDir, shim: Shim) -> Connection {
    open(&dir.path().join("db"), shim.name(), "WAL", "FULL")
}

#[test]
fn each_commit_is_one_counted_and_delayed_flush() {
    let dir = tempfile::tempdir().unwrap();
    let shim = Shim::install("counts-flushes");
    let conn = full_wal(&dir, shim);
    conn.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    insert(&conn, 0).unwrap();
    shim.slow_flush(Duration::from_millis(3));
    let (before, start) = (shim.flushes(), Instant::now());
    for n in 1..=10 {
        insert(&conn, n).unwrap();
    }
    assert_eq!(shim.flushes() - before, 10);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_full_disk_refuses_writes_until_healed() {
    let dir = tempfile::tempdir().unwrap();
    let shim = Shim::install("full-disk");
    let conn = full_wal(&dir, shim);
    shim.fail(Fault::Full, 0);
    assert_eq!(code(insert(&conn, 1)), Some(ErrorCode::DiskFull));
    assert_eq!(code(insert(&conn, 1)), Some(ErrorCode::DiskFull));
    assert_eq!(shim.heal(), 2);
    insert(&conn, 1).unwrap();
}

#[test]
fn the_nth_write_fails_and_not_the_ones_before() {
    let dir = tempfile::tempdir().unwrap();
    let shim = Shim::install("nth-write");
    let conn = full_wal(&dir, shim);
    insert(&conn, 0).unwrap();
    let before = shim.writes();
    insert(&conn, 1).unwrap();
    let writes_of_one_insert = shim.writes() - before;
    shim.fail(Fault::WriteError, 2 * writes_of_one_insert);
    insert(&conn, 2).unwrap();
    insert(&conn, 3).unwrap();
    assert_eq!(code(insert(&conn, 4)), Some(ErrorCode::SystemIoFailure));
}

#[test]
fn a_failed_flush_fails_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let shim = Shim::install("failed-flush");
    let conn = full_wal(&dir, shim);
    shim.fail(Fault::SyncError, 0);
    assert_eq!(code(insert(&conn, 1)), Some(ErrorCode::SystemIoFailure));
    shim.heal();
    insert(&conn, 1).unwrap();
}
