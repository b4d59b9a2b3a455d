//! What is written down of a run: what it used, what its change does, how it ended; also of one that fails, is cancelled,
//! or meets a database that cannot be written.

use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;

use ci_model::flow::Cause;
use ci_server::evaluate::confine::{Confine, Needs, NotConfined};
use ci_server::store::{JobRow, RunEnd, RunId, Store, StoredRun};
use nix_store::process::Spec;
use service_kit::clock::Time;
use service_kit::telemetry::chain;

use super::failing::{Failing, Strike};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    fn opened(&self, database: &str) -> SqliteStore {
        let place = SqlitePlace { path: self.path(database), clock: Clock::system(), vfs: None };
        SqliteStore::open(&place).unwrap()
    }

    /// Every run, oldest first.
    fn runs(&self, database: &str) -> Vec<StoredRun> {
        let store = self.opened(database);
        (1..).map_while(|id| store.run(RunId(id)).unwrap()).collect()
    }

    /// Which evaluations a run used: side (0 head, 1 base) and row.
    fn used(&self, database: &str, run: RunId) -> Vec<(i64, i64)> {
        let conn = sqlite_kit::open_foreign_read_only(&self.path(database)).unwrap();
        let sql = "SELECT side, evaluation FROM run_evaluation WHERE run = ?1 ORDER BY side";
        let mut query = conn.prepare(sql).unwrap();
        let rows = query.query_map([run.0], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn head_commit(&self) -> String {
        let mut git = Command::new("git");
        git.args(["rev-parse", "HEAD"]).current_dir(self.path("repository")).env("HOME", self.dir.path());
        String::from_utf8(git.output().unwrap().stdout).unwrap().trim().to_owned()
    }
}

fn end(run: &StoredRun) -> Option<&RunEnd> {
    run.end.as_ref().map(|(end, _)| end)
}

#[track_caller]
fn assert_answered(run: &StoredRun, outcome: &Outcome) {
    assert_eq!(end(run), Some(&RunEnd::Answered(Box::new(outcome.clone()))));
}

#[test]
fn a_run_is_there_with_what_it_used_and_what_it_came_to() {
    let world = World::new();
    world.bump_zlib();
    let outcome = world.run(|_| {}).unwrap();
    let [run] = &world.runs("ci.db")[..] else { panic!("one run is there") };
    assert_answered(run, &outcome);
    assert_eq!(run.trigger.cause, Cause::Person);
    assert_eq!(run.trigger.repository.as_str(), world.path("repository").to_str().unwrap());
    assert_eq!((run.trigger.trust, &run.trigger.head), (Trust::TrustedPush, &None), "of a work tree");
    assert_eq!(run.trigger.base.as_ref().unwrap().as_str(), world.head_commit());
    let store = world.opened("ci.db");
    assert_eq!(store.comparison(run.id).unwrap(), Some(outcome.comparison));
    let rows: Vec<JobRow> = store.job_rows(run.id).unwrap();
    assert_eq!(rows.iter().map(|row| row.path.to_string()).collect::<Vec<_>>(), ["curl", "git", "zlib"]);
    let [(0, head), (1, base)] = world.used("ci.db", run.id)[..] else {
        panic!("an evaluation of each side")
    };
    assert_ne!(head, base);
    let mode = fs::metadata(world.path("ci.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is nobody else's");
}

#[test]
fn the_second_run_of_a_tree_uses_the_same_evaluations() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    world.commit("zlib: 1.3");
    let again = world.run(|request| request.head = Head::Revision("HEAD".into())).unwrap();
    let runs = world.runs("ci.db");
    let [first, second] = &runs[..] else { panic!("{runs:?}") };
    assert_answered(second, &again);
    assert_eq!(second.trigger.head.as_ref().unwrap().as_str(), world.head_commit());
    let used = [first, second].map(|run| world.used("ci.db", run.id));
    assert_eq!((used[0].len(), &used[0]), (2, &used[1]));
}

/// What is evaluated afresh and comes to the same is the same evaluation, however many errors were asked what they say.
#[test]
fn what_comes_to_the_same_again_is_the_same_evaluation() {
    let world = World::new();
    let failing = "  f1 = throw \"one\"; f2 = assert 1 == 2; 3;\n  alone =";
    world.write("default.nix", &PACKAGES.replace("  alone =", failing));
    world.run(|_| {}).unwrap();
    let again = world.run(|request| (request.afresh, request.limits.explained_max) = (true, 0)).unwrap();
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    let used = [1, 2].map(|run| world.used("ci.db", RunId(run)));
    assert_eq!((used[0].len(), &used[0]), (2, &used[1]));
}

/// zlib's version is what a file outside of the repository says: first it says "1".
fn reads_outside(world: &World) -> PathBuf {
    let outside = world.path("version");
    fs::write(&outside, "1").unwrap();
    let read = format!("(builtins.readFile {})", outside.display());
    world.write("default.nix", &PACKAGES.replace("\"1.2\"", &read));
    outside
}

#[track_caller]
fn version(outcome: &Outcome) -> &str {
    let zlib = outcome.comparison.changes.iter().find(|change| change.attr.path.to_string() == "zlib");
    match &zlib.unwrap().kind {
        ChangeKind::Bumped { to, .. } => to,
        other => panic!("{other:?}"),
    }
}

/// What is evaluated afresh and comes to something else is what is remembered from then on; the run before keeps its own.
#[test]
fn an_evaluation_that_came_out_otherwise_afresh_takes_the_place_of_the_one_that_is_there() {
    let world = World::new();
    let outside = reads_outside(&world);
    world.run(|_| {}).unwrap();
    fs::write(&outside, "2").unwrap();
    assert_eq!(version(&world.run(|_| {}).unwrap()), "1", "as it is remembered");
    let afresh = world.run(|request| request.afresh = true).unwrap();
    let [warning] = &afresh.warnings[..] else { panic!("{:?}", afresh.warnings) };
    assert!(warning.contains("the job all of the head"), "{warning}");
    assert!(warning.contains("which it takes the place of"), "{warning}");
    fs::write(&outside, "3").unwrap();
    let after = world.run(|_| {}).unwrap();
    assert_eq!([version(&afresh), version(&after)], ["2", "2"]);
    assert!(after.warnings.is_empty(), "{:?}", after.warnings);
    let used = [1, 2, 3, 4].map(|run| world.used("ci.db", RunId(run)));
    assert_eq!((used[0].len(), &used[0]), (2, &used[1]));
    assert_eq!((used[2].len(), &used[2]), (2, &used[3]));
    assert_eq!(used[2][1], used[0][1], "the base is the same");
    assert_ne!(used[2][0], used[0][0]);
}

/// Of two runs at once that come to something else the first stays, and the other does not say that it used that.
#[test]
fn an_evaluation_that_came_out_otherwise_is_not_taken_for_the_one_that_is_there() {
    let world = World::new();
    let outside = reads_outside(&world);
    let mut told = |progress: Progress| {
        if matches!(progress, Progress::Evaluating { side: Side::Head, .. }) {
            let other = || world.run(|_| {}).unwrap();
            std::thread::scope(|scope| scope.spawn(other).join().unwrap());
            fs::write(&outside, "2").unwrap();
        }
    };
    let outcome = world.run_told(|_| {}, &mut told).unwrap();
    assert_eq!(version(&outcome), "2");
    let [warning] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
    assert!(warning.contains("the job all of the head") && warning.contains("stays as it is"), "{warning}");
    let [late, first] = [1, 2].map(|run| world.used("ci.db", RunId(run)));
    assert_eq!(first.len(), 2);
    assert_eq!(late, first[1..], "the base is the same");
    assert_eq!(version(&world.run(|_| {}).unwrap()), "1");
}

/// What keeps evaluators in, and has something to say.
struct Talks;

impl Confine for Talks {
    fn confine(&self, spec: Spec, _needs: &Needs) -> Result<Spec, NotConfined> {
        Ok(spec)
    }

    fn notes(&self) -> Vec<String> {
        vec!["The door was closed.".into()]
    }
}

/// What may be allowed is told with the answer, and is recorded with it.
#[test]
fn what_was_refused_is_recorded_as_it_is_told() {
    let world = World::new();
    world.write("default.nix", r#"{ x = builtins.fetchurl "http://127.0.0.1:1/x"; }"#);
    let outcome = world.run(|request| {
        (request.trust, request.confine) = (Trust::UntrustedPr, Arc::new(Talks));
    });
    let outcome = outcome.unwrap();
    let [uris, door] = &outcome.warnings[..] else { panic!("{:?}", outcome.warnings) };
    assert!(uris.contains("One new error is about what may not be fetched"), "{uris}");
    assert_eq!(door, "The door was closed.");
    assert_answered(&world.runs("ci.db")[0], &outcome);
}

#[test]
fn a_run_that_fails_says_why() {
    let world = World::new();
    let error = world.run(|request| request.jobs = vec!["al".parse().unwrap()]).unwrap_err();
    let [run] = &world.runs("ci.db")[..] else { panic!("one run is there") };
    assert_eq!(end(run), Some(&RunEnd::Failed(chain(&error))));
    assert_eq!(world.used("ci.db", run.id), []);
    // Before both sides are there, there is nothing that a run could be of.
    world.run(|request| request.base = Base::Revision("nothing".into())).unwrap_err();
    assert_eq!(world.runs("ci.db").len(), 1);
}

/// What ended with an error that may pass is not remembered, so there is nothing to point to.
#[test]
fn an_evaluation_that_is_not_remembered_is_not_noted() {
    let world = World::new();
    let sum = "sum = f: n: builtins.foldl' (a: b: a + f b) 0 (builtins.genList (x: x) n)";
    world.write("default.nix", &format!("let {sum}; in {{ endless = sum (x: sum (y: y) 10000) 1000000; }}"));
    let outcome = world.run(|request| request.limits.wall = Duration::from_secs(10)).unwrap();
    assert_eq!(outcome.verdict, Verdict::Bad, "{:?}", outcome.reasons);
    let [run] = &world.runs("ci.db")[..] else { panic!("one run is there") };
    assert_answered(run, &outcome);
    assert_eq!(
        world.used("ci.db", run.id).iter().map(|(side, _)| *side).collect::<Vec<_>>(),
        [1],
        "the base"
    );
}

/// Also at the last moment: what was cut short is no answer.
#[test]
fn a_run_that_is_cancelled_says_so() {
    let world = World::new();
    world.bump_zlib();
    let is_early = |progress: &Progress| matches!(progress, Progress::Evaluating { .. });
    let is_late = |progress: &Progress| matches!(progress, Progress::Comparing);
    let moments: [&(dyn Fn(&Progress) -> bool + Sync); 2] = [&is_early, &is_late];
    for (number, moment) in (1..).zip(moments) {
        let (stop, request) = (Stop::new(), world.request());
        let mut told = |progress: Progress| {
            if moment(&progress) {
                stop.request();
            }
        };
        let error = runtime().block_on(pipeline::run(&request, &stop, &mut told)).unwrap_err();
        assert!(matches!(error, RunError::Cancelled), "{error}");
        drop(request);
        let runs = world.runs("ci.db");
        assert_eq!((runs.len(), end(runs.last().unwrap())), (number, Some(&RunEnd::Cancelled)));
    }
    // What was evaluated on the way is used by the next one.
    assert_zlib_is_why(&world.run(|_| {}).unwrap());
    assert_eq!(world.used("ci.db", RunId(2)), world.used("ci.db", RunId(3)));
}

/// As two processes: each has the database open for itself. Each begins while the other is under way.
#[test]
fn two_runs_of_a_commit_at_once_stand_beside_each_other() {
    let world = World::new();
    world.bump_zlib();
    world.commit("zlib: 1.3");
    let both = Barrier::new(2);
    let run = || {
        let mut told = |progress: Progress| {
            if let Progress::Evaluating { side: Side::Base, .. } = progress {
                both.wait();
            }
        };
        let sides = |request: &mut Request| {
            (request.head, request.base) = (Head::Revision("HEAD".into()), Base::Revision("HEAD~1".into()));
        };
        world.run_told(sides, &mut told).unwrap()
    };
    let outcomes =
        std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(run)).map(|run| run.join().unwrap()));
    let runs = world.runs("ci.db");
    let [one, other] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(one.trigger, other.trigger);
    for run in [one, other] {
        let Some(RunEnd::Answered(outcome)) = end(run) else { panic!("{run:?}") };
        assert!(outcomes.contains(outcome));
        assert_zlib_is_why(outcome);
    }
    assert_eq!(world.used("ci.db", one.id).len(), 2);
    assert_eq!(world.used("ci.db", one.id), world.used("ci.db", other.id));
}

