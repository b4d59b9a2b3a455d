//! What a verdict, a difference and a number are called: values come in, phrases come out that the report on a terminal
//! and the one in Markdown share. Pure.

use std::collections::HashMap;

use ci_model::attr::AttrError;
use ci_model::change::{Difference, RootCause, SystemCounts};
use ci_model::flow::Verdict;
use ci_model::outcome::{Outcome, Side};

use super::line::Paint;
use super::phrase::Phrase;
use super::text::{count, cut, safe, thousands};

/// Its sign, its name and its colour.
pub(crate) fn verdict(verdict: Verdict) -> (&'static str, &'static str, Paint) {
    match verdict {
        Verdict::Good => ("✓", "Good", Paint::Green),
        Verdict::Bad => ("✗", "Bad", Paint::Red),
        Verdict::NeedsAction => ("!", "Needs a person", Paint::Yellow),
        Verdict::Neutral => ("–", "Neutral", Paint::Plain),
    }
}

/// The weightiest reason, or what there is to say without one.
pub(crate) fn reason(outcome: &Outcome) -> Phrase {
    match outcome.reasons.first() {
        Some(reason) => Phrase::theirs(reason),
        None if outcome.base.is_none() => Phrase::ours("everything evaluates"),
        None if outcome.comparison.is_empty() => Phrase::ours("nothing changes"),
        None => Phrase::ours("everything evaluates that did before"),
    }
}

/// What was compared with what.
pub(crate) fn subject(outcome: &Outcome) -> Phrase {
    let head = outcome.head.as_ref().map_or("the work tree", |commit| commit.short());
    let subject = Phrase::theirs(outcome.repository.as_str()).and(format!(": {head} "));
    match &outcome.base {
        None => subject.and("compared with nothing: all of it is new"),
        Some(base) => {
            let differ = match outcome.files_changed {
                0 => "no file differs".into(),
                1 => "1 file differs".into(),
                more => format!("{} differ", count(more, "file")),
            };
            subject.and(format!("compared with {}; {differ}", base.short()))
        }
    }
}

pub(crate) fn side(side: Side) -> &'static str {
    match side {
        Side::Head => "head",
        Side::Base => "base",
    }
}

/// A row of the table of numbers.
pub(crate) struct Counted {
    pub(crate) name: &'static str,
    pub(crate) of: fn(&SystemCounts) -> usize,
    /// Also when there is none of it.
    pub(crate) is_always_said: bool,
}

/// The rows of the table of numbers: attributes, and then derivations.
pub(crate) const COUNTED: [Counted; 11] = [
    counted("added", |counts| counts.added),
    counted("removed", |counts| counts.removed),
    counted("renamed", |counts| counts.renamed),
    counted("bumped", |counts| counts.bumped),
    counted("rebuilt", |counts| counts.rebuilt),
    counted("only meta", |counts| counts.metadata),
    counted("failing", |counts| counts.failing),
    counted("fixed", |counts| counts.fixed),
    counted("unchanged", |counts| counts.unchanged),
    counted("built already", |counts| counts.same_outputs),
    Counted { name: "to build", of: SystemCounts::to_build, is_always_said: true },
];

const fn counted(name: &'static str, of: fn(&SystemCounts) -> usize) -> Counted {
    Counted { name, of, is_always_said: false }
}

/// How many root causes there are, listed or not.
pub(crate) fn causes_total(outcome: &Outcome) -> usize {
    let comparison = &outcome.comparison;
    comparison.root_causes_total.max(comparison.root_causes.len())
}

/// How many changed attributes others need, listed or not. What was recorded before they were counted has those listed.
pub(crate) fn reach_total(outcome: &Outcome) -> usize {
    let comparison = &outcome.comparison;
    comparison.reach_total.max(comparison.reach.len())
}

/// Root causes that say the same, of several systems; never empty.
pub(crate) type Causes<'a> = Vec<&'a RootCause>;

