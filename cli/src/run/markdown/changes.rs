//! The table of changes: Status, Package, Change, Systems.

use std::collections::BTreeSet;

use ci_model::outcome::Outcome;
use nix_types::System;

use super::super::phrase::code;
use super::super::rows::{Row, Status, rows};
use super::super::text::{count, thousands};
use super::Level;

pub(super) fn section(outcome: &Outcome, level: Level) -> String {
    let rows = rows(outcome);
    if rows.is_empty() {
        return String::new();
    }
    let systems: BTreeSet<&System> = outcome.comparison.systems.keys().collect();
    let (mut text, mut below) = (String::new(), String::new());
    for (status, group) in &rows {
        match left_out(*status, level) {
            LeftOut::Nothing => text.push_str(&lines(*status, group, &systems, level)),
            LeftOut::Rows => {}
            LeftOut::AllButTheirNumber => {
                below = format!("\n{} only rebuilt.\n", count(group.len(), "package"));
            }
        }
    }
    if !text.is_empty() {
        text.insert_str(0, "| Status | Package | Change | Systems |\n|---|---|---|---|\n");
    }
    format!("### Changes\n\n{text}{below}")
}

enum LeftOut {
    Nothing,
    Rows,
    AllButTheirNumber,
}

fn left_out(status: Status, level: Level) -> LeftOut {
    match status {
        Status::Added | Status::Removed | Status::Bump | Status::Rename => LeftOut::Nothing,
        Status::Maintainers if !level.maintainers => LeftOut::Rows,
        Status::Marked | Status::License | Status::Description if !level.meta => LeftOut::Rows,
        Status::Rebuild if !level.rebuilds => LeftOut::AllButTheirNumber,
        Status::Maintainers | Status::Marked | Status::License | Status::Description | Status::Rebuild => {
            LeftOut::Nothing
        }
    }
}

fn lines(status: Status, group: &[Row], systems: &BTreeSet<&System>, level: Level) -> String {
    let line = |row: &Row| {
        let (name, change) = (code(&row.name), row.change.markdown());
        format!("| {} | {name} | {change} | {} |\n", status.name(), on(row, systems))
    };
    let mut text: String = group.iter().take(level.rows).map(line).collect();
    if group.len() > level.rows {
        let left = thousands(group.len() - level.rows);
        text.push_str(&format!("| {} | and {left} more | | |\n", status.name()));
    }
    text
}

fn on(row: &Row, systems: &BTreeSet<&System>) -> String {
    if systems.len() > 1 && systems.iter().all(|system| row.systems.contains(*system)) {
        return "all".into();
    }
    row.systems.iter().map(|system| code(system.as_str())).collect::<Vec<_>>().join(", ")
}
