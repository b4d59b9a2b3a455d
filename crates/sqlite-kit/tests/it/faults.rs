//! Disks that are full or broken: every caller of the group hears it, nothing half-done is kept, reading goes
//! on, and the writer goes on by itself when the disk does.

use std::sync::{Mutex, OnceLock};

use sqlite_kit::rusqlite;
use sqlite_kit::{CallError, Lane, Options, Reader, StoreKind, Writer};
use test_kit::tmpfs::Tmpfs;
use test_kit::vfs::{Fault, Shim};
use test_kit::wait;

use crate::kit::{Answer, Db, Gate, MIGRATIONS, SOON, insert, insert_padded, items, options, runtime};

fn kind(answer: Answer) -> StoreKind {
    match answer {
        Err(CallError::Store(error)) => error.kind,
        other => panic!("expected the store to fail, got {other:?}"),
    }
}

fn with_faults(name: &str) -> (Db, Shim) {
    let shim = Shim::install(name);
    let db = Db::on(Some(name));
    db.insert(0).unwrap();
    (db, shim)
}

#[test]
fn a_full_disk_fails_the_whole_group_and_passes() {
    let (db, shim) = with_faults("full-group");
    let gate = Gate::close(&db.writer);
    let calls: Vec<_> = (1..=9).map(|n| db.writer.call(Lane::Normal, move |tx| insert(tx, n))).collect();
    shim.fail(Fault::Full, 0);
    gate.open();
    for call in calls {
        assert_eq!(kind(runtime().block_on(call)), StoreKind::Full);
    }
    assert_eq!(kind(db.insert(1)), StoreKind::Full);
    assert_eq!(db.items(), [0], "reading goes on");
    shim.heal();
    db.insert(1).unwrap();
    assert_eq!(db.items(), [0, 1]);
    assert!(db.writer.stats().commits_failed >= 2);
}

/// Too much for the page cache, so SQLite writes, fails and rolls back under the job, before the commit.
#[test]
fn a_disk_that_fills_under_a_job_fails_its_group_consistently() {
    let (db, shim) = with_faults("full-job");
    let gate = Gate::close(&db.writer);
    let before = db.writer.call(Lane::Normal, |tx| insert(tx, 1));
    let large = db.writer.call(Lane::Normal, |tx| (100..2000).try_for_each(|n| insert_padded(tx, n, 6000)));
    let after = db.writer.call(Lane::Normal, |tx| insert(tx, 2));
    shim.fail(Fault::Full, 0);
    gate.open();
    let runtime = runtime();
    for call in [runtime.block_on(before), runtime.block_on(large), runtime.block_on(after)] {
        let kind = kind(call);
        assert!(matches!(kind, StoreKind::Full | StoreKind::RolledBack), "{kind:?}");
    }
    assert_eq!(db.items(), [0]);
    shim.heal();
    db.insert(3).unwrap();
    assert_eq!(db.items(), [0, 3]);
}

#[test]
fn a_write_error_is_told_as_such_and_passes() {
    let (db, shim) = with_faults("write-error");
    shim.fail(Fault::WriteError, 0);
    assert_eq!(kind(db.insert(1)), StoreKind::Io);
    shim.heal();
    db.insert(1).unwrap();
    assert_eq!(db.items(), [0, 1]);
}

#[test]
fn what_could_not_be_flushed_is_not_acknowledged() {
    let (db, shim) = with_faults("sync-error");
    shim.fail(Fault::SyncError, 0);
    assert_eq!(kind(db.insert(1)), StoreKind::Io);
    assert_eq!(shim.heal(), 1);
    assert_eq!(db.items(), [0]);
    db.insert(1).unwrap();
    assert_eq!(db.items(), [0, 1]);
}

#[test]
fn another_program_that_holds_the_database_is_named() {
    let db = Db::new();
    let other = lock(&db);
    let answer = db.insert(1);
    assert_eq!(kind(answer), StoreKind::Busy);
    drop(other);
    db.insert(2).unwrap();
    assert_eq!(db.items(), [2]);
}

#[expect(clippy::disallowed_methods, reason = "plays another program")]
fn lock(db: &Db) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(&db.options.path).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    conn
}

#[test]
fn a_failure_tells_what_where_and_the_remedy_once() {
    let (db, shim) = with_faults("failure-text");
    shim.fail(Fault::Full, 0);
    let error = db.insert(1).unwrap_err();
    shim.heal();
    let path = db.options.path.display();
    let text = format!("commit in database {path}: no space left; free some, the writer goes on by itself");
    assert_eq!(error.to_string(), text);
    let CallError::Store(error) = error else { panic!("{error:?}") };
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "database or disk is full");
}

#[test]
fn a_real_full_disk_is_survived() {
    let tmpfs = match Tmpfs::mount(3 << 20) {
        Ok(tmpfs) => tmpfs,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let options = options(tmpfs.path());
    let (writer, thread) = Writer::open(&options, MIGRATIONS).unwrap();
    let reader = Reader::open(&options, MIGRATIONS).unwrap();
    let insert = |n| writer.call_blocking(Lane::Urgent, move |tx| insert_padded(tx, n, 3000));
    insert(0).unwrap();
    let ballast = tmpfs.fill().unwrap();
    let acked = (1..1000).take_while(|n| insert(*n).is_ok()).count();
    let full = insert(5000);
    assert_eq!(kind(full), StoreKind::Full);
    assert_eq!(items(&reader).len(), 1 + acked, "reading goes on, and finds what was acknowledged");
    ballast.remove().unwrap();
    insert(5000).unwrap();
    thread.stop();
    assert_sound(&options, 2 + acked);
}

fn assert_sound(options: &Options, rows: usize) {
    let conn = sqlite_kit::open_foreign_read_only(&options.path).unwrap();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    assert_eq!(crate::kit::numbers(&conn).unwrap().len(), rows);
}

#[test]
fn a_full_disk_during_a_checkpoint_loses_nothing_and_passes() {
    let (db, shim) = with_faults("full-checkpoint");
    let first = Gate::close(&db.writer);
    let large = |n| db.writer.call(Lane::Normal, move |tx| insert_padded(tx, n, 5_000_000));
    let call = large(1);
    let second = Gate::queue(&db.writer);
    first.open();
    second.holds();
    runtime().block_on(call).unwrap();
    assert!(db.writer.stats().log_pages > 1000, "it is for the idle writer to checkpoint");
    shim.fail(Fault::Full, 0);
    second.open();
    wait::until(SOON, || db.writer.stats().checkpoints_failed == 1);
    assert!(shim.heal() > 0);
    db.insert(2).unwrap();
    runtime().block_on(large(3)).unwrap();
    wait::until(SOON, || db.writer.stats().checkpoints == 1);
    assert_eq!(db.items(), [0, 1, 2, 3]);
    db.thread.stop();
    assert_sound(&db.options, 4);
}

#[test]
fn a_posted_job_that_fails_is_logged_with_its_cause() {
    let log = log();
    let db = Db::new();
    db.writer.post(Lane::Normal, "note something", |tx| {
        tx.execute("INSERT INTO nowhere VALUES (1)", []).map(drop)
    });
    db.insert(1).unwrap();
    let said = || log.lock().unwrap().iter().any(|l| l.contains("note something: no such table: nowhere"));
    wait::until(SOON, said);
}

/// What the process logged since the first call.
fn log() -> &'static Mutex<Vec<String>> {
    static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    LINES.get_or_init(|| {
        tracing::subscriber::set_global_default(Capture).unwrap();
        Mutex::default()
    })
}

struct Capture;

impl tracing::Subscriber for Capture {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        log().lock().unwrap().push(message.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
