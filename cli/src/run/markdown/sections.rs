//! Everything of the report in Markdown but its head and the table of changes.

use ci_model::JobName;
use ci_model::attr::AttrError;
use ci_model::change::{Reach, RootCause};
use ci_model::outcome::Outcome;
use nix_types::System;

use super::super::phrase::{Phrase, code};
use super::super::render::counts::sums;
use super::super::render::took;
use super::super::rows::Names;
use super::super::text::{count, span, thousands};
use super::super::words::{self, COUNTED};
use super::{Level, more};

/// Systems with a column or row of their own.
const SYSTEMS_SHOWN: usize = 8;
/// What reaches furthest, for one system.
const REACH_SHOWN: usize = 5;
/// Differences of a root cause.
const DIFFERENCES_SHOWN: usize = 4;
/// Root causes, errors and warnings.
const LISTED_MAX: usize = 50;

impl Level {
    /// Systems with a column or row of their own: there are as many at every level, for these are numbers.
    fn systems(self) -> usize {
        if self.full { usize::MAX } else { SYSTEMS_SHOWN }
    }
}

/// What became of how many attributes, by system.
pub(super) fn numbers(outcome: &Outcome, level: Level) -> String {
    let sums = sums(outcome, level.systems());
    if sums.is_empty() {
        return String::new();
    }
    let cells =
        |of: &dyn Fn(&super::super::render::counts::Sum) -> String| sums.iter().map(of).collect::<String>();
    let mut text = format!(
        "| |{}\n|---|{}\n",
        cells(&|sum| format!(" {} |", sum.name.markdown())),
        "--:|".repeat(sums.len())
    );
    for counted in &COUNTED {
        let is_said = counted.is_always_said || sums.iter().any(|sum| (counted.of)(&sum.counts) > 0);
        if is_said {
            let numbers = cells(&|sum| format!(" {} |", thousands((counted.of)(&sum.counts))));
            text.push_str(&format!("| {} |{numbers}\n", counted.name));
        }
    }
    text
}

/// How many derivations are to be built, and what reaches furthest, by system.
pub(super) fn rebuild_impact(outcome: &Outcome, level: Level) -> String {
    let systems = &outcome.comparison.systems;
    let mut ranked: Vec<_> = systems.iter().filter(|(_, counts)| counts.to_build() > 0).collect();
    if ranked.is_empty() {
        return String::new();
    }
    ranked.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.to_build()));
    let mut text =
        String::from("### Rebuild impact\n\n| System | Rebuilds | Top blast radius |\n|---|--:|---|\n");
    let shown = level.systems();
    for (system, counts) in ranked.iter().take(shown) {
        let top = if level.details { reach(outcome, system, level) } else { String::new() };
        text.push_str(&format!("| {} | {} | {top} |\n", code(system.as_str()), thousands(counts.to_build())));
    }
    let others: usize = ranked.iter().skip(shown).map(|(_, counts)| counts.to_build()).sum();
    if others > 0 {
        text.push_str(&format!("| {} others | {} | |\n", ranked.len() - shown, thousands(others)));
    }
    text
}

fn reach(outcome: &Outcome, system: &System, level: Level) -> String {
    let names = Names::of(outcome);
    let here = outcome.comparison.reach.iter().filter(|reach| reach.system == *system);
    let here = here.take(level.shown(REACH_SHOWN));
    let one = |reach: &Reach| {
        let name = code(&names.package(&reach.attr, &reach.system));
        format!("{name} ({})", thousands(reach.dependants))
    };
    here.map(one).collect::<Vec<_>>().join(", ")
}

/// Why, and what follows from it.
pub(super) fn causes(outcome: &Outcome, level: Level) -> String {
    let causes = words::causes(outcome);
    if causes.is_empty() {
        return String::new();
    }
    let bound = level.shown(LISTED_MAX);
    let all = words::causes_total(outcome);
    let mut text = format!("### Why: {}\n\n", count(all, "root cause"));
    let shown = &causes[..bound.min(causes.len())];
    text.extend(shown.iter().map(|causes| alike(causes, Names::of(outcome), level)));
    text.push_str(&more(all, shown.iter().map(Vec::len).sum(), "- "));
    text
}

