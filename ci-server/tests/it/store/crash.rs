//! The end of the process at every write of a list of commands, as by `kill -9`: what is there then is whole as far as it
//! goes, and the same commands, given again, come to what they come to in calm. The commands are a run's, in their order,
//! with rows that are made up; the pipeline itself is not here.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ci_model::attr::Attr;
use ci_model::flow::Evaluation;
use ci_model::outcome::Side;
use ci_server::store::{
    CHUNK_MAX, GraphSize, JobRow, RunEnd, SqlitePlace, SqliteStore, Store, StoreError, StoredRun,
};
use service_kit::clock::{Clock, Time};
use test_kit::proc::{Guard, this_test_binary};
use test_kit::seed;
use test_kit::vfs::{Fault, Shim};

use super::START_MS;
use super::rows::{attr, chain, comparison, cost, drv_path, error, key, outcome, run_key, trigger};

const DIES_AT: &str = "EKA_TEST_STORE_DIES_AT";
const FILE: &str = "EKA_TEST_STORE_FILE";
const SOON: Duration = Duration::from_secs(60);
/// Rows of each command that takes some: two chunks where the caller makes them, more than one where the store does.
const ATTRS: u64 = 60;
const DRVS: u64 = 60;
const CHANGES: u64 = CHUNK_MAX as u64 + 1;
const CHUNK: usize = 40;
/// Of so many points one is tried, a random one; with a factor, all.
const STRIDE: usize = 12;

fn place(file: &Path, vfs: Option<&str>) -> SqlitePlace {
    let (clock, _) = Clock::manual(Time::from_ms(START_MS));
    SqlitePlace { path: file.to_owned(), clock, vfs: vfs.map(ToOwned::to_owned) }
}

fn attrs() -> Vec<Attr> {
    (0..ATTRS).map(|n| attr(&["set", &format!("p{n:04}")], n)).collect()
}

/// Every command that writes, as a run gives them, but for those that take something away.
pub(crate) fn commands_of_a_run(store: &dyn Store) -> Result<(), StoreError> {
    let run = store.begin_run(&run_key("delivery"), &trigger())?;
    let evaluation = match store.evaluation(&key(1, "packages"))? {
        Some((id, _)) => id,
        None => {
            let token = store.begin_evaluation(&key(1, "packages"))?;
            for (number, chunk) in (0..).zip(attrs().chunks(CHUNK)) {
                store.add_attrs(token, number, chunk, &[])?;
            }
            store.add_attrs(token, 2, &[], &[error(&["e"])])?;
            store.close_evaluation(token, &cost())?
        }
    };
    store.use_evaluation(run, Side::Head, evaluation)?;
    for chunk in chain(DRVS).chunks(CHUNK) {
        store.add_drvs(chunk)?;
    }
    store.record_comparison(run, &comparison(CHANGES))?;
    store.close_run(run, &RunEnd::Answered(Box::new(outcome(comparison(CHANGES)))))
}

/// All that can be asked.
#[derive(Debug, PartialEq)]
pub(crate) struct World {
    run: Option<StoredRun>,
    rows: Vec<JobRow>,
    evaluation: Option<Evaluation>,
    pub(crate) graph: GraphSize,
}

pub(crate) fn world(store: &dyn Store) -> World {
    let run = store.begin_run(&run_key("delivery"), &trigger()).unwrap();
    World {
        run: store.run(run).unwrap(),
        rows: store.job_rows(run).unwrap(),
        evaluation: store.evaluation(&key(1, "packages")).unwrap().map(|(_, evaluation)| evaluation),
        graph: store.load_graph(&mut |_| {}).unwrap(),
    }
}

/// What holds at every moment.
fn assert_whole(store: &dyn Store, calm: &World) {
    let now = world(store);
    assert!(now.evaluation.is_none() || now.evaluation == calm.evaluation, "half an evaluation");
    assert!(now.rows.is_empty() || now.rows == calm.rows, "half a comparison");
    assert!(now.graph.drvs <= DRVS);
    let known = store.known_drvs(&(0..DRVS).map(drv_path).collect::<Vec<_>>()).unwrap();
    for drv in &known {
        let record = store.drv(drv).unwrap().unwrap().record.unwrap();
        assert!(record.inputs.keys().all(|input| known.contains(input)), "{drv} without what it needs");
    }
}

pub(crate) fn assert_sound(file: &Path) {
    let conn = sqlite_kit::open_foreign_read_only(file).unwrap();
    let said: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    assert!(!conn.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
}

#[test]
fn killed_at_each_write_of_the_commands_of_a_run() {
    let mut seeded = seed::start();
    let dir = tempfile::tempdir().unwrap();
    let calm_file = dir.path().join("calm.db");
    let calm = {
        let store = SqliteStore::open(&place(&calm_file, None)).unwrap();
        commands_of_a_run(&store).unwrap();
        world(&store)
    };
    let stride = if std::env::var_os("EKA_TEST_FACTOR").is_some() { 1 } else { STRIDE };
    let (mut point, mut points) = (seeded.rng.index(stride), 0);
    loop {
        let file = dir.path().join(format!("{point}.db"));
        let mut child = this_test_binary("store::crash::a_store_that_dies");
        child.env(DIES_AT, point.to_string()).env(FILE, &file).stdout(Stdio::null()).stderr(Stdio::null());
        let survived = Guard::spawn(&mut child).unwrap().wait(SOON).success();
        {
            let store = SqliteStore::open(&place(&file, None)).unwrap();
            assert_whole(&store, &calm);
            commands_of_a_run(&store).unwrap();
            assert_eq!(world(&store), calm, "after {point} writes");
        }
        assert_sound(&file);
        if survived {
            break;
        }
        (point, points) = (point + stride, points + 1);
    }
    println!("died at {points} points, the last before write {point}");
    assert!(points >= 10, "{points}");
}

/// The child of `killed_at_each_write_of_the_commands_of_a_run`: over a disk that kills it.
#[test]
#[ignore = "the child of killed_at_each_write_of_the_commands_of_a_run"]
fn a_store_that_dies() {
    let shim = Shim::install("dies");
    shim.fail(Fault::Die, std::env::var(DIES_AT).unwrap().parse().unwrap());
    let file = std::env::var_os(FILE).unwrap();
    let store = SqliteStore::open(&place(Path::new(&file), Some(shim.name()))).unwrap();
    commands_of_a_run(&store).unwrap();
}