/// A run that is begun again with its key is that run: its first end stays, and whoever asked again has an answer.
#[test]
fn a_key_that_comes_again_is_no_other_run() {
    let world = World::new();
    world.bump_zlib();
    let key = || RunKey::new("delivery-1").unwrap();
    let first = world.run(|request| request.key = key()).unwrap();
    let second = world.run(|request| request.key = key()).unwrap();
    assert_zlib_is_why(&second);
    let runs = world.runs("ci.db");
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_answered(run, &first);
    let [warning] = &second.warnings[..] else { panic!("{:?}", second.warnings) };
    assert!(warning.contains("run 1 is closed"), "{warning}");
}

#[test]
fn what_a_run_used_is_kept_as_long_as_the_run() {
    let world = World::new();
    world.bump_zlib();
    world.run(|_| {}).unwrap();
    let [run] = &world.runs("ci.db")[..] else { panic!("one run is there") };
    let used = world.used("ci.db", run.id);
    // As if they had been looked at last long before the run.
    let conn = sqlite_kit::rusqlite::Connection::open(world.path("ci.db")).unwrap();
    conn.execute_batch("UPDATE evaluation SET touched_day = 1; UPDATE attr_value SET touched_day = 1")
        .unwrap();
    drop(conn);
    let now = Clock::system().now();
    let (clock, hand) = Clock::manual(now);
    let place = SqlitePlace { path: world.path("ci.db"), clock, vfs: None };
    let store = SqliteStore::open(&place).unwrap();
    hand.step(10 * DAY);
    let before_it = Time::from_ms(run.begun.as_ms() - 1);
    assert_eq!(store.forget(before_it).unwrap(), Default::default());
    assert_eq!(world.used("ci.db", run.id), used);
    assert!(matches!(end(&world.runs("ci.db")[0]), Some(RunEnd::Answered(_))));
    let forgotten = store.forget(Time::from_ms(now.as_ms() + 1)).unwrap();
    assert_eq!((forgotten.runs, forgotten.evaluations), (1, 2));
}

