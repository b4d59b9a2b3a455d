//! What an older server's `sqlite.db` knew, odd rows included, and a count of everything that stays behind.

use std::path::{Path, PathBuf};

use ci_model::flow::{BuildState, Trust};
use ci_server::store::{DifferenceCode, Domain, ImportError, RunEnd, RunId, Store, import};
use nix_types::DrvPath;
use sqlite_kit::rusqlite::Connection;

use super::Sqlite;
use super::rows::drv;

/// The tables as they are documented.
const TABLES: &str = "
CREATE TABLE Drv (ROWID INTEGER PRIMARY KEY NOT NULL, drv_path TEXT NOT NULL, system TEXT NOT NULL,
  required_system_features TEXT, is_fod BOOLEAN NOT NULL DEFAULT 0, build_state INTEGER NOT NULL, output_size INTEGER,
  closure_size INTEGER, pname TEXT, version TEXT, license_json TEXT, maintainers_json TEXT, meta_position TEXT,
  broken BOOLEAN, insecure BOOLEAN, UNIQUE (drv_path));
CREATE TABLE DrvRefs (referrer TEXT NOT NULL, reference TEXT NOT NULL, UNIQUE (referrer, reference));
CREATE TABLE GitHubJobSets (ROWID INTEGER PRIMARY KEY, sha TEXT NOT NULL, job TEXT NOT NULL, owner TEXT NOT NULL,
  repo_name TEXT NOT NULL, config_json TEXT, UNIQUE (sha, job));
CREATE TABLE Job (ROWID INTEGER PRIMARY KEY, jobset INTEGER NOT NULL, drv_id INTEGER NOT NULL, name TEXT NOT NULL,
  difference INTEGER NOT NULL DEFAULT 0);
CREATE TABLE PullRequests (pr_number INTEGER NOT NULL, owner TEXT NOT NULL, repo_name TEXT NOT NULL,
  head_sha TEXT NOT NULL, base_sha TEXT NOT NULL, title TEXT NOT NULL, author TEXT NOT NULL, state TEXT NOT NULL,
  created_at TEXT NOT NULL, updated_at TEXT NOT NULL, PRIMARY KEY (owner, repo_name, pr_number));
CREATE TABLE AttrPathMaintainers (attr_path TEXT NOT NULL, github_user_id INTEGER NOT NULL);
CREATE TABLE ApprovedUsers (github_username TEXT NOT NULL, github_id INTEGER NOT NULL, notes TEXT);
CREATE TABLE AuthenticatedUsers (github_id INTEGER NOT NULL, github_username TEXT NOT NULL, github_access_token TEXT NOT NULL);
CREATE TABLE \"odd \"\" name\" (x);
";

fn base(number: u64, name: &str) -> String {
    format!("{number:032}-{name}.drv")
}

