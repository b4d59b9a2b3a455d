//! What every engine of the store has to do. A database of its own comes in for each test, which may be opened more
//! than once; nothing here knows which engine it is.

use std::collections::HashSet;
use std::time::Duration;

use ci_model::attr::AttrError;
use ci_model::flow::{Evaluation, Trust};
use ci_model::outcome::Side;
use ci_server::store::{
    CHUNK_MAX, Class, DifferenceCode, EvaluationId, EvaluationToken, GraphSize, Refusal, RunEnd, RunId,
    SettingsHash, Store, StoreError,
};
use nix_types::DrvPath;
use service_kit::clock::Time;

use super::rows::{
    attr, chain, comparison, cost, drv, drv_path, error, key, outcome, path, run_key, trigger,
};

/// A database of some engine.
pub(crate) trait Engine {
    /// Opens it; it may be open already.
    fn open(&self) -> Box<dyn Store>;
    /// What its clock says.
    fn now(&self) -> Time;
    /// Moves its clock.
    fn pass(&self, length: Duration);
}

/// The suite for one engine, as a module of tests.
/// The engine's `new()` makes an empty database.
macro_rules! suite {
    ($name:ident, $engine:ty) => {
        mod $name {
            use crate::store::conformance as suite;

            suite::tests!($engine:
                a_run_is_what_its_key_says, two_runs_of_a_commit_share_evaluations, a_run_ends_once,
                a_run_that_nobody_runs_any_more_is_lost,
                comparisons_are_recorded_once, commits_are_seen_first_when_they_are,
                an_evaluation_comes_back_as_it_was, half_an_evaluation_is_never_seen,
                of_two_at_once_the_first_stays, what_is_evaluated_afresh_takes_the_key, an_attribute_twice_is_refused_by_name, odd_names_come_back,
                many_attributes_come_back, meta_may_be_huge, unknown_tokens_are_refused,
                late_tokens_are_refused_after_a_restart, chunks_come_in_order_and_may_come_twice,
                chunks_are_bounded, trust_parts_evaluations, drvs_come_back_with_all_they_need,
                drvs_come_behind_what_they_need, a_made_up_name_is_not_known, the_graph_comes_inputs_first,
                what_is_needed_is_not_forgotten, what_was_used_within_a_day_is_not_forgotten,
            );
        }
    };
}
macro_rules! tests {
    ($engine:ty: $($test:ident),* $(,)?) => { $(#[test] fn $test() { suite::$test(&<$engine>::new()); })* };
}
pub(crate) use {suite, tests};

const DAY: Duration = Duration::from_secs(86_400);

/// Stores an evaluation, half of its attributes in each chunk.
fn store_evaluation(store: &dyn Store, tree: u8, count: u64) -> EvaluationId {
    let token = store.begin_evaluation(&key(tree, "packages")).unwrap();
    let attrs: Vec<_> = (0..count).map(|n| attr(&["set", &format!("p{n}")], n)).collect();
    for (number, chunk) in attrs.chunks(attrs.len().div_ceil(2).max(1)).enumerate() {
        store.add_attrs(token, u32::try_from(number).unwrap(), chunk, &[]).unwrap();
    }
    store.close_evaluation(token, &cost()).unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Refusal {
    let error = result.unwrap_err();
    assert_eq!(error.class(), Class::Refused, "{error}");
    error.refusal().unwrap().clone()
}

fn add_all(store: &dyn Store, drvs: &[ci_model::drv::DrvRecord]) -> usize {
    drvs.chunks(CHUNK_MAX).map(|chunk| store.add_drvs(chunk).unwrap()).sum()
}

pub(crate) fn a_run_is_what_its_key_says(engine: &impl Engine) {
    let store = engine.open();
    let run = store.begin_run(&run_key("delivery-1"), &trigger()).unwrap();
    engine.pass(DAY);
    assert_eq!(
        store.begin_run(&run_key("delivery-1"), &trigger()).unwrap(),
        run,
        "a delivery that came twice"
    );
    let beside = store.begin_run(&run_key("delivery-2"), &trigger()).unwrap();
    assert_ne!(beside, run);
    let other = ci_model::flow::Trigger { base: None, ..trigger() };
    let taken = refused(store.begin_run(&run_key("delivery-1"), &other));
    assert_eq!(taken, Refusal::KeyTaken { key: "delivery-1".into(), run });
    let stored = engine.open().run(run).unwrap().unwrap();
    assert_eq!((stored.trigger, stored.end), (trigger(), None));
    assert_eq!(stored.begun.as_ms() + 86_400_000, engine.now().as_ms(), "it began when it was begun first");
    assert_eq!(engine.open().run(RunId(99)).unwrap(), None);
}

pub(crate) fn two_runs_of_a_commit_share_evaluations(engine: &impl Engine) {
    let store = engine.open();
    let runs = ["one", "other"].map(|key| store.begin_run(&run_key(key), &trigger()).unwrap());
    let evaluation = store_evaluation(&*store, 1, 3);
    for run in runs {
        store.use_evaluation(run, Side::Head, evaluation).unwrap();
        store.use_evaluation(run, Side::Head, evaluation).unwrap();
    }
    store.close_run(runs[0], &RunEnd::Cancelled).unwrap();
    store.close_run(runs[1], &RunEnd::Answered(Box::new(outcome(comparison(2))))).unwrap();
    let ends = runs.map(|run| store.run(run).unwrap().unwrap().end.unwrap().0);
    assert_eq!(ends, [RunEnd::Cancelled, RunEnd::Answered(Box::new(outcome(comparison(2))))]);
    let unknown = store.use_evaluation(runs[0], Side::Base, EvaluationId(99));
    assert_eq!(refused(unknown), Refusal::UnknownEvaluation(EvaluationId(99)));
}

pub(crate) fn a_run_ends_once(engine: &impl Engine) {
    let store = engine.open();
    let run = store.begin_run(&run_key("x"), &trigger()).unwrap();
    let end = RunEnd::Answered(Box::new(outcome(comparison(4))));
    store.close_run(run, &end).unwrap();
    store.close_run(run, &end).unwrap();
    assert_eq!(refused(store.close_run(run, &RunEnd::Cancelled)), Refusal::RunClosed(run));
    let nobody = store.close_run(RunId(99), &RunEnd::Failed("no".into()));
    assert_eq!(refused(nobody), Refusal::UnknownRun(RunId(99)));
    assert_eq!(store.run(run).unwrap().unwrap().end, Some((end, engine.now())));
}

pub(crate) fn a_run_that_nobody_runs_any_more_is_lost(engine: &impl Engine) {
    let (mine, theirs) = (engine.open(), engine.open());
    let [gone, ended] = ["gone", "ended"].map(|key| theirs.begin_run(&run_key(key), &trigger()).unwrap());
    theirs.close_run(ended, &RunEnd::Cancelled).unwrap();
    let here = mine.begin_run(&run_key("here"), &trigger()).unwrap();
    let end = |run| engine.open().run(run).unwrap().unwrap().end;
    assert_eq!([end(gone), end(here)], [None, None], "both are at work");
    drop(theirs);
    engine.pass(DAY);
    assert_eq!(end(gone), Some((RunEnd::Lost, engine.now())));
    assert_eq!((end(here), end(ended).map(|end| end.0)), (None, Some(RunEnd::Cancelled)));
    // It goes on when it is begun again, and is lost once more with whoever did that, a `forget` being enough.
    let others = engine.open();
    assert_eq!(others.begin_run(&run_key("gone"), &trigger()).unwrap(), gone);
    assert_eq!(end(gone), None);
    drop(others);
    mine.forget(Time::from_ms(0)).unwrap();
    assert_eq!(mine.run(gone).unwrap().unwrap().end, Some((RunEnd::Lost, engine.now())));
    // Somebody who is still at work on it has the last word.
    let end = RunEnd::Answered(Box::new(outcome(comparison(1))));
    mine.close_run(gone, &end).unwrap();
    assert_eq!(mine.run(gone).unwrap().unwrap().end, Some((end, engine.now())));
    assert_eq!(refused(mine.close_run(gone, &RunEnd::Lost)), Refusal::RunClosed(gone));
}

pub(crate) fn comparisons_are_recorded_once(engine: &impl Engine) {
    let store = engine.open();
    let run = store.begin_run(&run_key("x"), &trigger()).unwrap();
    assert_eq!((store.comparison(run).unwrap(), store.job_rows(run).unwrap().len()), (None, 0));
    let many = comparison(3 * CHUNK_MAX as u64 + 1);
    store.record_comparison(run, &many).unwrap();
    store.record_comparison(run, &many).unwrap();
    assert_eq!(refused(store.record_comparison(run, &comparison(1))), Refusal::ComparedOtherwise(run));
    assert_eq!(store.comparison(run).unwrap(), Some(many.clone()));
    let rows = store.job_rows(run).unwrap();
    assert_eq!(rows.len(), many.changes.len());
    for (row, change) in rows.iter().zip(&many.changes) {
        assert_eq!((&row.job, &row.path), (&change.attr.job, &change.attr.path));
        assert_eq!((&row.before, &row.after), (&change.before, &change.after));
    }
    let first: Vec<_> = rows.iter().take(3).map(|row| row.difference).collect();
    assert_eq!(first, [DifferenceCode::New, DifferenceCode::Removed, DifferenceCode::Changed]);
}

pub(crate) fn commits_are_seen_first_when_they_are(engine: &impl Engine) {
    let store = engine.open();
    let (repository, head) = (trigger().repository, trigger().head.unwrap());
    assert_eq!(store.first_seen(&repository, &head).unwrap(), None);
    let seen = engine.now();
    store.begin_run(&run_key("1"), &trigger()).unwrap();
    engine.pass(DAY);
    store.begin_run(&run_key("2"), &trigger()).unwrap();
    assert_eq!(store.first_seen(&repository, &head).unwrap(), Some(seen));
    let id = store.repository(&repository).unwrap();
    assert_eq!(store.repository(&repository).unwrap(), id);
    let other = "github.com/ekala-project/other".parse().unwrap();
    assert_ne!(store.repository(&other).unwrap(), id);
    assert_eq!(store.first_seen(&other, &head).unwrap(), None, "a fork's record is its own");
}

pub(crate) fn an_evaluation_comes_back_as_it_was(engine: &impl Engine) {
    let store = engine.open();
    let key = key(1, "packages");
    assert_eq!(store.evaluation(&key).unwrap(), None);
    let token = store.begin_evaluation(&key).unwrap();
    let mut bare = attr(&["b"], 5);
    (bare.pname, bare.version, bare.traits, bare.meta) = (None, None, None, Default::default());
    bare.name = "another name than its derivation's".into();
    bare.outputs.insert("lib".into(), None);
    // `a.c` comes before `a-b` by components, and behind it as text.
    let attrs = [attr(&["a", "c"], 1), attr(&["a-b"], 2), bare];
    let errors = [error(&["a", "d"]), error(&[])];
    store.add_attrs(token, 0, &attrs[..2], &errors[..1]).unwrap();
    store.add_attrs(token, 1, &attrs[2..], &errors[1..]).unwrap();
    let id = store.close_evaluation(token, &cost()).unwrap();
    assert_eq!(store.close_evaluation(token, &cost()).unwrap(), id);
    drop(store);
    let expected = Evaluation {
        job: key.job.clone(),
        tree: key.tree.clone(),
        attrs: attrs.to_vec(),
        errors: vec![errors[1].clone(), errors[0].clone()],
        cost: ci_model::flow::EvaluationCost { reused: true, ..cost() },
    };
    assert_eq!(engine.open().evaluation(&key).unwrap(), Some((id, expected)));
    let closed = refused(engine.open().add_attrs(token, 2, &attrs[..1], &[]));
    assert_eq!(closed, Refusal::LateToken(id));
}

pub(crate) fn half_an_evaluation_is_never_seen(engine: &impl Engine) {
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None);
    store.add_attrs(token, 0, &[attr(&["a"], 1)], &[]).unwrap();
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None);
    let run = store.begin_run(&run_key("x"), &trigger()).unwrap();
    let half = store.use_evaluation(run, Side::Head, token.evaluation);
    assert_eq!(refused(half), Refusal::UnknownEvaluation(token.evaluation));
    drop(store);
    let store = engine.open();
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None, "not after a restart either");
    let id = store_evaluation(&*store, 1, 3);
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap().unwrap().0, id);
    engine.pass(3 * DAY);
    store_evaluation(&*store, 2, 1);
    let forgotten = store.forget(engine.now()).unwrap();
    assert_eq!(forgotten.evaluations, 2, "the half one and the one that nobody used for three days");
}