/// In each command that a run gives, once: the answer is the same, and a warning says what to do. Some are given again in
/// another way, so that as much as can be is there.
#[test]
fn a_database_that_cannot_be_written_takes_no_answer_away() {
    let world = World::new();
    world.bump_zlib();
    let once = |command| vec![Strike { command, nth: Some(1) }];
    let cases = [
        once("begin_run"),
        once("use_evaluation"),
        vec![Strike { command: "use_evaluation", nth: Some(2) }],
        once("record_comparison"),
        once("close_run"),
        vec![Strike { command: "close_run", nth: None }],
        once("begin_evaluation"),
        once("add_attrs"),
        once("close_evaluation"),
        once("replace_evaluation"),
        vec![
            Strike { command: "add_attrs", nth: Some(1) },
            Strike { command: "drop_evaluation", nth: Some(1) },
        ],
    ];
    let failing = Failing::shim("a-run-that-cannot-be-recorded");
    for (number, strikes) in cases.into_iter().enumerate() {
        let database = format!("ci-{number}.db");
        let store = Arc::new(Failing::open(&world.path(&database), failing, strikes.clone()));
        let mut request = world.request();
        request.store = Arc::clone(&store) as Arc<dyn Store>;
        request.afresh = strikes[0].command == "replace_evaluation";
        let outcome = runtime().block_on(pipeline::run(&request, &Stop::new(), &mut |_| {})).unwrap();
        assert_zlib_is_why(&outcome);
        let struck: usize = strikes.iter().map(|of| if of.nth.is_some() { 1 } else { 2 }).sum();
        assert_eq!(store.struck(), struck, "{strikes:?}");
        let [warning] = &outcome.warnings[..] else { panic!("{strikes:?}: {:?}", outcome.warnings) };
        assert!(warning.contains(&format!("in database {}", world.path(&database).display())), "{warning}");
        assert!(warning.contains("free some") || warning.contains("check it, then try again"), "{warning}");
        drop((request, store));
        assert_as_whole_as_can_be(&world, &database, &strikes, &outcome);
        // With space again, all of it is written.
        let healthy = world.run(|request| request.store = Arc::new(world.opened(&database))).unwrap();
        assert_zlib_is_why(&healthy);
        assert!(healthy.warnings.is_empty(), "{:?}", healthy.warnings);
        let runs = world.runs(&database);
        assert_answered(runs.last().unwrap(), &healthy);
        assert_eq!(world.used(&database, runs.last().unwrap().id).len(), 2);
    }
}

