//! What a change does comes in, and which jobs there are; whether it should be merged comes out, with the reasons for
//! people, the weightiest first. How builds end is not known here.

use super::shown::shown;
use crate::change::{ChangeKind, Comparison, SystemCounts};
use crate::flow::Verdict;
use crate::id::JobName;
use crate::outcome::JobOutcome;

/// Most derivations that are built for a change unless an operator says otherwise: `[rebuild] max_rebuild_count`.
pub const MAX_REBUILD_COUNT: usize = 20_000;
/// Most attributes that one sentence names.
const NAMED_MAX: usize = 3;

/// The answer about a change, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// One sentence each, the weightiest first; never empty. Names of attributes in them are their author's text, cut.
    pub reasons: Vec<String>,
    /// Is there more to build than `max_rebuild_count`?
    pub wide: bool,
}

/// Judges a change. `jobs` are all jobs of either side; more than `max_rebuild_count` derivations to build make it wide.
#[must_use]
pub fn judge(comparison: &Comparison, jobs: &[JobOutcome], max_rebuild_count: usize) -> Judgement {
    let totals = comparison.totals();
    let wide = totals.to_build() > max_rebuild_count;
    let Failures { bad, cut_short, allowed } = failures(comparison, jobs);
    let gone = jobs.iter().filter(|job| job.head.is_none() && job.base.is_some());
    let emptied = jobs.iter().filter(|job| is_emptied(comparison, job));
    let gone: Vec<String> =
        gone.map(|job| job_gone(&job.job)).chain(emptied.map(|job| job_emptied(&job.job))).collect();
    let unseen: Vec<String> = cut_short.into_iter().chain(unseen(comparison, jobs)).collect();
    let verdict = match (jobs.is_empty(), bad.is_empty(), gone.is_empty() && unseen.is_empty()) {
        (true, _, _) => Verdict::Neutral,
        (false, false, _) => Verdict::Bad,
        (false, true, false) => Verdict::NeedsAction,
        (false, true, true) => Verdict::Good,
    };
    let mut reasons = bad;
    reasons.extend(gone);
    reasons.extend(unseen);
    if jobs.is_empty() {
        reasons.push("There is no job to evaluate.".into());
    } else if reasons.is_empty() {
        reasons.push(what_changes(comparison, &totals));
    }
    if wide {
        let count = totals.to_build();
        reasons.push(format!(
            "It is a wide change: {count} derivations are to be built, more than the {max_rebuild_count} that are built for one change."
        ));
    }
    reasons.extend(allowed);
    Judgement { verdict, reasons, wide }
}

/// What of a comparison cannot be relied on, because derivations were not there to look at.
#[must_use]
pub fn incomplete(comparison: &Comparison) -> Option<String> {
    let text = |count| {
        format!(
            "the derivations of {} were not there to look at: numbers and root causes are incomplete",
            attributes(count)
        )
    };
    (comparison.unseen > 0).then(|| text(comparison.unseen))
}

/// Sentences about jobs with new errors.
#[derive(Default)]
struct Failures {
    /// Where that is not allowed.
    bad: Vec<String>,
    /// Where it is, and the job was not looked at to its end.
    cut_short: Vec<String>,
    /// Where it is.
    allowed: Vec<String>,
}

fn failures(comparison: &Comparison, jobs: &[JobOutcome]) -> Failures {
    let Failures { mut bad, mut cut_short, mut allowed } = Failures::default();
    let mut rest = &comparison.errors.new[..];
    while let Some((job, _)) = rest.first() {
        let (of_job, others) = rest.split_at(rest.iter().take_while(|(other, _)| other == job).count());
        rest = others;
        let allows = jobs.iter().any(|known| known.job == *job && known.allows_failures);
        if allows {
            cut_short
                .extend(of_job.iter().find(|(_, error)| error.is_cut_short()).map(|_| job_cut_short(job)));
            let (count, verb) = (attributes(of_job.len()), if of_job.len() == 1 { "fails" } else { "fail" });
            allowed.push(format!("{count} of {job} newly {verb} to evaluate, which this job allows."));
            continue;
        }
        let named: Vec<_> = of_job.iter().take(NAMED_MAX).map(|(_, error)| place(&error.path)).collect();
        let more = of_job.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        bad.push(format!("Newly fails to evaluate in {job}: {}{more}.", named.join(", ")));
    }
    Failures { bad, cut_short, allowed }
}

/// Sentences about jobs of which nothing could be seen, before or now, so that nothing is known of what changes.
fn unseen(comparison: &Comparison, jobs: &[JobOutcome]) -> Vec<String> {
    let whole = comparison.errors.still.iter().filter(|(_, error)| error.path.is_root());
    let allows = |job: &JobName| jobs.iter().any(|known| known.job == *job && known.allows_failures);
    let sentence = |job: &JobName| {
        format!(
            "The job {job} fails to evaluate as a whole, as it did before, so what changes in it is not known; somebody has to look."
        )
    };
    whole.filter(|(job, _)| !allows(job)).map(|(job, _)| sentence(job)).collect()
}

fn place(path: &nix_types::AttrPath) -> String {
    if path.is_root() { "the whole job".into() } else { shown(path.to_string().as_bytes()) }
}

fn job_cut_short(job: &JobName) -> String {
    format!(
        "The job {job} was not evaluated to its end, so what changes in it is not known; somebody has to look."
    )
}

fn job_gone(job: &JobName) -> String {
    format!(
        "The job {job} is gone, and what it had is not looked at any more; somebody has to say that this is meant."
    )
}

/// Is it still there, with nothing of what it had, nor anything else?
fn is_emptied(comparison: &Comparison, job: &JobOutcome) -> bool {
    let removed = comparison.changes.iter().filter(|change| change.kind == ChangeKind::Removed);
    let mut lost = removed.map(|change| &change.attr).chain(&comparison.errors.removed);
    job.head.is_some() && job.attrs == 0 && job.errors == 0 && lost.any(|attr| attr.job == job.job)
}

fn job_emptied(job: &JobName) -> String {
    format!("Nothing is left of the job {job}; somebody has to say that this is meant.")
}

fn what_changes(comparison: &Comparison, totals: &SystemCounts) -> String {
    if comparison.is_empty() {
        return "Nothing changes.".into();
    }
    let errors = &comparison.errors;
    let changed = comparison.changes.len() + errors.fixed.len() + errors.removed.len();
    if changed == 0 {
        return "Nothing changes but what fails, which is allowed.".into();
    }
    let verb = if changed == 1 { "changes" } else { "change" };
    let drvs = match totals.to_build() {
        0 => "nothing is to be built".into(),
        1 => "1 derivation is to be built".into(),
        more => format!("{more} derivations are to be built"),
    };
    format!("{} {verb}, and {drvs}.", attributes(changed))
}

fn attributes(count: usize) -> String {
    if count == 1 { "1 attribute".into() } else { format!("{count} attributes") }
}
