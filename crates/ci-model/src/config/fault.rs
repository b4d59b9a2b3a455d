//! What is wrong with a configuration, and where. In: places in bytes. Out: [`Finding`]s with line and column, in order
//! and bounded, as people and programs read them.

use std::fmt;

use serde::Serialize;

/// Most findings of one file that are kept; the rest are counted.
pub const FINDINGS_MAX: usize = 100;
/// Most characters of a text of the file that a finding repeats.
const SHOWN_MAX: usize = 60;
/// Most faults of one kind that wait for their lines.
const FAULTS_KEPT_MAX: usize = 300;

/// Something wrong at a place, before anybody asks for its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) what: String,
    /// Another place that `what` ends with.
    pub(super) other: Option<usize>,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(at: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at, key: String::new(), what: what.into(), other: None, remedy: remedy.into() }
    }
}

/// Faults as they are found: the first [`FAULTS_KEPT_MAX`] are kept, the rest counted.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) kept: Vec<Fault>,
    more: usize,
}

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        if self.kept.len() < FAULTS_KEPT_MAX {
            self.kept.push(fault);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        self.more += other.more;
        other.kept.into_iter().for_each(|fault| self.push(fault));
    }

    /// Will nothing that is found now be shown?
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() == FAULTS_KEPT_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

/// Something a person should change in a configuration, or know about it. All texts are one line, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key: `jobs.hello.file`, `change_set[0].paths`; empty where the file as a whole, or its JSON, is meant.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// `3:7: jobs.hello.fiel: there is no such key; did you mean file?`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Why a configuration is not taken: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// By place; never empty, at most [`FINDINGS_MAX`].
    pub problems: Vec<Finding>,
    /// Problems beyond those, at least.
    pub more: usize,
    /// What would have been a warning anyway.
    pub warnings: Vec<Finding>,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand at least {more} more"),
        }
    }
}

/// Line and column of a place, both from 1; columns are characters.
pub(super) fn place(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line_start = before.iter().rposition(|c| *c == b'\n').map_or(0, |end| end + 1);
    let line = before.iter().filter(|c| **c == b'\n').count() + 1;
    let column = before[line_start..].iter().filter(|c| **c & 0xc0 != 0x80).count() + 1;
    (line, column)
}

/// Faults by place, with lines and columns; and how many there are beyond [`FINDINGS_MAX`].
pub(super) fn findings(bytes: &[u8], faults: Faults) -> (Vec<Finding>, usize) {
    let Faults { mut kept, more } = faults;
    kept.sort_by_key(|fault| fault.at);
    let more = more + kept.len().saturating_sub(FINDINGS_MAX);
    kept.truncate(FINDINGS_MAX);
    let shown = |fault: Fault| {
        let (line, column) = place(bytes, fault.at);
        let other = fault.other.map(|at| place(bytes, at));
        let other = other.map_or_else(String::new, |(line, column)| format!(" {line}:{column}"));
        Finding { line, column, key: fault.key, what: fault.what + &other, remedy: fault.remedy }
    };
    (kept.into_iter().map(shown).collect(), more)
}

/// A text of the file as findings repeat it: one line, not too long.
pub(super) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_MAX).flat_map(visible).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// What steers a terminal or the direction of writing, as an escape.
fn visible(c: char) -> Vec<char> {
    let steers = c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if steers { c.escape_default().collect() } else { vec![c] }
}
