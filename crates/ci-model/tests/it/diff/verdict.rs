//! Whether a change is good, and the sentences that say why.

use ci_model::attr::ErrorKind;
use ci_model::change::{AttrChange, ChangeKind, Comparison, JobAttr, SystemCounts};
use ci_model::diff::{Judgement, MAX_REBUILD_COUNT, judge};
use ci_model::flow::{EvaluationCost, Verdict};
use ci_model::outcome::JobOutcome;

use super::support::{drv, error};

fn job(name: &str, allows_failures: bool) -> JobOutcome {
    JobOutcome {
        job: name.parse().unwrap(),
        allows_failures,
        attrs: 0,
        errors: 0,
        systems: vec![],
        head: Some(EvaluationCost::default()),
        base: Some(EvaluationCost::default()),
    }
}

fn failing(jobs_and_paths: &[(&str, &str)]) -> Comparison {
    let mut comparison = Comparison::default();
    let new = jobs_and_paths.iter().map(|(job, path)| (job.parse().unwrap(), error(path)));
    comparison.errors.new = new.collect();
    comparison
}

fn rebuilding(attrs: usize, drvs: usize, same_outputs: usize) -> Comparison {
    let mut comparison = Comparison::default();
    let change = |at: usize| AttrChange {
        attr: JobAttr { job: "pkgs".parse().unwrap(), path: format!("a{at}").parse().unwrap() },
        system: "x86_64-linux".parse().unwrap(),
        kind: ChangeKind::Rebuilt,
        meta: vec![],
        before: Some(drv('a', "a-1")),
        after: Some(drv('b', "a-1")),
    };
    comparison.changes = (0..attrs).map(change).collect();
    let counts = SystemCounts { rebuilt: attrs, drvs, same_outputs, ..SystemCounts::default() };
    comparison.systems.insert("x86_64-linux".parse().unwrap(), counts);
    comparison
}

fn judged(comparison: &Comparison, jobs: &[JobOutcome]) -> (Verdict, Vec<String>) {
    let Judgement { verdict, reasons, wide } = judge(comparison, jobs, MAX_REBUILD_COUNT);
    assert!(!wide);
    (verdict, reasons)
}

fn says(verdict: Verdict, reasons: &[&str]) -> (Verdict, Vec<String>) {
    (verdict, reasons.iter().map(|reason| (*reason).to_owned()).collect())
}

#[test]
fn nothing_to_do_is_good_and_nothing_to_look_at_is_neither() {
    let nothing = Comparison::default();
    assert_eq!(judged(&nothing, &[job("pkgs", false)]), says(Verdict::Good, &["Nothing changes."]));
    assert_eq!(judged(&nothing, &[]), says(Verdict::Neutral, &["There is no job to evaluate."]));
}

#[test]
fn what_changes_is_counted() {
    let jobs = [job("pkgs", false)];
    for (comparison, sentence) in [
        (rebuilding(1, 1, 0), "1 attribute changes, and 1 derivation is to be built."),
        (rebuilding(2, 9, 4), "2 attributes change, and 5 derivations are to be built."),
        (rebuilding(3, 4, 4), "3 attributes change, and nothing is to be built."),
    ] {
        assert_eq!(judged(&comparison, &jobs), says(Verdict::Good, &[sentence]));
    }
}

#[test]
fn what_newly_fails_is_bad_unless_its_job_allows_it() {
    let few = failing(&[("pkgs", "a"), ("pkgs", "b.c"), ("tests", "")]);
    assert_eq!(
        judged(&few, &[job("pkgs", false), job("tests", false)]),
        says(
            Verdict::Bad,
            &["Newly fails to evaluate in pkgs: a, b.c.", "Newly fails to evaluate in tests: the whole job."]
        )
    );
    assert_eq!(
        judged(&few, &[job("pkgs", true), job("tests", false)]),
        says(
            Verdict::Bad,
            &[
                "Newly fails to evaluate in tests: the whole job.",
                "2 attributes of pkgs newly fail to evaluate, which this job allows."
            ]
        )
    );
    assert_eq!(
        judged(&few, &[job("pkgs", true), job("tests", true)]),
        says(
            Verdict::Good,
            &[
                "Nothing changes but what fails, which is allowed.",
                "2 attributes of pkgs newly fail to evaluate, which this job allows.",
                "1 attribute of tests newly fails to evaluate, which this job allows."
            ]
        )
    );
    let many = failing(&[("pkgs", "a"), ("pkgs", "b"), ("pkgs", "c"), ("pkgs", "d"), ("pkgs", "e")]);
    assert_eq!(
        judged(&many, &[job("pkgs", false)]),
        says(Verdict::Bad, &["Newly fails to evaluate in pkgs: a, b, c and 2 more."])
    );
    // A job that nobody knows allows nothing.
    assert_eq!(judged(&few, &[job("other", true)]).0, Verdict::Bad);
}

