//! Runs of processes that are killed: lost from the next look on, and never those of processes that live.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ci_server::store::{RunEnd, RunId, RunKey, SqlitePlace, SqliteStore, Store};
use service_kit::clock::{Clock, Time};
use test_kit::proc::{Guard, this_test_binary};
use test_kit::wait;

use super::rows::{attr, key, run_key, trigger};

const FILE: &str = "EKA_TEST_LOST_FILE";
const KEY: &str = "EKA_TEST_LOST_KEY";
/// Begins an evaluation too.
const EVALUATES: &str = "EKA_TEST_LOST_EVALUATES";
/// Ends its run before it waits to be killed.
const ENDS: &str = "EKA_TEST_LOST_ENDS";
const SOON: Duration = Duration::from_secs(60);

fn open(file: &Path) -> SqliteStore {
    SqliteStore::open(&SqlitePlace { path: file.to_owned(), clock: Clock::system(), vfs: None }).unwrap()
}

fn child(file: &Path, key: &str) -> Command {
    let mut child = this_test_binary("store::lost::a_process_that_is_at_work");
    child.env(FILE, file).env(KEY, key).stdin(Stdio::piped()).stdout(Stdio::null());
    child
}

/// The child: begins a run and is at work on it until it is killed, or the test is gone.
#[test]
#[ignore = "the child of the tests below"]
fn a_process_that_is_at_work() {
    let file = PathBuf::from(std::env::var_os(FILE).unwrap());
    let key = std::env::var(KEY).unwrap();
    let store = open(&file);
    let run = store.begin_run(&RunKey::new(&*key).unwrap(), &trigger()).unwrap();
    if std::env::var_os(EVALUATES).is_some() {
        evaluate(&store);
    }
    if std::env::var_os(ENDS).is_some() {
        store.close_run(run, &RunEnd::Cancelled).unwrap();
    }
    fs::write(file.with_extension(key), run.0.to_string()).unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Starts it, and waits until its run is there.
fn at_work(command: &mut Command, file: &Path, key: &str) -> (Guard, RunId) {
    let child = Guard::spawn(command).unwrap();
    let (said, mut run) = (file.with_extension(key), None);
    wait::until(SOON, || {
        run = fs::read_to_string(&said).ok().and_then(|text| text.parse().ok());
        run.is_some()
    });
    (child, RunId(run.unwrap()))
}

/// Half of one.
fn evaluate(store: &SqliteStore) {
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    store.add_attrs(token, 0, &[attr(&["one"], 1)], &[]).unwrap();
}

fn locks(file: &Path) -> usize {
    fs::read_dir(file.with_file_name("ci.db-openings")).unwrap().count()
}

#[test]
fn a_killed_processs_run_is_lost_and_a_living_ones_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.db");
    let (mut one, first) = at_work(&mut child(&file, "one"), &file, "one");
    let (mut other, second) = at_work(&mut child(&file, "other"), &file, "other");
    let end = |store: &SqliteStore, run| store.run(run).unwrap().unwrap().end.map(|(end, _)| end);
    let store = open(&file);
    assert_eq!([end(&store, first), end(&store, second)], [None, None]);
    one.kill().unwrap();
    assert_eq!(end(&store, first), None, "nobody has looked yet");
    let next = open(&file);
    assert_eq!([end(&next, first), end(&next, second)], [Some(RunEnd::Lost), None]);
    assert_eq!(locks(&file), 1, "the other one's");
    // One that has been open all the time sees it when it forgets what is old.
    other.kill().unwrap();
    store.forget(Time::from_ms(0)).unwrap();
    assert_eq!(end(&store, second), Some(RunEnd::Lost));
    // Whoever asks again with the key goes on with it.
    assert_eq!(store.begin_run(&run_key("other"), &trigger()).unwrap(), second);
    assert_eq!(end(&open(&file), second), None);
    assert_eq!(locks(&file), 1, "ours");
    drop(store);
    assert_eq!(locks(&file), 0);
    assert_eq!(end(&open(&file), second), Some(RunEnd::Lost));
}

#[test]
fn what_a_killed_process_was_evaluating_is_taken_away_and_what_a_living_one_is_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.db");
    let (mut one, _) = at_work(child(&file, "one").env(EVALUATES, "1"), &file, "one");
    let (mut other, _) = at_work(child(&file, "other").env(EVALUATES, "1"), &file, "other");
    let store = open(&file);
    let taken_away = || store.forget(Time::from_ms(0)).unwrap().evaluations;
    // One that has begun no run.
    let third = open(&file);
    evaluate(&third);
    assert_eq!((taken_away(), locks(&file)), (0, 3));
    one.kill().unwrap();
    assert_eq!((taken_away(), locks(&file)), (1, 2));
    other.kill().unwrap();
    drop(open(&file));
    assert_eq!((taken_away(), locks(&file)), (1, 1));
    drop(third);
    assert_eq!((taken_away(), locks(&file)), (1, 0));
}

/// As programs do that open their store when their runtime is there.
#[test]
fn a_lost_run_is_ended_by_whoever_opens_the_store_in_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.db");
    let (mut child, run) = at_work(&mut child(&file, "x"), &file, "x");
    child.kill().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let store = runtime.block_on(async { open(&file) });
    assert_eq!(store.run(run).unwrap().unwrap().end.unwrap().0, RunEnd::Lost);
}

#[test]
fn a_process_that_is_killed_behind_its_runs_end_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.db");
    let (mut child, run) = at_work(child(&file, "x").env(ENDS, "1"), &file, "x");
    child.kill().unwrap();
    assert_eq!(locks(&file), 1);
    let store = open(&file);
    assert_eq!(store.run(run).unwrap().unwrap().end.unwrap().0, RunEnd::Cancelled);
    assert_eq!(locks(&file), 0);
}

/// Many openings that come and go at once: none takes another's run for lost.
#[test]
fn openings_that_come_and_go_end_nobody_elses_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ci.db");
    drop(open(&file));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let file = &file;
            scope.spawn(move || {
                for round in 0..10 {
                    let store = open(file);
                    let run = store.begin_run(&run_key(&format!("{thread}-{round}")), &trigger()).unwrap();
                    store.forget(Time::from_ms(0)).unwrap();
                    assert_eq!(open(file).run(run).unwrap().unwrap().end, None);
                    store.close_run(run, &RunEnd::Cancelled).unwrap();
                }
            });
        }
    });
    assert_eq!(locks(&file), 0);
}
