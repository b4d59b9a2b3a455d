//! The table of changes: what became of each package, grouped by that.

use std::collections::BTreeSet;

use ci_model::outcome::Outcome;
use nix_types::System;

use super::super::line::{Column, Line, Paint, Table};
use super::super::rows::{Row, Rows, Status, rows};
use super::super::text::safe;
use super::{View, and_more, heading};

/// Rows of one group, at most, without `--full`.
const ROWS_SHOWN: usize = 10;
/// Rebuilt packages: the longest group, and the one that says least.
const REBUILT_SHOWN: usize = 5;

pub(super) fn section(outcome: &Outcome, view: View) -> Vec<Line> {
    let rows = rows(outcome);
    if rows.is_empty() {
        return Vec::new();
    }
    let systems: BTreeSet<&System> = outcome.comparison.systems.keys().collect();
    let mut lines = vec![heading("Changes")];
    let mut groups = table(&rows, &systems, view).into_iter();
    for (status, group) in &rows {
        let shown = bound(*status, view).min(group.len());
        lines.extend(groups.by_ref().take(shown));
        lines.extend(and_more("  ", group.len(), shown, view));
    }
    lines
}

fn bound(status: Status, view: View) -> usize {
    view.shown(if status == Status::Rebuild { REBUILT_SHOWN } else { ROWS_SHOWN })
}

/// One table for all groups, so that they stand below each other.
fn table(rows: &Rows, systems: &BTreeSet<&System>, view: View) -> Vec<Line> {
    let mut table = Table::new(2, vec![Column::Left, Column::Gives, Column::Gives, Column::Gives]);
    for (status, group) in rows {
        for row in group.iter().take(bound(*status, view)) {
            table.row(vec![
                (paint(*status), status.name().to_owned()),
                (Paint::Plain, safe(&row.name)),
                (Paint::Plain, row.change.text()),
                (Paint::Dim, on(row, systems)),
            ]);
        }
    }
    table.lines(view.width)
}

fn paint(status: Status) -> Paint {
    match status {
        Status::Added => Paint::Green,
        Status::Removed => Paint::Red,
        Status::Bump | Status::Rename => Paint::Yellow,
        Status::Marked | Status::License | Status::Maintainers | Status::Description => Paint::Plain,
        Status::Rebuild => Paint::Dim,
    }
}

/// On which systems; nothing when that is all of them.
pub(crate) fn on(row: &Row, systems: &BTreeSet<&System>) -> String {
    if systems.iter().all(|system| row.systems.contains(*system)) {
        return String::new();
    }
    row.systems.iter().map(System::as_str).collect::<Vec<_>>().join(", ")
}