fn path(number: u64, name: &str) -> DrvPath {
    DrvPath::parse_str(&format!("/nix/store/{}", base(number, name))).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the older server's file is made by its own statements")]
fn older(dir: &Path, more: &str) -> PathBuf {
    let file = dir.join("sqlite.db");
    let conn = Connection::open(&file).unwrap();
    conn.execute_batch(TABLES).unwrap();
    for (number, state) in (1..).zip(BuildState::ALL) {
        let row = (base(number, "known"), "x86_64-linux", state.code());
        conn.execute("INSERT INTO Drv (drv_path, system, build_state) VALUES (?1, ?2, ?3)", row).unwrap();
    }
    conn.execute_batch(more).unwrap();
    file
}

fn left(report: &ci_server::store::ImportReport, table: &str) -> Vec<(u64, String)> {
    report.left_behind().filter(|left| left.table == table).map(|left| (left.rows, left.why)).collect()
}

fn taken(report: &ci_server::store::ImportReport, table: &str) -> u64 {
    report.taken_over().find(|taken| taken.table == table).map_or(0, |taken| taken.rows)
}

#[test]
fn states_come_by_their_codes_and_unknown_ones_are_named() {
    let there = Sqlite::new();
    let odd = format!(
        "INSERT INTO Drv (drv_path, system, build_state) VALUES ('{}', 'x86_64-linux', 55), ('{}', 'x86_64-linux', 'text'),
           ('{}', 'no system', 42), ('not a path', 'x86_64-linux', 42), ('eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-a.drv', 'x86_64-linux', 42),
           (x'ff00', 'x86_64-linux', 42), ('/nix/store/{}', 'x86_64-linux', -1), ('../../etc/passwd.drv', 'builtin', 42);",
        base(100, "odd"), base(101, "odd"), base(102, "odd"), base(103, "whole")
    );
    let file = older(there.dir.path(), &odd);
    let before = std::fs::read(&file).unwrap();
    let store = there.store();
    store.add_drvs(&[drv(1, &[])]).unwrap(); // something of our own
    let report = import(&file, "/nix/store", &store).unwrap();
    let finals = BuildState::ALL.into_iter().filter(|state| state.is_final()).count() as u64;
    assert_eq!(taken(&report, "Drv"), finals + 1);
    let expected = [
        (1, "nobody knows build_state 55"),
        (1, "their build_state is no number"),
        (4, "their drv_path is no derivation's"),
        (1, "their system is none"),
        (BuildState::ALL.len() as u64 - finals, "they were waiting or under way; they are asked for again"),
    ];
    assert_eq!(left(&report, "Drv"), expected.map(|(rows, why)| (rows, why.to_owned())));
    for (number, state) in (1..).zip(BuildState::ALL) {
        let states = store.drv(&path(number, "known")).unwrap().map(|drv| (drv.record, drv.states));
        let expected = state.is_final().then(|| (None, vec![(Domain::Untrusted, state)]));
        assert_eq!(states, expected, "{state:?}");
    }
    assert_eq!(
        store.drv(&path(103, "whole")).unwrap().unwrap().states,
        [(Domain::Untrusted, BuildState::Failure)]
    );
    assert!(store.known_drvs(&[path(5, "known")]).unwrap().is_empty(), "what it needs is not known");
    assert_eq!(store.load_graph(&mut |_| {}).unwrap().drvs, 1);
    assert_eq!(std::fs::read(&file).unwrap(), before, "the older file is only read");

    let again = import(&file, "/nix/store", &store).unwrap();
    assert_eq!(taken(&again, "Drv"), 0);
    assert!(left(&again, "Drv").contains(&(finals + 1, "their state is known here already".to_owned())));
}

#[test]
fn a_state_stays_when_the_derivation_itself_comes() {
    let there = Sqlite::new();
    let file = older(there.dir.path(), "");
    let store = there.store();
    import(&file, "/nix/store", &store).unwrap();
    let known = ci_model::drv::DrvRecord { path: path(5, "known"), ..drv(5, &[]) };
    let user = ci_model::drv::DrvRecord {
        inputs: [(known.path.clone(), Default::default())].into(),
        ..drv(900, &[])
    };
    store.add_drvs(std::slice::from_ref(&user)).unwrap_err();
    assert_eq!(store.add_drvs(&[known.clone(), user]).unwrap(), 2);
    let stored = store.drv(&known.path).unwrap().unwrap();
    assert_eq!((stored.record, stored.states), (Some(known), vec![(Domain::Untrusted, BuildState::Success)]));
    assert_eq!(store.load_graph(&mut |_| {}).unwrap().drvs, 2);
}

#[test]
fn job_sets_become_runs_and_nothing_is_dropped_in_silence() {
    let there = Sqlite::new();
    let sha = "c".repeat(40);
    let many: String = (0..1200).map(|n| format!(", (1, 1, 'set.p{n}', {})", n % 4)).collect();
    let file = older(
        there.dir.path(),
        &format!(
            "INSERT INTO GitHubJobSets VALUES (1, '{sha}', 'packages', 'ekala-project', 'corepkgs', NULL),
               (2, 'not a commit', 'packages', 'o', 'r', NULL), (3, '{sha}', 'empty', 'o', 'r', '{{}}');
             INSERT INTO Job (jobset, drv_id, name, difference) VALUES (1, 2, 'a.\"b.c\"', 0), (1, 3, 'a..b', 2),
               (1, 4, 'a.\"b.c\"', 1), (1, 5, 'gone', 9), (1, 999, 'nodrv', 0), (2, 5, 'x', 0), (77, 5, 'orphan', 0){many};
             INSERT INTO DrvRefs VALUES ('a', 'b'), ('a', 'c');
             INSERT INTO PullRequests VALUES (1, 'o', 'r', 'h', 'b', 't', 'a', 'open', '', '');
             INSERT INTO ApprovedUsers VALUES ('octocat', 1, NULL);
             INSERT INTO AuthenticatedUsers VALUES (1, 'octocat', 'gho_secret');
             INSERT INTO \"odd \"\" name\" VALUES (1), (2), (3);"
        ),
    );
    let store = there.store();
    let report = import(&file, "/nix/store", &store).unwrap();
    assert_eq!((taken(&report, "GitHubJobSets"), taken(&report, "Job")), (2, 1202));
    assert_eq!(left(&report, "GitHubJobSets"), [(1, "their commit is none".to_owned())]);
    let expected = [
        (1, "nobody knows difference 9"),
        (1, "their drv_path is no derivation's"),
        (2, "their job set is not there, or was not taken over"),
        (1, "their job set names them twice"),
    ];
    assert_eq!(left(&report, "Job"), expected.map(|(rows, why)| (rows, why.to_owned())));
    for (table, rows) in [
        ("DrvRefs", 2),
        ("PullRequests", 1),
        ("ApprovedUsers", 1),
        ("AuthenticatedUsers", 1),
        ("odd \" name", 3),
    ] {
        let left = left(&report, table);
        assert!(matches!(&left[..], [(n, why)] if *n == rows && !why.is_empty()), "{table}: {left:?}");
    }
    assert_eq!(left(&report, "AttrPathMaintainers"), [], "it has no rows");
    let text = report.to_string();
    assert!(
        text.contains("not taken over: 2 rows of DrvRefs, because they do not say which outputs are needed"),
        "{text}"
    );
    assert!(!text.contains("gho_secret"));

    let run = store.run(RunId(1)).unwrap().unwrap();
    assert_eq!(run.trigger.repository.as_str(), "github.com/ekala-project/corepkgs");
    assert_eq!((run.trigger.head.unwrap().as_str(), run.trigger.trust), (sha.as_str(), Trust::UntrustedPr));
    assert_eq!(run.end.unwrap().0, RunEnd::TakenOver);
    let rows = store.job_rows(RunId(1)).unwrap();
    assert_eq!(rows.len(), 1202);
    let of = |name: &[&str]| rows.iter().find(|row| row.path == super::rows::path(name)).unwrap();
    assert_eq!(of(&["a", "b.c"]).difference, DifferenceCode::New);
    assert_eq!((&of(&["a..b"]).before, &of(&["a..b"]).after), (&Some(path(3, "known")), &None));
    assert_eq!(of(&["set", "p7"]).difference, DifferenceCode::Unchanged);
    assert_eq!(store.run(RunId(2)).unwrap().unwrap().end.unwrap().0, RunEnd::TakenOver, "without any job");

    let again = import(&file, "/nix/store", &store).unwrap();
    assert_eq!(taken(&again, "Job"), 0);
    assert_eq!(store.job_rows(RunId(1)).unwrap(), rows);
    assert_eq!(store.run(RunId(3)).unwrap(), None);
}

#[test]
fn what_is_no_older_database_is_refused() {
    let there = Sqlite::new();
    let store = there.store();
    let absent = there.dir.path().join("absent.db");
    let error = import(&absent, "/nix/store", &store).unwrap_err();
    assert!(
        matches!(error, ImportError::Source { .. }) && error.to_string().contains("absent.db"),
        "{error}"
    );
    assert!(!absent.exists());
    let error = import(&there.place().path, "/nix/store", &store).unwrap_err();
    assert!(matches!(error, ImportError::NotOurs(_)), "{error}");
}
