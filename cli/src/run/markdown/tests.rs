//! What a pull request shows, that it fits, and that nothing in it is active.

use ci_model::outcome::JobOutcome;
use proptest::prelude::*;

use super::super::render::samples::*;
use super::*;

#[test]
fn a_few_changes() {
    insta::assert_snapshot!(report(&few(), false));
}

#[test]
fn nothing_changes() {
    insta::assert_snapshot!(report(&nothing(), false));
}

#[test]
fn there_is_no_base() {
    insta::assert_snapshot!(report(&no_base(), false));
}

#[test]
fn hostile_names() {
    insta::assert_snapshot!(report(&hostile(), false));
}

#[test]
fn a_mass_rebuild_is_cut_and_says_so() {
    let text = report(&mass(), false);
    assert!(text.len() <= MARKDOWN_BYTES_MAX);
    insta::assert_snapshot!(text);
}

/// Lists far beyond every bound: with `full` all of each is there, and without it the text fits.
#[test]
fn all_of_it_cuts_no_list() {
    let mut outcome = few();
    let names = |what: &str| (0..300).map(|number| format!("{what}-{number}")).collect::<Vec<_>>();
    (outcome.reasons, outcome.warnings) = (names("reason"), names("warning"));
    let comparison = &mut outcome.comparison;
    let causes = comparison.root_causes.clone();
    comparison.root_causes = Vec::new();
    for name in names("cause") {
        let mut cause = causes[0].clone();
        cause.after = drv(&name);
        let input = |name: String| ci_model::change::Difference::InputAdded { name };
        cause.differences = (0..32).map(|number| input(format!("{name}-input-{number}"))).collect();
        comparison.root_causes.push(cause);
    }
    comparison.root_causes_total = 300;
    let failing = |what: &str| {
        let one = |name: &String| error(&[name], ci_model::attr::ErrorKind::Thrown, "no");
        names(what).iter().map(one).collect::<Vec<_>>()
    };
    let errors = &mut comparison.errors;
    (errors.new, errors.still) = (failing("new"), failing("still"));
    errors.fixed = names("fixed").iter().map(|name| attr(&[name])).collect();
    errors.removed = names("removed").iter().map(|name| attr(&[name])).collect();
    let one = outcome.jobs[0].clone();
    outcome.jobs = names("job").iter().map(|name| JobOutcome { job: job(name), ..one.clone() }).collect();
    let text = report(&outcome, true);
    for what in ["reason", "warning", "cause", "new", "still", "fixed", "removed", "job"] {
        assert!(text.contains(&format!("{what}-299")), "{what}");
    }
    assert!(text.contains("cause-299-input-31"));
    assert!(!text.contains(" more"), "{text}");
    let text = report(&outcome, false);
    assert!(text.len() <= MARKDOWN_BYTES_MAX && text.contains(" more"));
}

/// What is left out grows in the documented order, and the numbers never change.
#[test]
fn every_level_is_shorter_and_counts_the_same() {
    let mut outcome = mass();
    let added =
        (0..5_000).map(|number| change(X86, &format!("added-{number}"), ci_model::change::ChangeKind::Added));
    outcome.comparison.changes.extend(added);
    let texts = LEVELS.map(|level| at(&outcome, level));
    for pair in texts.windows(2) {
        // A level names what it leaves out, which may be longer than the little there was.
        assert!(pair[1].len() < pair[0].len() + 100);
        assert!(pair[1].contains("| 20,007 |") && pair[1].contains("| 61,202 |"));
    }
    assert!(texts[3].len() > MARKDOWN_BYTES_MAX && texts[4].len() < MARKDOWN_BYTES_MAX);
    assert!(texts[1].contains("| License |") && !texts[1].contains("| Maintainers |"));
    assert!(texts[2].contains("| Rebuild |") && !texts[2].contains("| License |"));
    assert!(
        texts[3].contains("20,007 packages only rebuilt.")
            || texts[3].contains("20,008 packages only rebuilt.")
    );
    assert!(texts[4].contains("| Added | and "));
    assert!(texts[5].len() < 4_000, "{}", texts[5]);
    assert!(report(&outcome, true).len() > MARKDOWN_BYTES_MAX, "all of it was asked for");
}

/// The text without its code, in which nothing is active.
fn outside_of_code(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_not_ours_is_code(names in prop::collection::vec(any::<String>(), 1..8)) {
        let ours = outside_of_code(&report(&few(), false));
        for outcome in [super::super::render::tests::called(&names), hostile()] {
            let text = report(&outcome, false);
            prop_assert!(text.len() <= MARKDOWN_BYTES_MAX);
            prop_assert!(!text.chars().any(|c| c != '\n' && super::super::text::steers(c)));
            for line in text.lines() {
                prop_assert!(line.matches('`').count() % 2 == 0, "{line}");
                if line.starts_with('|') {
                    prop_assert!(line.ends_with('|'), "{line}");
                }
            }
            for active in ["@", "://", "www.", "<img", "](", "\\"] {
                prop_assert_eq!(outside_of_code(&text).contains(active), ours.contains(active), "{}", active);
            }
        }
    }
}