/// A job may allow that its attributes fail. That nobody looked at them is something else.
#[test]
fn a_job_that_allows_failures_and_was_cut_short_is_not_good() {
    for (kind, verdict) in [
        (ErrorKind::TimedOut, Verdict::NeedsAction),
        (ErrorKind::TooLarge, Verdict::NeedsAction),
        (ErrorKind::Fatal, Verdict::Good),
    ] {
        let mut comparison = failing(&[("pkgs", ""), ("pkgs", "a")]);
        comparison.errors.new[0].1.kind = kind;
        let (found, reasons) = judged(&comparison, &[job("pkgs", true)]);
        assert_eq!(found, verdict, "{reasons:?}");
        let sentence = "The job pkgs was not evaluated to its end, so what changes in it is not known; somebody has to look.";
        assert_eq!(reasons[0] == sentence, verdict == Verdict::NeedsAction, "{reasons:?}");
        comparison.errors.new[0].1.path = "b".parse().unwrap();
        assert_eq!(judged(&comparison, &[job("pkgs", true)]).0, Verdict::Good, "one attribute of many");
    }
}

#[test]
fn what_failed_before_is_not_held_against_the_change() {
    let mut comparison = Comparison::default();
    comparison.errors.still = vec![("pkgs".parse().unwrap(), error("a"))];
    assert_eq!(judged(&comparison, &[job("pkgs", false)]), says(Verdict::Good, &["Nothing changes."]));
    let b = JobAttr { job: "pkgs".parse().unwrap(), path: "b".parse().unwrap() };
    comparison.errors.removed = vec![b];
    let sentence = "1 attribute changes, and nothing is to be built.";
    let pkgs = JobOutcome { attrs: 1, errors: 1, ..job("pkgs", false) };
    assert_eq!(judged(&comparison, &[pkgs]), says(Verdict::Good, &[sentence]));
}

#[test]
fn a_job_that_is_gone_asks_for_a_word() {
    let gone = JobOutcome { head: None, ..job("tests", false) };
    let never = JobOutcome { head: None, base: None, ..job("x", false) };
    let new = JobOutcome { base: None, ..job("new", false) };
    let sentence = "The job tests is gone, and what it had is not looked at any more; somebody has to say that this is meant.";
    assert_eq!(
        judged(&Comparison::default(), &[gone.clone(), never, new]),
        says(Verdict::NeedsAction, &[sentence])
    );
    // What breaks weighs more.
    let failing = failing(&[("pkgs", "a")]);
    assert_eq!(
        judged(&failing, &[job("pkgs", false), gone]),
        says(Verdict::Bad, &["Newly fails to evaluate in pkgs: a.", sentence])
    );
}

/// A file that is a function now, or a string, has no attributes, and no error tells so.
#[test]
fn a_job_that_loses_everything_asks_for_a_word() {
    let mut comparison = rebuilding(2, 0, 0);
    for change in &mut comparison.changes {
        (change.kind, change.after) = (ChangeKind::Removed, None);
    }
    let sentence = "Nothing is left of the job pkgs; somebody has to say that this is meant.";
    let says_so = says(Verdict::NeedsAction, &[sentence]);
    assert_eq!(judged(&comparison, &[job("pkgs", false), job("tests", false)]), says_so);
    // What failed and is gone was something, too.
    let mut failed = Comparison::default();
    failed.errors.removed = vec![comparison.changes[0].attr.clone()];
    assert_eq!(judged(&failed, &[job("pkgs", true)]), says_so);
    // Something is left; or nothing was there.
    let left = JobOutcome { attrs: 1, ..job("pkgs", false) };
    assert_eq!(judged(&comparison, &[left]).0, Verdict::Good);
    assert_eq!(judged(&Comparison::default(), &[job("pkgs", false)]).0, Verdict::Good);
}

#[test]
fn more_than_is_built_for_one_change_is_wide() {
    let comparison = rebuilding(2, 12, 1);
    let jobs = [job("pkgs", false)];
    assert!(!judge(&comparison, &jobs, 11).wide);
    let judgement = judge(&comparison, &jobs, 10);
    assert!(judgement.wide);
    assert_eq!(
        (judgement.verdict, judgement.reasons),
        says(
            Verdict::Good,
            &[
                "2 attributes change, and 11 derivations are to be built.",
                "It is a wide change: 11 derivations are to be built, more than the 10 that are built for one change."
            ]
        )
    );
}

/// Nothing was compared, so nothing is good; nor is it this change that broke it.
#[test]
fn what_cannot_be_seen_at_all_wants_somebody_to_look() {
    let mut broken = failing(&[]);
    broken.errors.still = vec![("pkgs".parse().unwrap(), error("")), ("pkgs".parse().unwrap(), error("a"))];
    let sentence = "The job pkgs fails to evaluate as a whole, as it did before, so what changes in it is not known; somebody has to look.";
    let (known, allowed) = ([job("pkgs", false)], [job("pkgs", true)]);
    assert_eq!(judged(&broken, &known), says(Verdict::NeedsAction, &[sentence]));
    assert_eq!(judged(&broken, &allowed).0, Verdict::Good);
    broken.errors.still.remove(0);
    assert_eq!(judged(&broken, &known).0, Verdict::Good);
}
