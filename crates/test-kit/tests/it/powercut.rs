//! The recorder and replayer, judged by settings of SQLite whose promises are known: those that lose or damage
//! must be caught, those that do not must never be accused.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;
use test_kit::powercut::{Plan, Variant, Verdict, images, seeds_wanted, verify};
use test_kit::seed;
use test_kit::vfs::{Log, Op, Recorder};

const ROWS: u64 = 40;

/// SQLite as others would set it, checkpointing after every few commits.
#[expect(
    clippy::disallowed_methods,
    reason = "the tool is judged by settings that sqlite_kit does not offer"
)]
pub(crate) fn open(path: &Path, vfs: &str, journal: &str, synchronous: &str) -> Connection {
    let flags = rusqlite::OpenFlags::default();
    let conn = Connection::open_with_flags_and_vfs(path, flags, vfs).unwrap();
    conn.pragma_update(None, "synchronous", synchronous).unwrap();
    conn.pragma_update(None, "journal_mode", journal).unwrap();
    conn.pragma_update(None, "wal_autocheckpoint", 12).unwrap();
    conn.execute_batch("CREATE TABLE IF NOT EXISTS item (n INTEGER PRIMARY KEY, pad TEXT)").unwrap();
    conn
}

pub(crate) fn insert(conn: &Connection, n: u64) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO item VALUES (?1, hex(zeroblob(?1 * 37 % 900)))", [n.cast_signed()]).map(drop)
}

fn read(conn: &Connection) -> rusqlite::Result<BTreeSet<u64>> {
    conn.prepare("SELECT n FROM item")?.query_map([], |row| row.get(0).map(i64::cast_unsigned))?.collect()
}

/// A run that acknowledges each row after its commit, with a close and another open in the middle.
fn run(name: &str, journal: &str, synchronous: &str) -> Log {
    let dir = tempfile::tempdir().unwrap();
    let recorder = Recorder::install(name);
    for half in [1..=ROWS / 2, ROWS / 2 + 1..=ROWS] {
        let conn = open(&dir.path().join("db"), name, journal, synchronous);
        for n in half {
            insert(&conn, n).unwrap();
            recorder.ack(n);
        }
    }
    recorder.log()
}

#[derive(Debug, Default)]
struct Tally {
    images: usize,
    lost: usize,
    damaged: usize,
    first: Option<String>,
}

fn judge(log: &Log, plan: &Plan) -> Tally {
    let dir = test_kit::powercut::fast_dir();
    let mut tally = Tally::default();
    for image in images(log, plan) {
        tally.images += 1;
        let verdict = verify(&image, dir.path(), "db", read);
        match verdict {
            Verdict::Sound => continue,
            Verdict::Lost(_) => tally.lost += 1,
            Verdict::Damaged(_) => tally.damaged += 1,
        }
        tally.first.get_or_insert_with(|| format!("{image}: {verdict:?}"));
    }
    tally
}

fn exhaustive(log: &Log, seeds: u64) -> Tally {
    let seed = seed::start().rng.next_u64();
    let tally = judge(log, &Plan::exhaustive(seed, seeds));
    println!("{} images from {} operations, seed {seed}: {tally:?}", tally.images, log.ops.len());
    tally
}

#[test]
fn a_log_flushed_at_each_commit_loses_nothing() {
    let tally = exhaustive(&run("wal-full", "WAL", "FULL"), seeds_wanted(4));
    assert_eq!((tally.lost, tally.damaged), (0, 0), "{tally:?}");
    assert!(tally.images > 2000, "{tally:?}");
}

#[test]
fn a_log_flushed_at_checkpoints_only_is_caught_losing_but_not_damaging() {
    let tally = exhaustive(&run("wal-normal", "WAL", "NORMAL"), 1);
    assert!(tally.lost > 100, "{tally:?}");
    assert_eq!(tally.damaged, 0, "{tally:?}");
}

#[test]
fn a_database_that_is_never_flushed_is_caught_losing_and_damaged() {
    let tally = exhaustive(&run("wal-off", "WAL", "OFF"), 2);
    assert!(tally.lost > 100, "{tally:?}");
    assert!(tally.damaged > 10, "{tally:?}");
}

#[test]
fn kill_9_alone_proves_nothing_about_a_power_cut() {
    let log = run("wal-off-killed", "WAL", "OFF");
    let plan = Plan { variants: vec![Variant::KeepAll], ..Plan::exhaustive(0, 1) };
    let tally = judge(&log, &plan);
    assert_eq!((tally.lost, tally.damaged), (0, 0), "{tally:?}");
}

/// Here a commit is the deletion of the journal, certain only once the folder is flushed.
#[test]
fn names_need_their_own_flush() {
    let flushed = exhaustive(&run("delete-extra", "DELETE", "EXTRA"), 1);
    assert_eq!((flushed.lost, flushed.damaged), (0, 0), "{flushed:?}");
    let not_flushed = exhaustive(&run("delete-full", "DELETE", "FULL"), 1);
    assert!(not_flushed.lost > 0, "{not_flushed:?}");
    assert_eq!(not_flushed.damaged, 0, "{not_flushed:?}");
}

/// A recorder without deletions or truncations would accuse the innocent: a journal that is not seen to go
/// rolls back what was committed. So that they are recorded is what keeps the verdicts above true.
#[test]
fn forgotten_deletions_and_truncations_would_cry_wolf() {
    let whole = run("deletes", "DELETE", "EXTRA");
    let forgetful = without(&whole, |op| matches!(op, Op::Delete { .. }));
    assert!(accused(&forgetful) > 0);
    assert_eq!(accused(&whole), 0);

    let whole = run("truncates", "TRUNCATE", "FULL");
    let forgetful = without(&whole, |op| matches!(op, Op::Truncate { .. }));
    assert!(accused(&forgetful) > 0);
    assert_eq!(accused(&whole), 0);
}

fn accused(log: &Log) -> usize {
    let tally = exhaustive(log, 1);
    tally.lost + tally.damaged
}

fn without(log: &Log, forget: impl Fn(&Op) -> bool) -> Log {
    let ops: Vec<Op> = log.ops.iter().filter(|op| !forget(op)).cloned().collect();
    assert!(ops.len() < log.ops.len(), "there was something to forget");
    Log { ops }
}

#[test]
fn a_database_from_before_the_recording_is_part_of_every_image() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let old = open(&path, "unix", "WAL", "FULL");
    insert(&old, 1).unwrap();
    drop(old);
    let recorder = Recorder::install("found");
    recorder.ack(1);
    let conn = open(&path, "found", "WAL", "FULL");
    insert(&conn, 2).unwrap();
    recorder.ack(2);
    drop(conn);
    // The first operation is the acknowledgement; the file is met right after it.
    let mut log = recorder.log();
    log.ops.swap(0, 1);
    let tally = exhaustive(&log, 1);
    assert_eq!((tally.lost, tally.damaged), (0, 0), "{tally:?}");
}

#[test]
fn the_same_plan_gives_the_same_images() {
    let log = run("repeatable", "WAL", "NORMAL");
    let plan = Plan { every_cut: 7, ..Plan::exhaustive(42, 2) };
    let contents = |image: &test_kit::powercut::Image| {
        let dir = tempfile::tempdir().unwrap();
        image.materialise(dir.path()).unwrap();
        std::fs::read(dir.path().join("db-wal")).ok()
    };
    let pairs = images(&log, &plan).zip(images(&log, &plan));
    assert!(pairs.into_iter().all(|(a, b)| contents(&a) == contents(&b) && a.acked() == b.acked()));
}
