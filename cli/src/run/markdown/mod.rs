//! The report as Markdown for a pull request: an outcome comes in, text of a bounded size comes out, in which nothing of
//! other people's is a mention, a link, a tag or a cell's end. Pure.
//!
//! What does not fit is left out in this order, and the text says so: maintainers; licences and all else of `meta`; rebuilt
//! packages, but for one line; rows beyond the first hundred of a group, root cause or error; everything but numbers.

mod changes;
mod sections;
#[cfg(test)]
mod tests;

use ci_model::outcome::Outcome;

use super::phrase::code;
use super::words;

/// Longest text, in bytes, unless all of it is asked for. A check of a forge takes 65,535.
pub(crate) const MARKDOWN_BYTES_MAX: usize = 60_000;
/// Reasons beside the first that are shown.
const REASONS_SHOWN: usize = 5;

/// How much of an outcome is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    /// What is missing, for people.
    left_out: &'static str,
    maintainers: bool,
    /// Licences and what else `meta` says.
    meta: bool,
    /// Rebuilt packages one by one.
    rebuilds: bool,
    /// Rows of each list, at most.
    rows: usize,
    /// Anything but numbers.
    details: bool,
    /// No list is cut, however long.
    full: bool,
}

impl Level {
    /// How many of a list are shown when at most `bound` usually are.
    fn shown(self, bound: usize) -> usize {
        if self.full { usize::MAX } else { bound.min(self.rows) }
    }
}

const EVERYTHING: Level = Level {
    left_out: "",
    maintainers: true,
    meta: true,
    rebuilds: true,
    rows: usize::MAX,
    details: true,
    full: false,
};
const LEVELS: [Level; 6] = [
    EVERYTHING,
    Level { left_out: "maintainers", maintainers: false, ..EVERYTHING },
    Level {
        left_out: "maintainers, licences and what else `meta` says",
        maintainers: false,
        meta: false,
        ..EVERYTHING
    },
    NO_REBUILDS,
    Level { left_out: "what `meta` says, and all but the first rows of each list", rows: 100, ..NO_REBUILDS },
    Level { left_out: "all but the numbers", rows: 0, details: false, ..NO_REBUILDS },
];
const NO_REBUILDS: Level = Level {
    left_out: "what `meta` says, and which packages are only rebuilt",
    maintainers: false,
    meta: false,
    rebuilds: false,
    ..EVERYTHING
};

/// The report; at most [`MARKDOWN_BYTES_MAX`] long, unless `full`.
pub(crate) fn report(outcome: &Outcome, full: bool) -> String {
    let mut text = at(outcome, Level { full, ..EVERYTHING });
    for level in LEVELS {
        if full || text.len() <= MARKDOWN_BYTES_MAX {
            break;
        }
        text = at(outcome, level);
    }
    text
}

fn at(outcome: &Outcome, level: Level) -> String {
    let mut parts = vec![head(outcome, level), sections::numbers(outcome, level)];
    if level.details {
        parts.push(changes::section(outcome, level));
    }
    parts.push(sections::rebuild_impact(outcome, level));
    if level.details {
        parts.push(sections::causes(outcome, level));
    }
    parts.push(sections::errors(outcome, level));
    if level.details {
        parts.push(sections::warnings(outcome, level));
    }
    parts.push(sections::took(outcome, level));
    if !level.left_out.is_empty() {
        parts.push(format!("*Too long for one comment; left out: {}.*\n", level.left_out));
    }
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn head(outcome: &Outcome, level: Level) -> String {
    let (sign, name, _) = words::verdict(outcome.verdict);
    let mut text = format!("## Change summary\n\n{sign} **{name}:** {}\n", words::reason(outcome).markdown());
    let reasons = outcome.reasons.get(1..).unwrap_or_default();
    if !reasons.is_empty() {
        text.push('\n');
    }
    let shown = if level.full { usize::MAX } else { REASONS_SHOWN };
    text.extend(reasons.iter().take(shown).map(|reason| format!("- {}\n", code(reason))));
    text.push_str(&more(reasons.len(), shown, "- "));
    text.push_str(&format!("\n{}\n", words::subject(outcome).markdown()));
    text
}

/// What stands below a list that was cut.
fn more(all: usize, shown: usize, begin: &str) -> String {
    match all.checked_sub(shown).filter(|left| *left > 0) {
        Some(left) => format!("{begin}and {} more\n", super::text::thousands(left)),
        None => String::new(),
    }
}