pub(crate) fn of_two_at_once_the_first_stays(engine: &impl Engine) {
    let store = engine.open();
    let tokens = [(), ()].map(|()| store.begin_evaluation(&key(1, "packages")).unwrap());
    assert_ne!(tokens[0].evaluation, tokens[1].evaluation);
    for (number, token) in (1..).zip(tokens) {
        store.add_attrs(token, 0, &[attr(&["a"], number)], &[]).unwrap();
    }
    let first = store.close_evaluation(tokens[1], &cost()).unwrap();
    assert_eq!(first, tokens[1].evaluation);
    assert_eq!(store.close_evaluation(tokens[0], &cost()).unwrap(), first, "the other one is told");
    let (id, evaluation) = store.evaluation(&key(1, "packages")).unwrap().unwrap();
    assert_eq!((id, &evaluation.attrs[..]), (first, &[attr(&["a"], 2)][..]));
    let gone = refused(store.add_attrs(tokens[0], 1, &[attr(&["b"], 1)], &[]));
    assert_eq!(gone, Refusal::UnknownEvaluation(tokens[0].evaluation));
    store.drop_evaluation(tokens[1]).unwrap();
    assert!(store.evaluation(&key(1, "packages")).unwrap().is_some(), "a whole one is not dropped");
}

pub(crate) fn what_is_evaluated_afresh_takes_the_key(engine: &impl Engine) {
    let store = engine.open();
    let begin = |number| {
        let token = store.begin_evaluation(&key(1, "packages")).unwrap();
        store.add_attrs(token, 0, &[attr(&["a"], number)], &[]).unwrap();
        token
    };
    let found = |store: &dyn Store| {
        let (id, found) = store.evaluation(&key(1, "packages")).unwrap().unwrap();
        (id, found.attrs)
    };
    // Where there is nothing yet, it is like any other; what is not whole is in nobody's way.
    let [first, second, third, late] = [1, 2, 3, 4].map(begin);
    let ids = [first, second, third].map(|token| {
        let run = store.begin_run(&run_key(&token.evaluation.0.to_string()), &trigger()).unwrap();
        let id = store.replace_evaluation(token, &cost()).unwrap();
        assert_eq!((id, found(&*store).0), (token.evaluation, id), "the last one is found");
        store.use_evaluation(run, Side::Head, id).unwrap();
        run
    });
    assert_eq!(found(&*store), (third.evaluation, vec![attr(&["a"], 3)]));
    // An answer that got lost: the same again changes nothing, also of one that was replaced meanwhile.
    for token in [first, third] {
        assert_eq!(store.replace_evaluation(token, &cost()).unwrap(), token.evaluation);
        assert_eq!(store.close_evaluation(token, &cost()).unwrap(), token.evaluation);
    }
    assert_eq!(store.close_evaluation(late, &cost()).unwrap(), third.evaluation, "only afresh");
    assert_eq!(refused(store.replace_evaluation(late, &cost())), Refusal::UnknownEvaluation(late.evaluation));
    assert_eq!(found(&*engine.open()), (third.evaluation, vec![attr(&["a"], 3)]));
    // What was replaced is somebody's to use who has found it already, and stays as long as the runs that use it.
    store.use_evaluation(ids[1], Side::Base, first.evaluation).unwrap();
    engine.pass(3 * DAY);
    let before_runs = Time::from_ms(engine.now().as_ms() - 4 * 86_400_000);
    assert_eq!(store.forget(before_runs).unwrap(), Default::default());
    store.forget(engine.now()).unwrap();
    assert_eq!(ids.map(|run| store.run(run).unwrap()), [None, None, None]);
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None);
    let again = store.use_evaluation(
        store.begin_run(&run_key("x"), &trigger()).unwrap(),
        Side::Head,
        first.evaluation,
    );
    assert_eq!(refused(again), Refusal::UnknownEvaluation(first.evaluation), "nothing of it is left");
}

