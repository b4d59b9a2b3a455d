//! From what is known of a run to the lines of a picture: a line for each stage, below `evaluate` one for each job and
//! side. Pure.

use std::time::Duration;

use ci_model::JobName;
use ci_model::outcome::Side;

use super::super::line::{Column, Line, Paint, Table};
use super::super::text::{bytes, count, rate, safe, span, thousands};
use super::super::words;
use super::state::{Evaluation, Span, Stage, State};

/// Columns of a bar.
const BAR: usize = 24;

pub(super) fn draw(state: &State, now: Duration, width: usize, paint: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (stage, span) in &state.stages {
        lines.push(line(*stage, *span, state, now));
        if *stage == Stage::Evaluate {
            lines.extend(evaluations(state, now, width));
        }
    }
    if state.is_over {
        lines.push(Line::default()); // and then the report
    }
    lines.into_iter().map(|line| line.finish(width, paint)).collect()
}

fn line(stage: Stage, lasts: Span, state: &State, now: Duration) -> Line {
    let took = millis(lasts.to.unwrap_or(now).saturating_sub(lasts.from));
    let sign = sign(lasts.to.is_some());
    let line = Line::default().add(sign.0, sign.1).add(Paint::Plain, format!(" {:<11}", stage.name()));
    let line = line.add(Paint::Dim, format!("{:>6}", span(took)));
    match state.instantiated.filter(|_| stage == Stage::Instantiate) {
        // The last word may not have been heard.
        Some((_, of)) if lasts.to.is_some() => {
            line.add(Paint::Plain, format!("  {}", count(of, "attribute")))
        }
        Some((done, of)) => bar(line, done, of),
        None => line,
    }
}

fn bar(line: Line, done: usize, of: usize) -> Line {
    let filled = done.min(of).saturating_mul(BAR).checked_div(of).unwrap_or(BAR).min(BAR);
    line.add(Paint::Plain, "  [")
        .add(Paint::Green, "#".repeat(filled))
        .add(Paint::Plain, ".".repeat(BAR - filled))
        .add(Paint::Plain, format!("] {} of {}", thousands(done), count(of, "attribute")))
}

fn sign(is_over: bool) -> (Paint, &'static str) {
    if is_over { (Paint::Green, "✓") } else { (Paint::Yellow, "•") }
}

/// Branches of the tree.
fn evaluations(state: &State, now: Duration, width: usize) -> Vec<Line> {
    let mut columns = vec![Column::Left, Column::Gives, Column::Left];
    columns.extend([Column::Right, Column::Right, Column::Right, Column::Right]);
    let mut table = Table::new(0, columns);
    let last = state.evaluations.len().saturating_sub(1);
    for (place, ((job, side), of)) in state.evaluations.iter().enumerate() {
        table.row(row(place == last, job, *side, of, now));
    }
    table.lines(width)
}

fn row(is_last: bool, job: &JobName, side: Side, of: &Evaluation, now: Duration) -> Vec<(Paint, String)> {
    let (paint, sign) = sign(of.cost.is_some());
    let branch = if is_last { "└─" } else { "├─" };
    let errors = if of.errors == 0 { String::new() } else { count(of.errors, "error") };
    let (pace, memory) = match &of.cost {
        Some(cost) if cost.reused => ("reused".into(), String::new()),
        Some(cost) => (span(cost.wall_ms), bytes(cost.memory_peak_bytes)),
        None => {
            let pace = of.pace(now).and_then(|(number, milliseconds)| rate(number, milliseconds));
            (pace.unwrap_or_default(), of.attrs.map(|_| bytes(of.memory_bytes)).unwrap_or_default())
        }
    };
    vec![
        (paint, format!("{branch} {sign}")),
        (Paint::Plain, safe(job.as_str())),
        (Paint::Dim, words::side(side).into()),
        (Paint::Plain, of.attrs.map(|attrs| count(attrs, "attribute")).unwrap_or_default()),
        (Paint::Red, errors),
        (Paint::Dim, pace),
        (Paint::Dim, memory),
    ]
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
