//! Patterns over repositories and branches. In: patterns and names, from the page for operators and at random. Out: a
//! failure where the answer is not the one of the table, or of the same pattern as a regular expression.

use std::time::{Duration, Instant};

use ci_model::pattern::{NAME_MAX, PATTERN_MAX};
use ci_model::{BranchPattern, PatternError, RepositoryPattern};
use proptest::prelude::*;

use crate::fuzz::checks::as_regex;

fn branch(pattern: &str, name: &str) -> bool {
    BranchPattern::parse(pattern).unwrap().matches(name)
}

fn repository(pattern: &str, name: &str) -> bool {
    RepositoryPattern::parse(pattern).unwrap().matches(name)
}

#[test]
fn the_examples_of_the_page_for_operators() {
    for (pattern, yes, no) in [
        ("main", &["main"][..], &["mainly", "Main", "x/main", "mai"][..]),
        ("*", &["main", "a/b/c"], &[]),
        ("**", &["main", "a/b/c"], &[]),
        (
            "release/*",
            &["release/1", "release/1/fix"],
            &["release-evil", "release", "x/release/1", "release/"],
        ),
        ("*/fix", &["a/fix", "a/b/fix"], &["fix", "/fix", "a-fix", "a/fix/b"]),
        ("*/*", &["a/b", "a/b/c"], &["a"]),
        ("v*", &["v", "v1.2"], &["v1/2", "av1"]),
        ("*-stable", &["24.05-stable", "-stable"], &["x/24.05-stable"]),
        ("users/*/wip", &["users/ann/wip"], &["users/ann/more/wip", "users/wip"]),
        ("users/**/wip", &["users/ann/wip", "users/ann/more/wip"], &["users/wip"]),
        ("rel**", &["rel", "release/1"], &["a/rel"]),
        ("a*c*e", &["ace", "abcde", "accce"], &["ab/cde", "acde/"]),
    ] {
        yes.iter().for_each(|name| assert!(branch(pattern, name), "{pattern} takes {name}"));
        no.iter().for_each(|name| assert!(!branch(pattern, name), "{pattern} does not take {name}"));
    }
    for (pattern, yes, no) in [
        (
            "myorg/*",
            &["myorg/app", "MyOrg/App", "myorg/group/app"][..],
            &["myorg-evil/app", "myorg", "myorg/"][..],
        ),
        ("MyOrg/App", &["myorg/app"], &["myorg/app2"]),
        ("company/production-*", &["company/production-web"], &["company/staging", "company/production-a/b"]),
        ("*/app", &["a/app", "a/b/app"], &["app"]),
        ("*", &["a/b"], &["no-owner"]),
    ] {
        yes.iter().for_each(|name| assert!(repository(pattern, name), "{pattern} takes {name}"));
        no.iter().for_each(|name| assert!(!repository(pattern, name), "{pattern} does not take {name}"));
    }
}

#[test]
fn what_is_no_name_matches_nothing() {
    let long = "a".repeat(NAME_MAX + 1);
    let names =
        ["", "/", "a/", "/a", "a//b", ".", "a/..", "./a", "a b", "a\nb", "a*", "a?", "a[b", "a:b", "a\\b"];
    for name in names.into_iter().chain([long.as_str()]) {
        for pattern in ["*", "**", "*/*", "a/*", "a*", "a**", name].into_iter().filter(|p| !p.is_empty()) {
            if let Ok(pattern) = BranchPattern::parse(pattern) {
                assert!(!pattern.matches(name), "{pattern:?} and {name:?}");
            }
        }
    }
    assert!(branch("*", &long[..NAME_MAX]));
}

#[test]
fn patterns_are_bounded() {
    assert_eq!(BranchPattern::parse(""), Err(PatternError::Empty));
    let long = "a".repeat(PATTERN_MAX + 1);
    assert_eq!(RepositoryPattern::parse(&long), Err(PatternError::TooLong(PATTERN_MAX + 1)));
    assert!(RepositoryPattern::parse(&long[1..]).is_ok());
}

#[test]
fn a_pattern_that_no_name_can_match_says_why() {
    for pattern in ["/main", "main/", "a//b", "*/../x", "a b", "main?", "[ab]", "refs/heads/main"] {
        assert!(BranchPattern::parse(pattern).unwrap().matches_nothing().is_some(), "{pattern}");
    }
    for pattern in ["myorg", "my*", "/myorg/app", "myorg/", "https://forge/myorg/app"] {
        assert!(RepositoryPattern::parse(pattern).unwrap().matches_nothing().is_some(), "{pattern}");
    }
    for pattern in ["*", "**", "my**", "*/*", "myorg/*", "*/app", "myorg/pro*-x"] {
        assert_eq!(RepositoryPattern::parse(pattern).unwrap().matches_nothing(), None, "{pattern}");
        assert_eq!(BranchPattern::parse(pattern).unwrap().matches_nothing(), None, "{pattern}");
    }
}

/// As many stars as a pattern can have, over the longest name, which fails at its last byte alone.
#[test]
fn many_stars_do_not_blow_up() {
    let name = "a".repeat(NAME_MAX - 1) + "b";
    for star in ["a*", "a**"] {
        let pattern = BranchPattern::parse(&star.repeat(PATTERN_MAX / star.len())).unwrap();
        let begin = Instant::now();
        assert!(!BranchPattern::parse(&format!("{}c", &star.repeat(80))).unwrap().matches(&name));
        assert!(pattern.matches(&name));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

proptest! {
    #[test]
    fn agrees_with_a_regular_expression(pattern in "[ab*/.-]{1,10}", name in "[abAB]{1,3}(/[abA.-]{1,3}){0,3}") {
        let shaped = !name.split('/').any(|segment| matches!(segment, "." | ".."));
        let expected = shaped && as_regex(&pattern, false).is_match(&name);
        prop_assert_eq!(branch(&pattern, &name), expected, "{} on {}", &pattern, &name);
        let expected = shaped && name.contains('/') && as_regex(&pattern, true).is_match(&name);
        prop_assert_eq!(repository(&pattern, &name), expected, "{} on {}", &pattern, &name);
    }

    #[test]
    fn a_warned_of_pattern_matches_nothing(pattern in "[ab*/?. -]{1,8}", name in "\\PC{1,8}|[ab./-]{1,8}") {
        for (warned, matches) in [
            (RepositoryPattern::parse(&pattern).unwrap().matches_nothing(), repository(&pattern, &name)),
            (BranchPattern::parse(&pattern).unwrap().matches_nothing(), branch(&pattern, &name)),
        ] {
            prop_assert!(warned.is_none() || !matches, "{pattern:?} takes {name:?} ({warned:?})");
        }
    }

    #[test]
    fn a_name_matches_itself(name in "[a-zA-Z0-9_.-]{3,8}(/[a-zA-Z0-9_-]{1,8}){1,3}") {
        prop_assert!(branch(&name, &name));
        prop_assert!(repository(&name.to_ascii_uppercase(), &name));
    }
}
