//! What is wrong with a configuration file. In: problems as they are found. Out: the first [`FINDINGS_MAX`] of them, in
//! the file's order, one a line, and how many more there are. Never holds a value of the file: a value may be a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::text::one_line;

/// Most problems, and most warnings, that are kept one by one; behind them stands one more that counts the rest. What
/// is wrong in so many places was meant otherwise as a whole.
pub const FINDINGS_MAX: usize = 100;

/// One finding, shown as `[queue] socket: what is wrong; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line in the file, from 1; `None` when no line is to blame.
    pub line: Option<u32>,
    /// Section and key, such as `[queue] socket`; empty for the file as a whole.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(
        place: &str,
        line: Option<u32>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { line, place: place.to_owned(), what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn of_file(what: String, remedy: String) -> Self {
        Self { line: None, place: String::new(), what, remedy }
    }

    pub(super) fn of_syntax(line: Option<u32>, message: &str) -> Self {
        Self::new("", line, format!("not valid TOML: {message}"), "correct the line, or the one before it")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", one_line(&self.place))?;
        }
        write!(f, "{}; {}", one_line(&self.what), one_line(&self.remedy))
    }
}

/// What was found in one file. Shown as one line a problem, `FILE:LINE: [queue] socket: what; remedy`,
/// without the warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The file's name as it was given.
    pub file: PathBuf,
    /// What makes the file unusable, in the order of lines; above [`FINDINGS_MAX`] the last one counts the rest.
    pub problems: Vec<Problem>,
    /// What works but deserves attention, likewise.
    pub warnings: Vec<Problem>,
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let break_before = if index == 0 { "" } else { "\n" };
            write!(f, "{break_before}{}", at(&self.file, problem))?;
        }
        Ok(())
    }
}

impl Problem {
    /// Shows the problem with its file and line in front: `FILE:LINE: [queue] socket: what; remedy`.
    #[must_use]
    pub fn in_file(&self, file: &Path) -> String {
        at(file, self)
    }
}

fn at(file: &Path, problem: &Problem) -> String {
    let file = file.to_string_lossy();
    match problem.line {
        Some(line) => format!("{}:{line}: {problem}", one_line(&file)),
        None => format!("{}: {problem}", one_line(&file)),
    }
}

/// Where sections put what they find.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) file: PathBuf,
    problems: Findings,
    warnings: Findings,
    /// Sections that were handed out and not yet finished.
    pub(super) open_sections: usize,
}

impl Sink {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problems.put(problem);
    }

    pub(super) fn warn(&mut self, problem: Problem) {
        self.warnings.put(problem);
    }

    /// Whether one more problem would only be counted. Whoever finds many asks before wording the next.
    pub(super) fn is_full(&self) -> bool {
        self.problems.kept.len() >= FINDINGS_MAX
    }

    /// Counts problems without keeping them.
    pub(super) fn refuse_more(&mut self, more: usize) {
        self.problems.more += more;
    }

    pub(super) fn is_refused(&self) -> bool {
        !self.problems.kept.is_empty()
    }

    pub(super) fn into_report(self) -> Report {
        Report {
            file: self.file,
            problems: self.problems.into_list("problems"),
            warnings: self.warnings.into_list("warnings"),
        }
    }
}

/// The first [`FINDINGS_MAX`], and the number of the others.
#[derive(Debug, Default)]
struct Findings {
    kept: Vec<Problem>,
    more: usize,
}

impl Findings {
    fn put(&mut self, problem: Problem) {
        if self.kept.len() < FINDINGS_MAX { self.kept.push(problem) } else { self.more += 1 }
    }

    fn into_list(self, what: &str) -> Vec<Problem> {
        let mut list = self.kept;
        list.sort_by_key(|p| p.line);
        if self.more > 0 {
            let more = format!("{} more {what} are not listed", self.more);
            list.push(Problem::of_file(more, "correct these first".to_owned()));
        }
        list
    }
}
