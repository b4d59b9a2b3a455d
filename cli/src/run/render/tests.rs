//! What people see, at two widths; and that no text of anybody breaks a line, whatever the outcome.

use proptest::prelude::*;

use super::samples::*;
use super::*;

const USUAL: View = View { width: 80, full: false, paint: false };

fn at_both_widths(outcome: &Outcome) -> String {
    let at = |width: usize| report(outcome, View { width, ..USUAL }).join("\n");
    format!("{}\n{}\n{}\n{}", "=".repeat(80), at(80), "=".repeat(120), at(120))
}

#[test]
fn nothing_changes() {
    insta::assert_snapshot!(at_both_widths(&nothing()));
}

#[test]
fn a_few_changes() {
    insta::assert_snapshot!(at_both_widths(&few()));
}

#[test]
fn a_mass_rebuild() {
    insta::assert_snapshot!(at_both_widths(&mass()));
}

#[test]
fn only_errors_are_new() {
    insta::assert_snapshot!(at_both_widths(&only_errors()));
}

#[test]
fn there_is_no_base() {
    insta::assert_snapshot!(at_both_widths(&no_base()));
}

#[test]
fn there_are_many_systems() {
    insta::assert_snapshot!(at_both_widths(&wide()));
}

#[test]
fn hostile_names() {
    insta::assert_snapshot!(at_both_widths(&hostile()));
}

/// Counted in lines: a full report has all 20,000 rows.
#[test]
fn all_of_it_when_asked_for() {
    let lines = report(&mass(), View { full: true, ..USUAL });
    let is_row = |line: &&String| line.starts_with("  Rebuild ") && line.contains(" package-");
    assert_eq!(lines.iter().filter(is_row).count(), 20_000);
    assert!(!lines.iter().any(|line| line.contains("--full")));
    assert!(lines.contains(&"  and 100 more".to_owned()), "root causes that were never listed");
}

#[test]
fn many_warnings_are_cut_and_all_are_there_when_asked_for() {
    let mut outcome = nothing();
    outcome.warnings = (0..5_000).map(|number| format!("the link l{number} leads elsewhere")).collect();
    let warnings = |lines: &[String]| lines.iter().filter(|line| line.starts_with("warning: ")).count();
    let lines = report(&outcome, USUAL);
    assert_eq!(warnings(&lines), WARNINGS_SHOWN);
    assert!(lines.contains(&"and 4,990 more (--full)".to_owned()), "{lines:?}");
    let lines = report(&outcome, View { full: true, ..USUAL });
    assert_eq!(warnings(&lines), 5_000);
    assert!(!lines.iter().any(|line| line.contains(" more")), "{lines:?}");
}

#[test]
fn colours_change_no_letter() {
    for outcome in [nothing(), few(), only_errors(), hostile()] {
        let (plain, painted) = (report(&outcome, USUAL), report(&outcome, View { paint: true, ..USUAL }));
        assert_ne!(plain, painted);
        let codes = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];
        let without = |line: &String| codes.iter().fold(line.clone(), |line, code| line.replace(code, ""));
        assert_eq!(painted.iter().map(without).collect::<Vec<_>>(), plain);
    }
}

/// An outcome with the same things as [`few`], called by `names`.
pub(crate) fn called(names: &[String]) -> Outcome {
    let mut outcome = few();
    let mut names = names.iter().cycle().map(String::as_str);
    let mut next = move || names.next().unwrap_or_default().to_owned();
    let path = |name: &str| attr(&[&name.chars().take(500).collect::<String>()]).path;
    outcome.reasons = vec![next(), next()];
    outcome.warnings = vec![next()];
    for cost in outcome.jobs.iter_mut().filter_map(|job| job.head.as_mut()) {
        (cost.engine, cost.wall_ms, cost.memory_peak_bytes) = (next(), u64::MAX, u64::MAX);
    }
    for change in &mut outcome.comparison.changes {
        change.attr.path = path(&next());
    }
    for counts in outcome.comparison.systems.values_mut() {
        (counts.added, counts.drvs) = (usize::MAX / 4, usize::MAX / 4);
    }
    for cause in &mut outcome.comparison.root_causes {
        (cause.attrs, cause.drvs) = (usize::MAX, usize::MAX);
        cause.differences.push(ci_model::change::Difference::Source { name: next() });
        cause.examples.iter_mut().for_each(|example| example.path = path(&next()));
    }
    for (_, error) in &mut outcome.comparison.errors.new {
        (error.path, error.message) = (path(&next()), next());
    }
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_line_is_too_wide_or_steers(names in prop::collection::vec(any::<String>(), 1..8), width in 0_usize..140, full in any::<bool>()) {
        for outcome in [called(&names), hostile(), wide(), no_base()] {
            for line in report(&outcome, View { width, full, paint: false }) {
                prop_assert!(columns(&line) <= width, "{width}: {line}");
                prop_assert!(!line.chars().any(super::super::text::steers), "{line:?}");
            }
        }
    }
}
