//! Files of this version, of later ones and of others. A file that is made while the process dies is a file of no
//! version or of the newest, and the next start makes the best of it (R17).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ci_server::store::{Class, GraphSize, RunEnd, SqlitePlace, SqliteStore, Store, StoreError};
use service_kit::clock::Clock;
use sqlite_kit::rusqlite::Connection;
use test_kit::proc::{Guard, this_test_binary};
use test_kit::vfs::{Fault, Shim};

use super::Sqlite;
use super::crash::{assert_sound, commands_of_a_run, world};
use super::rows::{chain, drv_path, run_key, trigger};

const DIES_AT: &str = "EKA_TEST_MAKING_DIES_AT";
const FILE: &str = "EKA_TEST_MAKING_FILE";
const SOON: Duration = Duration::from_secs(60);

fn place(file: &Path, vfs: Option<&str>) -> SqlitePlace {
    SqlitePlace { path: file.to_owned(), clock: Clock::system(), vfs: vfs.map(ToOwned::to_owned) }
}

#[expect(clippy::disallowed_methods, reason = "a test puts into a file what no version of ours would")]
fn change(file: &Path, sql: &str) {
    Connection::open(file).unwrap().execute_batch(sql).unwrap();
}

fn schema(file: &Path) -> Vec<(String, Option<String>)> {
    let conn = sqlite_kit::open_foreign_read_only(file).unwrap();
    let mut found = conn.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
    let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn killed_at_each_write_while_a_file_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let calm = dir.path().join("calm.db");
    drop(SqliteStore::open(&place(&calm, None)).unwrap());
    let tables = schema(&calm);
    assert!(tables.len() > 10, "{tables:?}");
    let mut point = 0;
    loop {
        let file = dir.path().join(format!("{point}.db"));
        let mut child = this_test_binary("store::migrate::a_file_that_is_made");
        child.env(DIES_AT, point.to_string()).env(FILE, &file).stdout(Stdio::null()).stderr(Stdio::null());
        let survived = Guard::spawn(&mut child).unwrap().wait(SOON).success();
        drop(SqliteStore::open(&place(&file, None)).unwrap());
        assert_eq!(schema(&file), tables, "after {point} writes");
        assert_sound(&file);
        if survived {
            break;
        }
        point += 1;
    }
    println!("died at {point} points");
    assert!(point >= 5, "{point}");
}

/// The child of `killed_at_each_write_while_a_file_is_made`.
#[test]
#[ignore = "the child of killed_at_each_write_while_a_file_is_made"]
fn a_file_that_is_made() {
    let shim = Shim::install("dies-making");
    shim.fail(Fault::Die, std::env::var(DIES_AT).unwrap().parse().unwrap());
    let file = std::env::var_os(FILE).unwrap();
    drop(SqliteStore::open(&place(Path::new(&file), Some(shim.name()))).unwrap());
}

#[test]
fn a_filled_file_is_the_same_after_each_start() {
    let there = Sqlite::new();
    commands_of_a_run(&there.store()).unwrap();
    let first = world(&there.store());
    assert_eq!(world(&there.store()), first);
    assert_sound(&there.place().path);
}

/// From before it was known who is at work on a run, and which failures are gone, and when each need had a row: runs that
/// were open are lost, derivations are to be given once more, and everything else is as it was.
#[test]
fn a_filled_file_of_the_first_version_is_brought_up_to_date() {
    let there = Sqlite::new();
    let (before, open) = {
        let store = there.store();
        commands_of_a_run(&store).unwrap();
        (world(&store), store.begin_run(&run_key("open"), &trigger()).unwrap())
    };
    let file = there.place().path;
    change(
        &file,
        "DROP INDEX run_at_work; ALTER TABLE run DROP COLUMN session; PRAGMA user_version = 1;
         ALTER TABLE drv DROP COLUMN inputs; INSERT INTO drv_state VALUES (3, 0, 1);
         CREATE TABLE edge (user INTEGER NOT NULL, input INTEGER NOT NULL, outputs INTEGER NOT NULL,
           PRIMARY KEY (user, input)) STRICT, WITHOUT ROWID;
         INSERT INTO edge SELECT id, id - 1, 1 FROM drv WHERE id > 1;
         UPDATE run SET comparison = replace(comparison, ',\"removed\":[]', '');",
    );
    let conn = sqlite_kit::open_foreign_read_only(&file).unwrap();
    let known = "SELECT count(*) FROM run WHERE comparison LIKE '%\"removed\":%'";
    assert_eq!(conn.query_row(known, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    drop(conn);
    let store = there.store();
    let mut now = world(&store);
    assert_eq!(now.graph, GraphSize::default());
    now.graph = before.graph;
    assert_eq!(now, before);
    let state = |store: &SqliteStore| store.drv(&drv_path(2)).unwrap().unwrap();
    assert_eq!((state(&store).record, state(&store).states.len()), (None, 1));
    for chunk in chain(before.graph.drvs).chunks(7) {
        store.add_drvs(chunk).unwrap();
    }
    assert_eq!(world(&store), before);
    assert_eq!(state(&store).states.len(), 1, "it goes along with its derivation");
    assert!(matches!(store.run(open).unwrap().unwrap().end, Some((RunEnd::Lost, _))));
    drop(store);
    let fresh = Sqlite::new();
    drop(fresh.store());
    assert_eq!(schema(&file), schema(&fresh.place().path));
    assert_sound(&file);
}

/// Opening fails, with this class; the file stays as it was.
#[track_caller]
fn refused(file: &Path, class: Class) -> StoreError {
    let before = std::fs::read(file).unwrap();
    let error = SqliteStore::open(&place(file, None)).unwrap_err();
    assert_eq!(error.class(), class, "{error:?}");
    assert_eq!(std::fs::read(file).unwrap(), before, "it was left alone");
    error
}

fn chain_of(error: &StoreError) -> String {
    service_kit::telemetry::chain(error)
}

#[test]
fn files_of_later_versions_and_of_others_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let later = dir.path().join("later.db");
    drop(SqliteStore::open(&place(&later, None)).unwrap());
    change(&later, "PRAGMA journal_mode = DELETE; PRAGMA user_version = 99;");
    let text = chain_of(&refused(&later, Class::Operator));
    assert!(text.contains("99") && text.contains("later.db"), "{text}");

    let theirs = dir.path().join("theirs.db");
    change(&theirs, "PRAGMA application_id = 7; CREATE TABLE theirs (x);");
    let text = chain_of(&refused(&theirs, Class::Operator));
    assert!(text.contains("theirs.db") && text.contains("another program"), "{text}");

    let text_file = dir.path().join("text.db");
    std::fs::write(&text_file, "this is no database, however long it may be".repeat(100)).unwrap();
    let text = chain_of(&refused(&text_file, Class::Damaged));
    assert!(text.contains("text.db"), "{text}");
}

#[test]
fn a_row_that_cannot_be_read_is_said_to_be_damaged() {
    let there = Sqlite::new();
    commands_of_a_run(&there.store()).unwrap();
    change(&there.place().path, "UPDATE drv SET outputs = x'ff' WHERE id = 5; DELETE FROM drv WHERE id = 9;");
    let store = there.store();
    let error = store.drv(&drv_path(4)).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
    assert!(
        error.to_string().contains("outputs of derivation 5") && error.to_string().contains("backup"),
        "{error}"
    );
    assert_eq!(store.load_graph(&mut |_| {}).unwrap_err().class(), Class::Damaged);
}
