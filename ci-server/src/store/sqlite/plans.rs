//! How SQLite goes about each statement. The statements come out of the source files themselves, so that none is
//! forgotten: no large table is read from end to end but where that is the point, and every index earns its keep.

use std::collections::BTreeSet;

use sqlite_kit::rusqlite::Connection;

use super::forget::{ALL_DRVS, OLD_DRV, OLD_VALUES, ROOTS, USED_VALUES};
use super::graph::DRVS;
use super::openings::AT_WORK;
use super::schema::MIGRATIONS;

const SOURCES: [&str; 9] = [
    include_str!("drvs.rs"),
    include_str!("evaluations.rs"),
    include_str!("forget.rs"),
    include_str!("graph.rs"),
    include_str!("older.rs"),
    include_str!("openings.rs"),
    include_str!("runs.rs"),
    include_str!("values.rs"),
    include_str!("words.rs"),
];
/// They look at everything: a graph that is loaded, what is looked for to be forgotten, and an index of the few open runs.
const WHOLE_TABLES: [&str; 7] = [DRVS, OLD_DRV, OLD_VALUES, USED_VALUES, ROOTS, ALL_DRVS, AT_WORK];

/// Every string in the sources that begins like a statement.
fn statements() -> Vec<String> {
    let verbs = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "];
    let code =
        SOURCES.iter().flat_map(|source| source.lines()).filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let strings = code.split('"').skip(1).step_by(2).map(ToOwned::to_owned);
    strings.filter(|string| verbs.iter().any(|verb| string.starts_with(verb))).collect()
}

fn tables() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    for migration in MIGRATIONS {
        conn.execute_batch(migration.sql).unwrap();
    }
    conn
}

fn plan(conn: &Connection, statement: &str) -> Vec<String> {
    let mut query = conn
        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
        .unwrap_or_else(|why| panic!("{why}: {statement}"));
    let count = query.parameter_count();
    let nothing = std::iter::repeat_n(1, count);
    let rows = query.query_map(sqlite_kit::rusqlite::params_from_iter(nothing), |row| row.get(3)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn no_statement_reads_a_large_table_from_end_to_end() {
    let (conn, all) = (tables(), statements());
    assert!(all.len() >= 60, "only {} statements were found", all.len());
    for statement in all.iter().filter(|statement| !WHOLE_TABLES.contains(&statement.as_str())) {
        let plan = plan(&conn, statement);
        let scans: Vec<_> =
            plan.iter().filter(|step| step.starts_with("SCAN ") && *step != "SCAN CONSTANT ROW").collect();
        assert!(scans.is_empty(), "{statement}\n{plan:#?}");
    }
    for statement in WHOLE_TABLES {
        assert!(all.iter().any(|one| one == statement), "{statement} is used nowhere");
    }
}

#[test]
fn every_index_is_used() {
    let conn = tables();
    let used: BTreeSet<String> = statements().iter().flat_map(|statement| plan(&conn, statement)).collect();
    let mut query = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'index'").unwrap();
    let indexes = query.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let idle: Vec<_> = indexes.filter(|index| !used.iter().any(|step| step.contains(index))).collect();
    assert_eq!(idle, [] as [String; 0]);
}