pub(crate) fn an_attribute_twice_is_refused_by_name(engine: &impl Engine) {
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    store.add_attrs(token, 0, &[attr(&["a", "b.c"], 1)], &[error(&["e"])]).unwrap();
    let twice = |attrs: &[_], errors: &[_]| refused(store.add_attrs(token, 1, attrs, errors));
    let name = Refusal::AttrTwice(path(&["a", "b.c"]));
    assert_eq!(twice(&[attr(&["new"], 3), attr(&["a", "b.c"], 2)], &[]), name);
    assert_eq!(twice(&[], &[error(&["a", "b.c"])]), name);
    assert_eq!(twice(&[attr(&["e"], 2)], &[]), Refusal::AttrTwice(path(&["e"])));
    assert_eq!(twice(&[attr(&["f"], 2), attr(&["f"], 2)], &[]), Refusal::AttrTwice(path(&["f"])));
    assert_eq!(twice(&[attr(&["g"], 2)], &[error(&["g"])]), Refusal::AttrTwice(path(&["g"])));
    assert!(name.to_string().contains(r#"a."b.c""#), "{name}");
    store.add_attrs(token, 1, &[attr(&["new"], 3)], &[]).unwrap(); // nothing of a refused chunk is there
    store.close_evaluation(token, &cost()).unwrap();
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap().unwrap().1.attrs.len(), 2);
}

pub(crate) fn odd_names_come_back(engine: &impl Engine) {
    let store = engine.open();
    let mut odd: Vec<String> = (0..=0x7f_u8).map(|byte| format!("a{}z", char::from(byte))).collect();
    odd.extend(
        [
            "",
            " ",
            ".",
            "..",
            "\"",
            "''",
            "${x}",
            "'; DROP TABLE attr; --",
            "é",
            "e\u{301}",
            "\u{202e}x",
            "\u{feff}",
            "日本語",
            "\u{10ffff}",
            "%",
            "_",
            "A",
            "a",
            "x".repeat(4000).as_str(),
        ]
        .map(String::from),
    );
    let attrs: Vec<_> = odd.iter().enumerate().map(|(n, name)| attr(&["set", name], n as u64)).collect();
    let errors: Vec<_> =
        odd.iter().map(|name| AttrError { message: name.clone(), ..error(&["errors", name]) }).collect();
    let token = store.begin_evaluation(&key(1, "jöb \"'")).unwrap();
    store.add_attrs(token, 0, &attrs, &errors).unwrap();
    store.close_evaluation(token, &cost()).unwrap();
    let (_, stored) = store.evaluation(&key(1, "jöb \"'")).unwrap().unwrap();
    let sorted = |mut attrs: Vec<ci_model::attr::Attr>| {
        attrs.sort_by(|one, other| one.path.cmp(&other.path));
        attrs
    };
    assert_eq!(stored.attrs, sorted(attrs));
    let mut expected = errors;
    expected.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(stored.errors, expected);
}

/// Chunks enough, and more of them than are read at once.
pub(crate) fn many_attributes_come_back(engine: &impl Engine) {
    const MANY: u64 = 12 * CHUNK_MAX as u64 + 1;
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    let attrs: Vec<_> = (0..MANY).map(|n| attr(&["set", &format!("{n:06}")], n)).collect();
    for (number, chunk) in (0..).zip(attrs.chunks(CHUNK_MAX)) {
        store.add_attrs(token, number, chunk, &[]).unwrap();
    }
    store.close_evaluation(token, &cost()).unwrap();
    let (_, stored) = store.evaluation(&key(1, "packages")).unwrap().unwrap();
    assert_eq!(stored.attrs.len() as u64, MANY);
    assert!(stored.attrs == attrs, "each of them, in order");
}

pub(crate) fn meta_may_be_huge(engine: &impl Engine) {
    let store = engine.open();
    let mut huge = attr(&["huge"], 1);
    huge.meta.description = Some("\u{1}\"\\é".repeat(1 << 20));
    huge.meta.maintainers = (0..10_000)
        .map(|n| ci_model::attr::Maintainer { github_id: Some(n), ..Default::default() })
        .collect();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    store.add_attrs(token, 0, std::slice::from_ref(&huge), &[]).unwrap();
    store.close_evaluation(token, &cost()).unwrap();
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap().unwrap().1.attrs, [huge]);
}

