//! Which files are taken and which are refused, in which words, and that refused ones are left as they were.

use std::path::Path;
use std::time::Duration;

use sqlite_kit::rusqlite::{self, Connection};
use sqlite_kit::{Durability, Error, Lane, Migration, Options, Writer, open_foreign_read_only};

use crate::kit::{Db, ID, MIGRATIONS, options};

fn refused(options: &Options) -> Error {
    let before = std::fs::read(&options.path).ok();
    let error = Writer::open(options, MIGRATIONS).expect_err("it is to be refused");
    assert_eq!(std::fs::read(&options.path).ok(), before, "a refused file is left as it was");
    error
}

#[expect(clippy::disallowed_methods, reason = "plays another program")]
fn other_program(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn the_settings_are_in_force() {
    let db = Db::new();
    let settings = db.writer.call_blocking(Lane::Normal, |tx| {
        let ask =
            |name: &str| tx.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
        let names =
            ["synchronous", "foreign_keys", "cache_size", "temp_store", "application_id", "user_version"];
        names.into_iter().map(ask).collect::<rusqlite::Result<Vec<_>>>()
    });
    let wanted = [2, 1, -2048, 2, i64::from(ID), 1].map(rusqlite::types::Value::from);
    assert_eq!(settings.unwrap(), wanted);
    assert!(db.file("-wal").exists());
}

#[test]
fn each_durability_is_in_force() {
    for (durability, wanted) in [(Durability::Full, 2), (Durability::Normal, 1), (Durability::Off, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { durability, ..options(dir.path()) };
        let (writer, _thread) = Writer::open(&options, MIGRATIONS).unwrap();
        let got = writer.call_blocking(Lane::Normal, |tx| {
            tx.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))
        });
        assert_eq!(got.unwrap(), wanted);
    }
}

/// As when several make it at once: SQLite refuses at once to switch to the log, however long it was told to wait.
#[test]
fn a_new_database_that_somebody_else_writes_to_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    #[expect(clippy::disallowed_methods, reason = "plays another program")]
    let other = Connection::open(&options.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let opener = scope.spawn(|| Writer::open(&options, MIGRATIONS));
        let ended = test_kit::wait::comes_true(Duration::from_millis(300), || opener.is_finished());
        other.execute_batch("COMMIT").unwrap();
        assert!(opener.join().unwrap().is_ok() && !ended);
    });
}

#[test]
fn what_is_there_is_found_again() {
    let db = Db::new();
    db.insert(3).unwrap();
    db.thread.stop();
    let (writer, _thread) = Writer::open(&db.options, MIGRATIONS).unwrap();
    let found = writer.call_blocking(Lane::Normal, |tx| crate::kit::numbers(tx));
    assert_eq!(found.unwrap(), [3]);
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    std::fs::write(&options.path, "dear diary, ".repeat(1000)).unwrap();
    let error = refused(&options);
    let text = format!(
        "{} is not an SQLite database; move it away or correct the configured path",
        options.path.display()
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    other_program(&options.path, "PRAGMA application_id = 77; CREATE TABLE theirs (a)");
    assert!(matches!(refused(&options), Error::Foreign { found: 77, ours: ID, .. }));
}

#[test]
fn a_database_without_an_id_but_with_tables_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    other_program(&options.path, "CREATE TABLE theirs (a)");
    let error = refused(&options);
    assert!(error.to_string().contains("application id 0x00000000, ours is 0x6b697401"), "{error}");
}

#[test]
fn a_newer_schema_is_refused_with_the_remedy() {
    let db = Db::new();
    db.thread.stop();
    other_program(&db.options.path, "PRAGMA user_version = 9");
    let error = refused(&db.options);
    let text = format!(
        "database {} has schema 9, this program knows schemas up to 1; start the newer version again, or restore \
         a backup made before the upgrade",
        db.options.path.display()
    );
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_folder_that_does_not_exist_is_an_error_that_says_so() {
    let options = options(Path::new("/nonexistent/folder"));
    let error = refused(&options);
    assert!(matches!(error, Error::Create { .. }), "{error:?}");
    assert!(error.to_string().contains("make database /nonexistent/folder/db; check that its folder exists"));
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
#[should_panic(expected = "migrations are numbered from 1 without gaps (third)")]
fn a_gap_in_the_migrations_is_our_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let third = Migration { version: 3, name: "third", sql: "" };
    let _ = Writer::open(&options(dir.path()), &[MIGRATIONS[0], third]); // panics
}

#[test]
fn a_foreign_database_is_read_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs");
    other_program(&path, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (5)");
    let conn = open_foreign_read_only(&path).unwrap();
    assert_eq!(conn.query_row("SELECT a FROM theirs", [], |row| row.get::<_, i64>(0)).unwrap(), 5);
    assert!(conn.execute("DELETE FROM theirs", []).is_err());
    assert!(matches!(open_foreign_read_only(&dir.path().join("absent")), Err(Error::Open { .. })));
    assert!(!dir.path().join("absent").exists());
    std::fs::write(dir.path().join("text"), "no database ".repeat(100)).unwrap();
    assert!(matches!(open_foreign_read_only(&dir.path().join("text")), Err(Error::NotADatabase { .. })));
}
