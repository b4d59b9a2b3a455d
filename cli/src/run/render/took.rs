//! What it took: time, memory, rate and engine of each evaluation.

use ci_model::flow::EvaluationCost;
use ci_model::outcome::{JobOutcome, Outcome, Side};

use super::super::line::{Column, Line, Paint, Table};
use super::super::text::{bytes, rate, safe, span, thousands};
use super::super::words;
use super::{View, heading};

pub(super) fn section(outcome: &Outcome, view: View) -> Vec<Line> {
    let mut lines = vec![heading(format!("Took {}", span(outcome.wall_ms)))];
    let columns = [Column::Gives, Column::Left, Column::Right, Column::Right, Column::Right, Column::Right];
    let mut table = Table::new(2, columns.into_iter().chain([Column::Gives]).collect());
    table.row(HEAD.map(|name| (Paint::Dim, name.to_owned())).to_vec());
    for job in &outcome.jobs {
        for row in rows(job) {
            let paint = |(place, text)| (if place == 6 { Paint::Dim } else { Paint::Plain }, text);
            table.row(row.into_iter().enumerate().map(paint).collect());
        }
    }
    if !outcome.jobs.is_empty() {
        lines.extend(table.lines(view.width));
    }
    lines
}

/// What the columns of [`rows`] are.
pub(crate) const HEAD: [&str; 7] = ["Job", "Side", "Attributes", "Time", "Rate", "Memory", "Engine"];

/// What each evaluation of a job took.
pub(crate) fn rows(job: &JobOutcome) -> Vec<[String; 7]> {
    let sides = [(Side::Head, job.head.as_ref()), (Side::Base, job.base.as_ref())];
    let there = sides.into_iter().filter_map(|(side, cost)| Some((side, cost?)));
    there.map(|(side, cost)| row(job, side, cost)).collect()
}

fn row(job: &JobOutcome, side: Side, cost: &EvaluationCost) -> [String; 7] {
    // Only the head's attributes are counted.
    let attrs = match side {
        Side::Head => Some(job.attrs),
        Side::Base => None,
    };
    let job = safe(job.job.as_str());
    let number = attrs.map(thousands).unwrap_or_default();
    let engine = safe(&cost.engine);
    if cost.reused {
        return [
            job,
            words::side(side).into(),
            number,
            "reused".into(),
            String::new(),
            String::new(),
            engine,
        ];
    }
    let rate = attrs.and_then(|attrs| rate(attrs, cost.wall_ms)).unwrap_or_default();
    let memory = bytes(cost.memory_peak_bytes);
    [job, words::side(side).into(), number, span(cost.wall_ms), rate, memory, engine]
}