pub(crate) fn unknown_tokens_are_refused(engine: &impl Engine) {
    let store = engine.open();
    let real = store.begin_evaluation(&key(1, "packages")).unwrap();
    let unknown = EvaluationToken { evaluation: EvaluationId(99), ..real };
    let why = Refusal::UnknownEvaluation(EvaluationId(99));
    assert_eq!(refused(store.add_attrs(unknown, 0, &[], &[])), why);
    assert_eq!(refused(store.close_evaluation(unknown, &cost())), why);
    store.drop_evaluation(unknown).unwrap();
    let guessed = EvaluationToken { session: real.session ^ 1, ..real };
    assert_eq!(refused(store.close_evaluation(guessed, &cost())), Refusal::LateToken(real.evaluation));
    store.drop_evaluation(real).unwrap();
    assert_eq!(refused(store.close_evaluation(real, &cost())), Refusal::UnknownEvaluation(real.evaluation));
}

pub(crate) fn late_tokens_are_refused_after_a_restart(engine: &impl Engine) {
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    store.add_attrs(token, 0, &[attr(&["a"], 1)], &[]).unwrap();
    drop(store);
    let store = engine.open();
    let late = Refusal::LateToken(token.evaluation);
    assert_eq!(refused(store.add_attrs(token, 1, &[attr(&["b"], 2)], &[])), late);
    assert_eq!(refused(store.close_evaluation(token, &cost())), late);
    assert_eq!(refused(store.drop_evaluation(token)), late);
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None);
}

