//! Migrations: whenever the process is killed, the file has the schema of before or after a step, with all
//! its rows; and the next start finishes the way.

use std::path::Path;

use sqlite_kit::rusqlite::Connection;
use sqlite_kit::{Error, Lane, Migration, Options, Writer, open_foreign_read_only};
use test_kit::proc::{Guard, this_test_binary};
use test_kit::vfs::{Fault, Shim};

use crate::kit::{SOON, options};

const ROWS: i64 = 300;
const STEPS: &[Migration] = &[
    Migration { version: 1, name: "paths", sql: "CREATE TABLE path (id INTEGER PRIMARY KEY, name TEXT NOT NULL);" },
    Migration {
        version: 2,
        name: "sizes",
        sql: "ALTER TABLE path ADD COLUMN bytes INTEGER;
              UPDATE path SET bytes = length(name);
              CREATE INDEX path_by_bytes ON path (bytes);",
    },
    Migration {
        version: 3,
        name: "names in upper case, in a table made anew",
        sql: "CREATE TABLE path_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
              INSERT INTO path_new SELECT id, upper(name), bytes FROM path;
              DROP TABLE path;
              ALTER TABLE path_new RENAME TO path;
              CREATE INDEX path_by_bytes ON path (bytes);",
    },
];

/// A database of the given schema, with rows if it has a table, closed.
fn filled(dir: &Path, schema: usize) -> Options {
    let options = options(dir);
    let (writer, thread) = Writer::open(&options, &STEPS[..schema]).unwrap();
    if schema > 0 {
        let fill = writer.call_blocking(Lane::Bulk, |tx| {
            (0..ROWS).try_for_each(|id| {
                tx.execute("INSERT INTO path (id, name) VALUES (?1, 'name-' || ?1)", [id]).map(drop)
            })
        });
        fill.unwrap();
    }
    thread.stop();
    options
}

/// The schema in the file, after a look that all of it and all rows are as that schema wants them.
fn whole_schema(path: &Path) -> i64 {
    let conn = open_foreign_read_only(path).unwrap();
    let one = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let ok: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(ok, "ok");
    let version = one("PRAGMA user_version");
    assert_eq!(one("SELECT count(*) FROM sqlite_schema WHERE name = 'path_new'"), 0);
    assert_eq!(one("SELECT count(*) FROM sqlite_schema WHERE name = 'path'"), i64::from(version > 0));
    assert_eq!(
        one("SELECT count(*) FROM sqlite_schema WHERE name = 'path_by_bytes'"),
        i64::from(version > 1)
    );
    assert_eq!(
        one("SELECT count(*) FROM pragma_table_info('path') WHERE name = 'bytes'"),
        i64::from(version > 1)
    );
    version
}

fn assert_rows(conn: &Connection, rows: i64, upper: bool) {
    let wanted = if upper { "NAME-" } else { "name-" };
    let sql = "SELECT count(*) FROM path WHERE name = ?1 || id";
    assert_eq!(conn.query_row(sql, [wanted], |row| row.get::<_, i64>(0)).unwrap(), rows);
}

/// Kills the migrating process before its first operation on the disk, then its second, and so on until one
/// comes through. Nothing changes on the disk between two operations, so every statement is covered.
fn kill_everywhere(from: usize) {
    let start = tempfile::tempdir().unwrap();
    let before = filled(start.path(), from);
    let rows = if from > 0 { ROWS } else { 0 };
    let (mut kills, mut seen) = (0, std::collections::BTreeSet::new());
    loop {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        std::fs::copy(&before.path, &options.path).unwrap();
        let done = migrate_and_die(&options.path, kills);
        let schema = whole_schema(&options.path);
        seen.insert(schema);
        if schema > 0 {
            assert_rows(&open_foreign_read_only(&options.path).unwrap(), rows, schema == 3);
        }
        let (writer, thread) = Writer::open(&options, STEPS).unwrap();
        drop((writer, thread));
        assert_eq!(whole_schema(&options.path), 3);
        assert_rows(&open_foreign_read_only(&options.path).unwrap(), rows, true);
        if done {
            break;
        }
        kills += 1;
    }
    println!("from schema {from}: killed at {kills} operations, found schemas {seen:?}");
    let from = i64::try_from(from).unwrap();
    assert_eq!(seen, (from..=3).collect(), "each step was found done and not done");
    assert!(kills > 10);
}

/// Whether the child came through.
fn migrate_and_die(path: &Path, after: u64) -> bool {
    let mut command = this_test_binary("migrate::child_that_migrates_and_dies");
    command.env("EKA_TEST_DB", path).env("EKA_TEST_AFTER", after.to_string());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = Guard::spawn(&mut command).unwrap().wait(SOON);
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
    assert!(killed || status.success(), "{status}");
    !killed
}

#[test]
#[ignore = "run as a child by the tests below"]
fn child_that_migrates_and_dies() {
    let path = std::env::var_os("EKA_TEST_DB").unwrap();
    let after = std::env::var("EKA_TEST_AFTER").unwrap().parse().unwrap();
    let shim = Shim::install("dies");
    shim.fail(Fault::Die, after);
    let options = Options { vfs: Some("dies".into()), ..options(Path::new(&path).parent().unwrap()) };
    let (writer, thread) = Writer::open(&options, STEPS).unwrap();
    drop(writer);
    thread.stop();
}

#[test]
fn a_filled_database_survives_a_kill_at_each_operation() {
    kill_everywhere(1);
}

#[test]
fn a_new_database_survives_a_kill_at_each_operation() {
    kill_everywhere(0);
}

#[test]
fn steps_already_done_are_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let options = filled(dir.path(), 1);
    drop(Writer::open(&options, STEPS).unwrap());
    drop(Writer::open(&options, STEPS).unwrap());
    assert_eq!(whole_schema(&options.path), 3);
}

#[test]
fn a_step_that_fails_is_named_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = filled(dir.path(), 1);
    let bad =
        Migration { version: 2, name: "half good", sql: "DROP TABLE path; INSERT INTO nowhere VALUES (1);" };
    let error = Writer::open(&options, &[STEPS[0], bad]).err().unwrap();
    assert!(matches!(error, Error::Migrate { version: 2, name: "half good", .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("to schema 2 (half good); the schema before it is intact"),
        "{error}"
    );
    assert_eq!(whole_schema(&options.path), 1);
    assert_rows(&open_foreign_read_only(&options.path).unwrap(), ROWS, false);
}