/// The root causes, those that say the same of several systems together, by system; most consequences first. What has as
/// many is in order of its name: derivations are called otherwise in every store.
pub(crate) fn causes(outcome: &Outcome) -> Vec<Causes<'_>> {
    let mut groups: Vec<Causes<'_>> = Vec::new();
    let mut places: HashMap<(Phrase, Vec<Phrase>), usize> = HashMap::new();
    for one in &outcome.comparison.root_causes {
        let says = (cause(one), differences(one));
        let place = *places.entry(says).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    for group in &mut groups {
        group.sort_by(|a, b| a.system.cmp(&b.system));
    }
    groups.sort_by_cached_key(|group| {
        let most = group.iter().map(|cause| (cause.attrs, cause.drvs)).max();
        (std::cmp::Reverse(most), group.first().map(|first| cause(first)))
    });
    groups
}

/// A root cause's own name: what it was and is.
pub(crate) fn cause(cause: &RootCause) -> Phrase {
    let now = cause.after.drv_name();
    match cause.before.as_ref().map(|before| before.drv_name()) {
        Some(before) if before != now => Phrase::theirs(before).and(" → ").and_theirs(now),
        Some(_) | None => Phrase::theirs(now),
    }
}

/// What follows from it: how much has it in its closure, and how much of that has no other reason.
pub(crate) fn consequences(cause: &RootCause) -> String {
    let alone = match cause.attrs_alone {
        0 => String::new(),
        all if all == cause.attrs => " (by it alone)".into(),
        some => format!(" ({} by it alone)", thousands(some)),
    };
    format!("{}{alone}, {}", count(cause.attrs, "attribute"), count(cause.drvs, "derivation"))
}

/// What differs, but for what the names of the two say already.
pub(crate) fn differences(cause: &RootCause) -> Vec<Phrase> {
    let is_name = |differs: &Difference| matches!(differs, Difference::Env { name, .. } if name == "name");
    let is_news = |differs: &&Difference| cause.before.is_none() || !is_name(differs);
    cause.differences.iter().filter(is_news).map(difference).collect()
}

fn difference(difference: &Difference) -> Phrase {
    let with = |before: &str, name: &str, after: &str| Phrase::ours(before).and_theirs(name).and(after);
    match difference {
        Difference::New => Phrase::ours("new"),
        Difference::Source { name } => with("source ", name, " differs"),
        Difference::FixedHash { from, to } => {
            with("fetches ", &short(to), " instead of ").and_theirs(short(from))
        }
        Difference::InputAdded { name } => with("needs ", name, " now"),
        Difference::InputRemoved { name } => with("does not need ", name, " any more"),
        Difference::InputOutputs { name } => with("needs other outputs of ", name, ""),
        Difference::Env { name, from, to } => env(name, from.as_deref(), to.as_deref()),
        Difference::Builder => Phrase::ours("another builder"),
        Difference::Args => Phrase::ours("other arguments for the builder"),
        Difference::System { from, to } => {
            with("built on ", to.as_str(), " instead of ").and_theirs(from.as_str())
        }
        Difference::Outputs => Phrase::ours("other outputs"),
        Difference::Unknown => Phrase::ours("what differs is not known"),
    }
}

/// Columns of a hash that are shown.
const HASH_SHOWN: usize = 20;

fn short(hash: &str) -> String {
    cut(&safe(hash), HASH_SHOWN)
}

fn env(name: &str, from: Option<&str>, to: Option<&str>) -> Phrase {
    let name = Phrase::theirs(name);
    match (from, to) {
        (Some(from), Some(to)) => name.and(": ").and_theirs(from).and(" → ").and_theirs(to),
        (None, Some(to)) => name.and(" is set: ").and_theirs(to),
        (Some(from), None) => name.and(" is not set any more, was ").and_theirs(from),
        (None, None) => name.and(" differs"),
    }
}

/// How many attributes do not evaluate: new, still, not any more, and those that are gone.
pub(crate) fn error_numbers(outcome: &Outcome) -> String {
    let errors = &outcome.comparison.errors;
    let numbers = [
        (errors.new.len(), "new"),
        (errors.still.len(), "as before"),
        (errors.fixed.len(), "fixed"),
        (errors.removed.len(), "removed"),
    ];
    let there = numbers.into_iter().filter(|(number, _)| *number > 0);
    there.map(|(number, what)| format!("{} {what}", thousands(number))).collect::<Vec<_>>().join(", ")
}

/// The first line of what the evaluator said.
pub(crate) fn first_line(error: &AttrError) -> String {
    let lines = error.message.lines().map(|line| line.trim_start_matches("error:").trim());
    lines.into_iter().find(|line| !line.is_empty()).unwrap_or("(the evaluator did not say why)").to_owned()
}
