//! The report on a terminal: an outcome comes in, lines of at most so many columns come out. The verdict stands first;
//! then numbers, changes, why, what most derivations need, what does not evaluate, warnings, and what it took. Pure.
//!
//! Without `full` each list is cut at a bound of its own and says how much more there is; numbers are of everything.

mod causes;
mod changes;
pub(crate) mod counts;
mod errors;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod took;

use ci_model::outcome::Outcome;

use super::line::{Line, Paint};
use super::text::{columns, safe, thousands, wrapped};
use super::words;

/// Warnings that are shown.
const WARNINGS_SHOWN: usize = 10;

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Columns of a line, at most.
    pub(crate) width: usize,
    /// Cut no list.
    pub(crate) full: bool,
    /// Use colours.
    pub(crate) paint: bool,
}

impl View {
    /// How many of a list are shown when at most `bound` usually are.
    fn shown(self, bound: usize) -> usize {
        if self.full { usize::MAX } else { bound }
    }
}

/// The lines of the report.
pub(crate) fn report(outcome: &Outcome, view: View) -> Vec<String> {
    let mut lines = verdict(outcome, view);
    let sections = [
        counts::section(outcome, view),
        changes::section(outcome, view),
        causes::section(outcome, view),
        causes::reach(outcome, view),
        errors::section(outcome, view),
        warnings(outcome, view),
        took::section(outcome, view),
    ];
    for section in sections.into_iter().filter(|section| !section.is_empty()) {
        lines.push(Line::default());
        lines.extend(section);
    }
    lines.into_iter().map(|line| line.finish(view.width, view.paint)).collect()
}

fn verdict(outcome: &Outcome, view: View) -> Vec<Line> {
    let (sign, name, paint) = words::verdict(outcome.verdict);
    let head = format!("{sign} {name}: ");
    let indent = columns(&head).min(view.width / 2);
    let mut lines = Vec::new();
    let reason = wrapped(&words::reason(outcome).text(), view.width.saturating_sub(columns(&head)));
    for (place, text) in reason.into_iter().enumerate() {
        let begin = if place == 0 { Line::painted(paint, &head) } else { Line::of(" ".repeat(indent)) };
        lines.push(begin.add(Paint::Bold, text));
    }
    for reason in outcome.reasons.iter().skip(1) {
        lines.extend(paragraph("  ", &safe(reason), view));
    }
    lines.extend(paragraph("  ", &words::subject(outcome).text(), view));
    lines
}

fn warnings(outcome: &Outcome, view: View) -> Vec<Line> {
    let mut lines = Vec::new();
    let (all, shown) = (outcome.warnings.len(), view.shown(WARNINGS_SHOWN));
    for warning in outcome.warnings.iter().take(shown) {
        let text = wrapped(&safe(warning), view.width.saturating_sub("warning: ".len()));
        for (place, text) in text.into_iter().enumerate() {
            let begin = if place == 0 { "warning: " } else { "         " };
            lines.push(Line::painted(Paint::Yellow, begin).add(Paint::Plain, text));
        }
    }
    lines.extend(and_more("", all, shown.min(all), view));
    lines
}

/// A section's first line.
fn heading(text: impl Into<String>) -> Line {
    Line::painted(Paint::Bold, text)
}

/// Text on as many lines as it needs, each below the other.
fn paragraph(indent: &str, text: &str, view: View) -> Vec<Line> {
    let lines = wrapped(text, view.width.saturating_sub(indent.len()));
    lines.into_iter().map(|text| Line::of(indent).add(Paint::Plain, text)).collect()
}

/// What stands below a list that was cut, or that was not whole.
fn and_more(indent: &str, all: usize, shown: usize, view: View) -> Option<Line> {
    let left = all.checked_sub(shown).filter(|left| *left > 0)?;
    let how = if view.full { "" } else { " (--full)" };
    Some(Line::painted(Paint::Dim, format!("{indent}and {} more{how}", thousands(left))))
}
