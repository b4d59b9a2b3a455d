//! What does not evaluate: new first, then what did not before either, then what does again, then what is gone.

use ci_model::JobName;
use ci_model::attr::AttrError;
use ci_model::change::JobAttr;
use ci_model::outcome::Outcome;

use super::super::line::{Line, Paint};
use super::super::rows::Names;
use super::super::text::safe;
use super::super::words;
use super::{View, and_more, heading};

/// New ones, at most, without `--full`.
const NEW_SHOWN: usize = 10;
/// Old ones.
const STILL_SHOWN: usize = 5;
/// Those that evaluate again, and as many that are gone.
const FIXED_SHOWN: usize = 5;

pub(super) fn section(outcome: &Outcome, view: View) -> Vec<Line> {
    let errors = &outcome.comparison.errors;
    let numbers = words::error_numbers(outcome);
    if numbers.is_empty() {
        return Vec::new();
    }
    let names = Names::of(outcome);
    let mut lines = vec![heading(format!("Errors: {numbers}"))];
    lines.extend(list("new", Paint::Red, &errors.new, NEW_SHOWN, names, view));
    lines.extend(list("as before", Paint::Yellow, &errors.still, STILL_SHOWN, names, view));
    lines.extend(no_more("fixed", Paint::Green, &errors.fixed, names, view));
    lines.extend(no_more("removed", Paint::Yellow, &errors.removed, names, view));
    lines
}

/// Those that are no errors any more.
fn no_more(what: &str, paint: Paint, attrs: &[JobAttr], names: Names, view: View) -> Vec<Line> {
    let shown = view.shown(FIXED_SHOWN).min(attrs.len());
    let line = |attr: &JobAttr| {
        let name = safe(&names.attr(attr.job.as_str(), &attr.path));
        Line::of("  ").add(paint, what).add(Paint::Plain, format!(": {name}"))
    };
    let mut lines: Vec<Line> = attrs[..shown].iter().map(line).collect();
    lines.extend(and_more("  ", attrs.len(), shown, view));
    lines
}

fn list(
    what: &str,
    paint: Paint,
    errors: &[(JobName, AttrError)],
    bound: usize,
    names: Names,
    view: View,
) -> Vec<Line> {
    let shown = view.shown(bound).min(errors.len());
    let mut lines = Vec::new();
    for (job, error) in &errors[..shown] {
        let name = safe(&names.attr(job.as_str(), &error.path));
        let line = Line::of("  ").add(paint, format!("{what}, {}", error.kind));
        lines.push(line.add(Paint::Plain, format!(": {name}")));
        lines.push(Line::of(format!("    {}", safe(&words::first_line(error)))));
    }
    lines.extend(and_more("  ", errors.len(), shown, view));
    lines
}