pub(crate) fn chunks_come_in_order_and_may_come_twice(engine: &impl Engine) {
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    let gap = refused(store.add_attrs(token, 1, &[attr(&["a"], 1)], &[]));
    assert_eq!(gap, Refusal::ChunkGap { evaluation: token.evaluation, wanted: 0, got: 1 });
    for _ in 0..2 {
        store.add_attrs(token, 0, &[attr(&["a"], 1)], &[]).unwrap();
    }
    store.add_attrs(token, 1, &[], &[error(&["b"])]).unwrap();
    store.close_evaluation(token, &cost()).unwrap();
    let (_, stored) = store.evaluation(&key(1, "packages")).unwrap().unwrap();
    assert_eq!((stored.attrs.len(), stored.errors.len()), (1, 1));
    let closed = refused(store.add_attrs(token, 2, &[attr(&["c"], 1)], &[]));
    assert_eq!(closed, Refusal::EvaluationClosed(token.evaluation));
}

pub(crate) fn chunks_are_bounded(engine: &impl Engine) {
    let store = engine.open();
    let token = store.begin_evaluation(&key(1, "packages")).unwrap();
    let attrs: Vec<_> = (0..CHUNK_MAX as u64).map(|n| attr(&[&n.to_string()], n)).collect();
    let much = refused(store.add_attrs(token, 0, &attrs, &[error(&["e"])]));
    assert_eq!(much, Refusal::ChunkTooLarge(CHUNK_MAX + 1));
    store.add_attrs(token, 0, &attrs, &[]).unwrap();
    assert_eq!(refused(store.add_drvs(&chain(CHUNK_MAX as u64 + 1))), Refusal::ChunkTooLarge(CHUNK_MAX + 1));
}

