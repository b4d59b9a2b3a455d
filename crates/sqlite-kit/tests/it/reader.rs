//! Reading beside the writer: only what is committed, one snapshot at a time, never a write.

use std::sync::Barrier;

use sqlite_kit::rusqlite::{self, ErrorCode};
use sqlite_kit::{Error, Lane, READERS_MAX, Reader};

use crate::kit::{Db, Gate, MIGRATIONS, insert, items, numbers, options, runtime};

#[test]
fn only_what_is_committed_is_seen() {
    let db = Db::new();
    let reader = db.reader();
    let gate = Gate::close(&db.writer);
    let call = db.writer.call(Lane::Bulk, |tx| insert(tx, 1));
    assert_eq!(items(&reader), [] as [i64; 0]);
    gate.open();
    runtime().block_on(call).unwrap();
    assert_eq!(items(&reader), [1], "an answer means that readers see it");
}

#[test]
fn one_use_sees_one_snapshot() {
    let db = Db::new();
    db.insert(1).unwrap();
    db.reader()
        .with(|conn| {
            assert_eq!(numbers(conn).unwrap(), [1]);
            db.insert(2).unwrap();
            assert_eq!(numbers(conn).unwrap(), [1]);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(db.items(), [1, 2]);
}

#[test]
fn a_reader_cannot_write() {
    let db = Db::new();
    let code = db.reader().with(|conn| {
        let done = conn.execute("INSERT INTO item VALUES (1, x'')", []);
        Ok::<_, Error>(done.unwrap_err().sqlite_error_code())
    });
    assert_eq!(code.unwrap(), Some(ErrorCode::ReadOnly));
}

#[test]
fn several_read_at_once_and_more_wait_their_turn() {
    let db = Db::new();
    db.insert(7).unwrap();
    let reader = db.reader();
    let all_in = Barrier::new(READERS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..READERS_MAX {
            scope.spawn(|| {
                reader.with(|_| {
                    all_in.wait(); // holds only if as many as that are lent at once
                    Ok::<_, Error>(())
                })
            });
        }
        let more: Vec<_> = (0..20).map(|_| scope.spawn(|| items(&reader))).collect();
        for thread in more {
            assert_eq!(thread.join().unwrap(), [7]);
        }
    });
}

#[test]
fn errors_of_the_closure_come_out_as_they_are() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug when the test fails")]
    enum Mine {
        Kit(Error),
        Sql(rusqlite::Error),
        Missing,
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Mine {
            Mine::Kit(error)
        }
    }
    let db = Db::new();
    let reader = db.reader();
    let answer = reader.with(|conn| {
        let n = numbers(conn).map_err(Mine::Sql)?;
        if n.is_empty() { Err(Mine::Missing) } else { Ok(()) }
    });
    assert!(matches!(answer, Err(Mine::Missing)));
    db.insert(1).unwrap();
    assert_eq!(items(&reader), [1], "the connection went back whole");
}

#[test]
fn a_reader_needs_a_migrated_database() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(&options(dir.path()), MIGRATIONS), Err(Error::Open { .. })));
    assert!(!dir.path().join("db").exists(), "looking does not create");
    let db = Db::new();
    let mut more = MIGRATIONS.to_vec();
    more.push(sqlite_kit::Migration { version: 2, name: "later", sql: "" });
    let refused = Reader::open(&db.options, &more).err().unwrap();
    assert!(matches!(refused, Error::SchemaOlder { found: 1, ours: 2, .. }), "{refused:?}");
    let refused = Reader::open(&db.options, &[]).err().unwrap();
    assert!(matches!(refused, Error::SchemaNewer { found: 1, ours: 0, .. }), "{refused:?}");
}

#[test]
fn a_reader_outlives_the_writer_and_leaves_its_file_alone() {
    let db = Db::new();
    db.insert(1).unwrap();
    let reader = db.reader();
    db.thread.stop();
    assert_eq!(items(&reader), [1]);
    drop(reader);
    let again = Reader::open(&db.options, MIGRATIONS).unwrap();
    assert_eq!(items(&again), [1]);
}