/// What differs, once; what follows from it, by system.
fn alike(causes: &[&RootCause], names: Names, level: Level) -> String {
    let Some(first) = causes.first() else { return String::new() };
    let all = words::differences(first);
    let shown = level.shown(DIFFERENCES_SHOWN);
    let mut differences: Vec<String> = all.iter().take(shown).map(Phrase::markdown).collect();
    if let Some(left) = all.len().checked_sub(shown).filter(|left| *left > 0) {
        differences.push(format!("and {} more", thousands(left)));
    }
    let mut text = format!("- {}", words::cause(first).markdown());
    if !differences.is_empty() {
        text.push_str(&format!(": {}", differences.join("; ")));
    }
    for cause in causes {
        let system = code(cause.system.as_str());
        text.push_str(&format!("<br>→ {system}: {}", words::consequences(cause)));
    }
    let examples = first.examples.iter().map(|attr| code(&names.package(attr, &first.system)));
    let examples = examples.collect::<Vec<_>>().join(", ");
    if !examples.is_empty() {
        let more = if first.attrs > first.examples.len() { ", …" } else { "" };
        text.push_str(&format!("<br>{examples}{more}"));
    }
    text.push('\n');
    text
}

/// What does not evaluate.
pub(super) fn errors(outcome: &Outcome, level: Level) -> String {
    let errors = &outcome.comparison.errors;
    let numbers = words::error_numbers(outcome);
    if numbers.is_empty() {
        return String::new();
    }
    let mut text = format!("### Errors: {numbers}\n");
    if !level.details {
        return text;
    }
    let (names, bound) = (Names::of(outcome), level.shown(LISTED_MAX));
    text.push_str("\n| | Attribute | Kind | Message |\n|---|---|---|---|\n");
    text.push_str(&rows("new", &errors.new, names, bound));
    text.push_str(&rows("as before", &errors.still, names, bound));
    for (what, attrs) in [("fixed", &errors.fixed), ("removed", &errors.removed)] {
        for attr in attrs.iter().take(bound) {
            text.push_str(&format!(
                "| {what} | {} | | |\n",
                code(&names.attr(attr.job.as_str(), &attr.path))
            ));
        }
        text.push_str(&cut_row(what, attrs.len(), bound));
    }
    text
}

fn rows(what: &str, errors: &[(JobName, AttrError)], names: Names, bound: usize) -> String {
    let row = |(job, error): &(JobName, AttrError)| {
        let (name, message) = (code(&names.attr(job.as_str(), &error.path)), code(&words::first_line(error)));
        format!("| {what} | {name} | {} | {message} |\n", error.kind)
    };
    let mut text: String = errors.iter().take(bound).map(row).collect();
    text.push_str(&cut_row(what, errors.len(), bound));
    text
}

fn cut_row(what: &str, all: usize, bound: usize) -> String {
    match all.checked_sub(bound).filter(|left| *left > 0) {
        Some(left) => format!("| {what} | and {} more | | |\n", thousands(left)),
        None => String::new(),
    }
}

/// What a person should know beside.
pub(super) fn warnings(outcome: &Outcome, level: Level) -> String {
    let warnings = &outcome.warnings;
    if warnings.is_empty() {
        return String::new();
    }
    let bound = level.shown(LISTED_MAX);
    let mut text = String::from("### Warnings\n\n");
    text.extend(warnings.iter().take(bound).map(|warning| format!("- {}\n", code(warning))));
    text.push_str(&more(warnings.len(), bound, "- "));
    text
}

/// What it took.
pub(super) fn took(outcome: &Outcome, level: Level) -> String {
    let all = format!("Took {}", span(outcome.wall_ms));
    let rows: Vec<_> = outcome.jobs.iter().flat_map(took::rows).collect();
    if !level.details || rows.is_empty() {
        return format!("{all}.\n");
    }
    let bound = level.shown(LISTED_MAX);
    let mut text = format!("<details><summary>{all}</summary>\n\n");
    text.push_str(&format!("| {} |\n|---|---|--:|--:|--:|--:|---|\n", took::HEAD.join(" | ")));
    for [job, side, attrs, time, rate, memory, engine] in rows.iter().take(bound) {
        let (job, engine) = (code(job), Phrase::theirs(engine).markdown());
        text.push_str(&format!("| {job} | {side} | {attrs} | {time} | {rate} | {memory} | {engine} |\n"));
    }
    if rows.len() > bound {
        text.push_str(&format!("| and {} more | | | | | | |\n", thousands(rows.len() - bound)));
    }
    text.push_str("\n</details>\n");
    text
}