pub(crate) fn trust_parts_evaluations(engine: &impl Engine) {
    let store = engine.open();
    store_evaluation(&*store, 1, 1);
    let others = [Trust::ApprovedPr, Trust::UntrustedPr].map(|trust| SettingsHash::of(trust, &[b"test"]));
    for settings in others.into_iter().chain([SettingsHash::of(Trust::TrustedPush, &[b"te", b"st"])]) {
        let key = ci_server::store::EvaluationKey { settings, ..key(1, "packages") };
        assert_eq!(store.evaluation(&key).unwrap(), None);
    }
    assert!(store.evaluation(&key(1, "packages")).unwrap().is_some());
    assert_eq!(store.evaluation(&key(1, "other")).unwrap(), None);
}

pub(crate) fn drvs_come_back_with_all_they_need(engine: &impl Engine) {
    let store = engine.open();
    let mut drvs = chain(1200);
    drvs[7].traits.required_features = vec!["kvm".into(), "nixos test".into()];
    drvs[7].outputs.insert("doc".into(), None);
    assert_eq!(add_all(&*store, &drvs), 1200);
    assert_eq!(add_all(&*store, &drvs), 0, "those that are there are passed over");
    drop(store);
    let store = engine.open();
    for record in &drvs {
        let stored = store.drv(&record.path).unwrap().unwrap();
        assert_eq!((stored.record.as_ref(), stored.states.len()), (Some(record), 0));
    }
    assert_eq!(store.drv(&drv_path(5000)).unwrap(), None);
    let asked: Vec<_> = [3, 1199, 1200, 5000].map(drv_path).to_vec();
    assert_eq!(
        store.known_drvs(&asked).unwrap(),
        [3, 1199].map(drv_path).into_iter().collect::<HashSet<_>>()
    );
}

