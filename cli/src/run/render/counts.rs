//! The numbers: what became of how many attributes, and how many derivations are new, by system.

use ci_model::change::SystemCounts;
use ci_model::outcome::Outcome;

use super::super::line::{Column, Line, Paint, Table};
use super::super::phrase::Phrase;
use super::super::text::thousands;
use super::super::words::COUNTED;
use super::View;

/// A column of numbers.
pub(crate) struct Sum {
    pub(crate) name: Phrase,
    pub(crate) counts: SystemCounts,
}

pub(super) fn section(outcome: &Outcome, view: View) -> Vec<Line> {
    let systems = outcome.comparison.systems.len();
    if systems == 0 {
        return Vec::new();
    }
    // As many systems as fit; the others in one column.
    let fitting = (1..=systems).rev().map(|shown| table(&sums(outcome, shown)));
    let fitting = fitting.into_iter().find(|table| table.columns() <= view.width);
    fitting.unwrap_or_else(|| table(&sums(outcome, 0))).lines(view.width)
}

/// Columns of the `shown` systems with the most to build, of the others together, and of all.
pub(crate) fn sums(outcome: &Outcome, shown: usize) -> Vec<Sum> {
    let systems = &outcome.comparison.systems;
    let mut ranked: Vec<_> = systems.iter().collect();
    ranked.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.to_build()));
    let (shown, others) = ranked.split_at(shown.min(ranked.len()));
    let mut shown = shown.to_vec();
    shown.sort_by_key(|(system, _)| *system);
    let named = |(system, counts): &(&nix_types::System, &SystemCounts)| Sum {
        name: Phrase::theirs(system.as_str()),
        counts: (*counts).clone(),
    };
    let mut sums: Vec<Sum> = shown.iter().map(named).collect();
    if !others.is_empty() && !sums.is_empty() {
        sums.push(Sum {
            name: Phrase::ours(format!("{} others", others.len())),
            counts: SystemCounts::sum(others.iter().map(|of| of.1)),
        });
    }
    if systems.len() > 1 {
        sums.push(Sum { name: Phrase::ours("in all"), counts: outcome.comparison.totals() });
    }
    sums
}

fn table(sums: &[Sum]) -> Table {
    let mut columns = vec![Column::Left];
    columns.extend(sums.iter().map(|_| Column::Right));
    let mut table = Table::new(0, columns);
    let mut head = vec![(Paint::Plain, String::new())];
    head.extend(sums.iter().map(|sum| (Paint::Bold, sum.name.text())));
    table.row(head);
    for counted in &COUNTED {
        let numbers: Vec<usize> = sums.iter().map(|sum| (counted.of)(&sum.counts)).collect();
        // What there is none of is left out; how much must be built is said always.
        if numbers.iter().all(|number| *number == 0) && !counted.is_always_said {
            continue;
        }
        let mut row = vec![(Paint::Plain, counted.name.to_owned())];
        row.extend(numbers.into_iter().map(|number| match number {
            0 => (Paint::Dim, "0".to_owned()),
            number => (Paint::Plain, thousands(number)),
        }));
        table.row(row);
    }
    table
}
