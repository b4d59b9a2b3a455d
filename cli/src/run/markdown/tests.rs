//! What a pull request shows, that it fits, and that nothing in it is active.

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
