//! Group commit: who shares a flush, who is undone alone, who goes first, and what stopping means.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use sqlite_kit::rusqlite::{self, types::Value};
use sqlite_kit::{BACKLOG_MAX, CallError, Lane, Tx, typed_id};
use test_kit::vfs::Shim;
use test_kit::wait;

use crate::kit::{Db, Gate, SOON, insert, insert_padded, numbers, runtime};

#[test]
fn jobs_that_wait_share_a_flush() {
    let shim = Shim::install("share-a-flush");
    let db = Db::on(Some("share-a-flush"));
    db.insert(0).unwrap();
    let before = shim.flushes();
    let gate = Gate::close(&db.writer);
    let calls: Vec<_> = (1..=100).map(|n| db.writer.call(Lane::Urgent, move |tx| insert(tx, n))).collect();
    gate.open();
    for call in calls {
        runtime().block_on(call).unwrap();
    }
    let flushes = shim.flushes() - before;
    assert!((1..=10).contains(&flushes), "{flushes} flushes for 100 jobs");
    assert!(db.writer.stats().group_jobs_max >= 10);
    assert_eq!(db.items().len(), 101);
}

#[test]
fn a_job_alone_is_flushed_alone() {
    let shim = Shim::install("flushed-alone");
    let db = Db::on(Some("flushed-alone"));
    db.insert(0).unwrap();
    for n in 1..=5 {
        let before = shim.flushes();
        db.insert(n).unwrap();
        assert_eq!(shim.flushes() - before, 1);
    }
}

#[test]
fn a_job_that_says_no_takes_back_only_its_own_rows() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    let first = db.writer.call(Lane::Urgent, |tx| insert(tx, 1));
    let second = db.writer.call(Lane::Urgent, |tx| {
        insert(tx, 2).unwrap();
        Err::<(), _>("no")
    });
    let third = db.writer.call(Lane::Urgent, |tx| insert(tx, 1));
    let fourth = db.writer.call(Lane::Urgent, |tx| insert(tx, 4));
    gate.open();
    let runtime = runtime();
    runtime.block_on(first).unwrap();
    assert!(matches!(runtime.block_on(second), Err(CallError::Job("no"))));
    assert!(matches!(runtime.block_on(third), Err(CallError::Job(rusqlite::Error::SqliteFailure(..)))));
    runtime.block_on(fourth).unwrap();
    assert_eq!(db.items(), [1, 4]);
    assert_eq!(db.writer.stats().jobs_failed, 2);
}

#[test]
fn lanes_are_served_in_their_order_and_bulk_one_by_one() {
    let db = Db::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    let post = |lane: Lane, name: &'static str| {
        let order = Arc::clone(&order);
        db.writer.post(lane, name, move |_| {
            order.lock().unwrap().push(name);
            Ok::<_, rusqlite::Error>(())
        });
    };
    let gate = Gate::close(&db.writer);
    post(Lane::Bulk, "bulk 1");
    post(Lane::Bulk, "bulk 2");
    post(Lane::Normal, "normal");
    post(Lane::Urgent, "urgent");
    let before = db.writer.stats();
    assert_eq!(before.backlog, [1, 1, 2]);
    gate.open();
    wait::until(SOON, || db.writer.stats().commits == before.commits + 3);
    assert_eq!(*order.lock().unwrap(), ["urgent", "normal", "bulk 1", "bulk 2"]);
}

#[test]
fn a_full_lane_refuses_at_once_and_the_others_do_not() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    let nothing = |_: &Tx<'_>| Ok::<_, rusqlite::Error>(());
    let calls: Vec<_> = (0..BACKLOG_MAX).map(|_| db.writer.call(Lane::Urgent, nothing)).collect();
    let runtime = runtime();
    let refused = runtime.block_on(db.writer.call(Lane::Urgent, nothing));
    assert!(matches!(refused, Err(CallError::Backlog { lane: Lane::Urgent })));
    assert!(matches!(db.writer.call_blocking(Lane::Urgent, nothing), Err(CallError::Backlog { .. })));
    assert_eq!(db.writer.stats().jobs_refused, 2);
    let normal = db.writer.call(Lane::Normal, nothing);
    gate.open();
    for call in calls {
        runtime.block_on(call).unwrap();
    }
    runtime.block_on(normal).unwrap();
}

#[test]
fn a_job_whose_caller_went_away_is_still_done() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    drop(db.writer.call(Lane::Urgent, |tx| insert(tx, 1)));
    gate.open();
    db.insert(2).unwrap();
    assert_eq!(db.items(), [1, 2]);
}

#[test]
fn stopping_does_what_is_queued_and_refuses_the_rest() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    let calls: Vec<_> = (1..=20).map(|n| db.writer.call(Lane::Normal, move |tx| insert(tx, n))).collect();
    let (writer, thread) = (db.writer.clone(), db.thread);
    let stopping = std::thread::spawn(move || thread.stop());
    wait::until(SOON, || {
        let mut call = pin!(writer.call(Lane::Urgent, |_| Ok::<_, ()>(())));
        matches!(
            call.as_mut().poll(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Err(CallError::Stopped))
        )
    });
    gate.open();
    stopping.join().unwrap();
    for call in calls {
        runtime().block_on(call).unwrap();
    }
}