pub(crate) fn drvs_come_behind_what_they_need(engine: &impl Engine) {
    let store = engine.open();
    let unknown = |drv, input| Refusal::InputUnknown { drv: drv_path(drv), input: drv_path(input) };
    assert_eq!(refused(store.add_drvs(&[drv(1, &[]), drv(2, &[1, 3])])), unknown(2, 3));
    assert!(store.known_drvs(&[drv_path(1)]).unwrap().is_empty(), "nothing of a refused chunk is there");
    assert_eq!(refused(store.add_drvs(&[drv(2, &[1]), drv(1, &[])])), unknown(2, 1));
    assert_eq!(refused(store.add_drvs(&[drv(1, &[1])])), unknown(1, 1));
    store.add_drvs(&[drv(1, &[]), drv(2, &[1]), drv(1, &[])]).unwrap();
}

pub(crate) fn a_made_up_name_is_not_known(engine: &impl Engine) {
    let store = engine.open();
    store.add_drvs(&[drv(1, &[])]).unwrap();
    let real = drv_path(1);
    let named = DrvPath::parse_str(&real.as_str().replace("drv-1", "evil")).unwrap();
    let elsewhere = DrvPath::parse_str(&real.as_str().replace("/nix/store", "/evil/store")).unwrap();
    assert!(store.known_drvs(&[named.clone(), elsewhere.clone()]).unwrap().is_empty());
    // Nor does anything need it, beside the real one.
    let mut both = drv(2, &[1]);
    both.inputs.insert(named.clone(), ["out".to_owned()].into());
    let unknown = Refusal::InputUnknown { drv: both.path.clone(), input: named.clone() };
    assert_eq!(refused(store.add_drvs(&[both])), unknown);
    assert_eq!(store.load_graph(&mut |_| {}).unwrap().drvs, 1);
    for made_up in [named, elsewhere] {
        assert_eq!(store.drv(&made_up).unwrap(), None);
        let record = ci_model::drv::DrvRecord { path: made_up.clone(), ..drv(1, &[]) };
        assert_eq!(
            refused(store.add_drvs(&[record])),
            Refusal::NameDiffers { stored: real.clone(), new: made_up }
        );
    }
}