#[track_caller]
fn assert_as_whole_as_can_be(world: &World, database: &str, strikes: &[Strike], outcome: &Outcome) {
    let runs = world.runs(database);
    let used = |run: &StoredRun| world.used(database, run.id).len();
    match (strikes[0].command, strikes[0].nth, &runs[..]) {
        ("begin_run", _, []) => {}
        // The end brings the comparison along.
        ("record_comparison", _, [run]) => {
            assert_answered(run, outcome);
            assert_eq!(used(run), 2);
        }
        ("close_run", Some(_), [run]) => {
            let Some(RunEnd::Failed(why)) = end(run) else { panic!("{run:?}") };
            assert!(why.contains("came to an answer"), "{why}");
            assert!(
                outcome.warnings[0].starts_with("This run is not recorded as a whole: cannot close a run")
            );
        }
        ("close_run", None, [run]) => {
            assert_eq!(end(run), Some(&RunEnd::Lost));
            assert!(outcome.warnings[0].contains("1 more"), "{:?}", outcome.warnings);
        }
        (_, _, [run]) => {
            assert_answered(run, outcome);
            assert_eq!(used(run), 1, "{strikes:?}");
        }
        other => panic!("{other:?}"),
    }
    let conn = sqlite_kit::open_foreign_read_only(&world.path(database)).unwrap();
    let half = "SELECT count(*) FROM evaluation WHERE state != 1";
    let half: i64 = conn.query_row(half, [], |row| row.get(0)).unwrap();
    let stays = strikes.iter().any(|of| matches!(of.command, "drop_evaluation"));
    assert_eq!(half, i64::from(stays), "{strikes:?}");
}

/// Why a run failed is told, whether or not it can be written.
#[test]
fn a_failure_that_cannot_be_written_is_told_all_the_same() {
    let world = World::new();
    let strikes = vec![Strike { command: "close_run", nth: None }];
    let shim = Failing::shim("a-failure-that-cannot-be-recorded");
    let store = Failing::open(&world.path("ci.db"), shim, strikes);
    let mut request = world.request();
    request.store = Arc::new(store);
    request.jobs = vec!["al".parse().unwrap()];
    let error = runtime().block_on(pipeline::run(&request, &Stop::new(), &mut |_| {})).unwrap_err();
    assert!(matches!(error, RunError::NoSuchJob { .. }), "{error}");
    drop(request);
    assert_eq!(world.runs("ci.db").iter().map(end).collect::<Vec<_>>(), [Some(&RunEnd::Lost)]);
}