#[test]
fn after_stopping_all_is_in_the_one_file() {
    let db = Db::new();
    for n in 0..50 {
        db.insert(n).unwrap();
    }
    db.thread.stop();
    assert!(!std::fs::exists(db.dir.path().join("db-wal")).unwrap());
    let copy = db.dir.path().join("copy");
    std::fs::copy(db.dir.path().join("db"), &copy).unwrap();
    let conn = sqlite_kit::open_foreign_read_only(&copy).unwrap();
    assert_eq!(numbers(&conn).unwrap().len(), 50);
}

#[test]
fn a_panic_in_a_job_leaves_nobody_waiting() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    let broken = db.writer.call(Lane::Urgent, |_| -> Result<(), ()> { panic!("a broken promise") });
    let behind = db.writer.call(Lane::Bulk, |tx| insert(tx, 1));
    gate.open();
    let runtime = runtime();
    assert!(matches!(runtime.block_on(broken), Err(CallError::Stopped)));
    assert!(matches!(runtime.block_on(behind), Err(CallError::Stopped)));
    wait::until(SOON, || db.thread.is_finished());
    assert!(matches!(db.insert(2), Err(CallError::Stopped)));
    assert_eq!(db.items(), [] as [i64; 0]);
}

#[test]
fn an_idle_writer_empties_the_log_into_the_database() {
    let db = Db::new();
    let large = |tx: &Tx<'_>| insert_padded(tx, 1, 5_000_000);
    db.writer.call_blocking(Lane::Normal, large).unwrap();
    wait::until(SOON, || db.writer.stats().checkpoints == 1);
    let bytes = std::fs::metadata(&db.options.path).unwrap().len();
    assert!(bytes > 5_000_000, "{bytes}");
}

#[test]
fn a_busy_writer_empties_the_log_too() {
    let db = Db::new();
    let gate = Gate::close(&db.writer);
    // Bulk jobs commit one by one, and there is always the next: the writer is never idle.
    let calls: Vec<_> =
        (0..50).map(|n| db.writer.call(Lane::Bulk, move |tx| insert_padded(tx, n, 1_000_000))).collect();
    gate.open();
    for call in calls {
        runtime().block_on(call).unwrap();
    }
    let checkpoints = db.writer.stats().checkpoints;
    assert!((2..=4).contains(&checkpoints), "{checkpoints}");
    let log_bytes = std::fs::metadata(db.file("-wal")).unwrap().len();
    assert!(log_bytes < 32 << 20, "{log_bytes} bytes of log for 50 MB of rows");
    assert_eq!(db.items().len(), 50);
}

#[test]
fn a_long_reader_does_not_make_every_commit_checkpoint() {
    let db = Db::new();
    db.insert(0).unwrap();
    let read = db.reader().with(|conn| {
        assert_eq!(numbers(conn).unwrap(), [0]);
        for n in 1..=60 {
            let large = move |tx: &Tx<'_>| insert_padded(tx, n, 1_000_000);
            db.writer.call_blocking(Lane::Bulk, large).unwrap();
        }
        let checkpoints = db.writer.stats().checkpoints;
        assert!(checkpoints < 20, "{checkpoints} checkpoints for 15,000 pages");
        Ok::<_, sqlite_kit::Error>(numbers(conn).unwrap())
    });
    assert_eq!(read.unwrap(), [0]);
    assert_eq!(db.items().len(), 61);
}

#[test]
fn counters_say_what_happened() {
    let db = Db::new();
    let before = db.writer.stats();
    for n in 0..10 {
        db.insert(n).unwrap();
    }
    let after = db.writer.stats();
    assert_eq!(after.jobs - before.jobs, 10);
    assert_eq!(after.commits - before.commits, 10);
    assert_eq!(after.flushes.iter().sum::<u64>(), after.commits);
    assert!(after.flush_total > before.flush_total);
    assert!(after.log_pages > 0);
    assert_eq!(after.commits_failed, 0);
}

typed_id!(
    /// An id of the test's table.
    ItemId
);

#[test]
fn a_typed_id_goes_in_and_out_of_sql() {
    let db = Db::new();
    let id = db.writer.call_blocking(Lane::Normal, |tx| {
        tx.execute("INSERT INTO item VALUES (?1, x'')", [ItemId(41)])?;
        tx.query_row("SELECT n FROM item", [], |row| row.get::<_, ItemId>(0))
    });
    assert_eq!(id.unwrap(), ItemId(41));
    let text = db.writer.call_blocking(Lane::Normal, |tx| {
        tx.query_row("SELECT 'x'", [], |row| row.get::<_, ItemId>(0).map(drop).or(Ok(())))
            .map(|()| Value::Null)
    });
    assert_eq!(text.unwrap(), Value::Null);
}
