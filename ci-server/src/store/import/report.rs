//! What an import came to. Rows are counted as they are taken over or left behind; a text for people goes out.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Most reasons that are told apart.
const REASONS_MAX: usize = 1000;

/// What became of every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    taken: BTreeMap<String, u64>,
    left: BTreeMap<(String, String), u64>,
}

/// Rows of a table that are here now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenOver {
    /// The older table.
    pub table: String,
    /// How many.
    pub rows: u64,
}

/// Rows of a table that are not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The older table.
    pub table: String,
    /// How many.
    pub rows: u64,
    /// Goes on behind "because".
    pub why: String,
}

impl ImportReport {
    /// By table.
    pub fn taken_over(&self) -> impl Iterator<Item = TakenOver> + '_ {
        self.taken.iter().map(|(table, rows)| TakenOver { table: table.clone(), rows: *rows })
    }

    /// By table and reason.
    pub fn left_behind(&self) -> impl Iterator<Item = LeftBehind> + '_ {
        let left = self.left.iter();
        left.map(|((table, why), rows)| LeftBehind { table: table.clone(), rows: *rows, why: why.clone() })
    }

    pub(super) fn taken(&mut self, table: &str, rows: u64) {
        *self.taken.entry(table.to_owned()).or_default() += rows;
    }

    pub(super) fn left(&mut self, table: &str, why: &str, rows: u64) {
        if rows == 0 {
            return;
        }
        let mut key = (table.to_owned(), why.to_owned());
        if self.left.len() >= REASONS_MAX && !self.left.contains_key(&key) {
            key.1 = "of other reasons, more than are told apart".into();
        }
        *self.left.entry(key).or_default() += rows;
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, rows) in &self.taken {
            writeln!(f, "taken over: {rows} rows of {table}")?;
        }
        for ((table, why), rows) in &self.left {
            writeln!(f, "not taken over: {rows} rows of {table}, because {why}")?;
        }
        Ok(())
    }
}
