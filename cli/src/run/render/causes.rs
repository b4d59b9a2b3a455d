//! Why things change: the derivations that differ by themselves, what is different about them and what follows from
//! each; and which of the changed attributes most derivations need.

use ci_model::change::{JobAttr, RootCause};
use ci_model::outcome::Outcome;

use super::super::line::{Column, Line, Paint, Table};
use super::super::rows::Names;
use super::super::text::{columns, count, cut, safe, thousands};
use super::super::words;
use super::{View, and_more, heading};

/// Root causes, at most, without `--full`.
const CAUSES_SHOWN: usize = 10;
/// Differences of one.
const DIFFERENCES_SHOWN: usize = 4;
/// Rows of what most derivations need.
const REACH_SHOWN: usize = 5;

pub(super) fn section(outcome: &Outcome, view: View) -> Vec<Line> {
    let causes = words::causes(outcome);
    if causes.is_empty() {
        return Vec::new();
    }
    let all = words::causes_total(outcome);
    let mut lines = vec![heading(format!("Why: {}", count(all, "root cause")))];
    let shown = &causes[..view.shown(CAUSES_SHOWN).min(causes.len())];
    for causes in shown {
        lines.extend(alike(causes, Names::of(outcome), view));
    }
    lines.extend(and_more("  ", all, shown.iter().map(Vec::len).sum(), view));
    lines
}

/// What differs, once; what follows from it, by system.
fn alike(causes: &[&RootCause], names: Names, view: View) -> Vec<Line> {
    let Some(first) = causes.first() else { return Vec::new() };
    let mut lines = vec![Line::of("  ").add(Paint::Bold, words::cause(first).text())];
    let differences = words::differences(first);
    let shown = view.shown(DIFFERENCES_SHOWN).min(differences.len());
    lines.extend(differences[..shown].iter().map(|differs| Line::of(format!("    {}", differs.text()))));
    lines.extend(and_more("    ", differences.len(), shown, view));
    for cause in causes {
        lines.push(Line::of(format!("    → {}: {}", cause.system, words::consequences(cause))));
    }
    lines.extend(examples(first, names, view));
    lines
}

/// As many names as fit into a line.
fn examples(cause: &RootCause, names: Names, view: View) -> Option<Line> {
    let name = |attr: &JobAttr| safe(&names.package(attr, &cause.system));
    let mut line = String::from("      ");
    let mut shown = 0;
    for example in cause.examples.iter().map(name) {
        let rest = cause.attrs.saturating_sub(shown + 1);
        let tail = if rest > 0 { ", …".len() } else { 0 };
        if shown > 0 && columns(&line) + 2 + columns(&example) + tail > view.width {
            break;
        }
        line.push_str(if shown > 0 { ", " } else { "" });
        line.push_str(&example);
        shown += 1;
    }
    if shown > 0 && cause.attrs > shown {
        line = format!("{}, …", cut(&line, view.width.saturating_sub(3)));
    }
    (shown > 0).then(|| Line::painted(Paint::Dim, line))
}

/// What most derivations need.
pub(super) fn reach(outcome: &Outcome, view: View) -> Vec<Line> {
    let reach = &outcome.comparison.reach;
    if reach.is_empty() {
        return Vec::new();
    }
    let names = Names::of(outcome);
    let mut table = Table::new(2, vec![Column::Right, Column::Gives, Column::Left]);
    let shown = view.shown(REACH_SHOWN).min(reach.len());
    for reach in &reach[..shown] {
        table.row(vec![
            (Paint::Plain, thousands(reach.dependants)),
            (Paint::Plain, safe(&names.package(&reach.attr, &reach.system))),
            (Paint::Dim, reach.system.to_string()),
        ]);
    }
    let mut lines = vec![heading("Most dependants")];
    lines.extend(table.lines(view.width));
    lines.extend(and_more("  ", words::reach_total(outcome), shown, view));
    lines
}