pub(crate) fn the_graph_comes_inputs_first(engine: &impl Engine) {
    let store = engine.open();
    assert_eq!(store.load_graph(&mut |_| {}).unwrap(), GraphSize::default());
    let drvs = chain(1100);
    add_all(&*store, &drvs);
    let (mut paths, mut at) = (Vec::new(), std::collections::HashMap::new());
    let size = store.load_graph(&mut |loaded| {
        let record = &drvs[paths.len()];
        assert_eq!(
            (loaded.path, loaded.system, loaded.traits),
            (&record.path, &record.system, &record.traits)
        );
        assert_eq!(loaded.outputs, ci_model::diff::output_hashes(&record.outputs).as_deref());
        let inputs = loaded.inputs.iter().map(|input| {
            let before: &DrvPath = &paths[at[&input.drv]];
            (before.clone(), input.outputs.iter().cloned().collect())
        });
        assert_eq!(inputs.collect::<std::collections::BTreeMap<_, _>>(), record.inputs);
        at.insert(loaded.id, paths.len());
        paths.push(loaded.path.clone());
    });
    let edges = drvs.iter().map(|drv| drv.inputs.len() as u64).sum();
    assert_eq!(size.unwrap(), GraphSize { drvs: 1100, edges });
}

pub(crate) fn what_is_needed_is_not_forgotten(engine: &impl Engine) {
    let store = engine.open();
    add_all(&*store, &chain(600));
    add_all(&*store, &(1000..1600).map(|n| drv(n, &[n - 999 - 1])).collect::<Vec<_>>());
    let old = store.begin_run(&run_key("old"), &trigger()).unwrap();
    store.record_comparison(old, &comparison(700)).unwrap();
    store.use_evaluation(old, Side::Head, store_evaluation(&*store, 1, 500)).unwrap();
    engine.pass(10 * DAY);
    let new = store.begin_run(&run_key("new"), &trigger()).unwrap();
    let kept = store_evaluation(&*store, 2, 3);
    store.use_evaluation(new, Side::Head, kept).unwrap();
    engine.pass(10 * DAY);
    let forgotten = store.forget(Time::from_ms(engine.now().as_ms() - 15 * 86_400_000)).unwrap();
    // Attributes 0, 1 and 2 are in both evaluations; drvs 0, 1 and 2 are theirs, and all that 1 and 2 need is 0 and 1.
    assert_eq!((forgotten.runs, forgotten.evaluations, forgotten.attrs, forgotten.drvs), (1, 1, 497, 1197));
    assert_eq!((store.run(old).unwrap(), store.job_rows(old).unwrap().len()), (None, 0));
    assert!(store.run(new).unwrap().is_some());
    assert_eq!(store.evaluation(&key(1, "packages")).unwrap(), None);
    assert_eq!(store.evaluation(&key(2, "packages")).unwrap().unwrap().1.attrs.len(), 3);
    assert_eq!(store.load_graph(&mut |_| {}).unwrap(), GraphSize { drvs: 3, edges: 3 });
    assert_eq!(add_all(&*store, &chain(600)), 597, "what was forgotten can come again");
    assert_eq!(store.forget(Time::from_ms(0)).unwrap(), Default::default());
}

pub(crate) fn what_was_used_within_a_day_is_not_forgotten(engine: &impl Engine) {
    let store = engine.open();
    add_all(&*store, &chain(10));
    let run = store.begin_run(&run_key("x"), &trigger()).unwrap();
    store_evaluation(&*store, 1, 3);
    let token = store.begin_evaluation(&key(2, "packages")).unwrap();
    store.add_attrs(token, 0, &[attr(&["a"], 1)], &[]).unwrap();
    assert_eq!(store.forget(engine.now()).unwrap(), Default::default());
    assert!(store.run(run).unwrap().is_some());
    store.close_evaluation(token, &cost()).unwrap();
    // Looked at each day, an evaluation stays; what is referred to again, too.
    for _ in 0..5 {
        engine.pass(DAY);
        assert!(store.evaluation(&key(1, "packages")).unwrap().is_some());
        store.begin_run(&run_key("y"), &trigger()).unwrap(); // behind the note of the use
        store.forget(engine.now()).unwrap();
    }
    assert_eq!(store.evaluation(&key(2, "packages")).unwrap(), None);
    assert_eq!(store.known_drvs(&[drv_path(2), drv_path(9)]).unwrap().len(), 1, "2 is an attribute's");
}
