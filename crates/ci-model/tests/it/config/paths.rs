//! What a change comes to by its paths.

use std::time::Duration;

use ci_model::config::{Effect, PathGlob, is_skipped};
use proptest::prelude::*;

use super::good::good;

fn glob(text: &str) -> PathGlob {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn patterns_over_files() {
    for (pattern, yes, no) in [
        ("README.md", &["README.md"][..], &["doc/README.md", "README.mdx", "readme.md"][..]),
        ("*.md", &["README.md", ".md"], &["doc/README.md"]),
        ("doc/**", &["doc/a", "doc/a/b"], &["doc", "docs/a", "a/doc/b"]),
        ("doc/**/*.md", &["doc/a.md", "doc/a/b/c.md"], &["doc/a.txt", "a.md"]),
        ("**/CHANGELOG.md", &["CHANGELOG.md", "a/b/CHANGELOG.md"], &["aCHANGELOG.md", "CHANGELOG.md/a"]),
        (".github/**", &[".github/workflows/a.yml"], &["github/a"]),
        ("**", &["a", "a/b/c"], &[]),
        ("**/**", &["a", "a/b"], &[]),
        ("*", &["a", ".hidden"], &["a/b"]),
        ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
        ("a/**/c", &["a/c", "a/b/b/c"], &["a/b", "b/a/c"]),
        ("**/a/**", &["a/b", "x/a/b/c"], &["a", "x/a"]),
        ("?x", &["ax", "üx"], &["x", "aax", "/x"]),
        ("a*b*c", &["abc", "axbxbxc"], &["abcd", "ab/c"]),
    ] {
        yes.iter().for_each(|path| assert!(glob(pattern).matches(path), "{pattern} takes {path}"));
        no.iter().for_each(|path| assert!(!glob(pattern).matches(path), "{pattern} does not take {path}"));
    }
    assert!(!glob("**").matches("") && !glob("**").matches(&"a".repeat(5000)));
}

#[test]
fn many_stars_do_not_blow_up() {
    let path = vec!["a".repeat(100); 40].join("/");
    let begin = test_kit::cpu::time();
    for pattern in
        ["**/a*a*a*a*a*b".to_owned(), "**/*/".repeat(42) + "b", "*a".repeat(127), "a*/".repeat(39) + "**/b"]
    {
        assert!(!glob(&pattern).matches(&path), "{pattern}");
    }
    let took = test_kit::cpu::time() - begin;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

proptest! {
    #[test]
    fn agrees_with_a_regular_expression(
        parts in prop::collection::vec("\\*\\*|[ab*?]{1,4}", 1..5),
        path in "[ab]{0,3}(/[ab]{0,3}){0,4}",
    ) {
        let pattern = parts.join("/");
        prop_assume!(parts.iter().all(|part| part == "**" || !part.contains("**")));
        let mut text = String::from(r"(?s)\A");
        for (place, part) in parts.iter().enumerate() {
            let last = place + 1 == parts.len();
            match part.as_str() {
                "**" if last => text.push_str(".+"),
                "**" => text.push_str("(?:[^/]*/)*"),
                one => {
                    one.chars().for_each(|c| text.push_str(match c { '*' => "[^/]*", '?' => "[^/]", 'a' => "a", _ => "b" }));
                    if !last { text.push('/'); }
                }
            }
        }
        let regex = regex_lite::Regex::new(&(text + r"\z")).unwrap();
        // Paths of git have no empty segments.
        let real = path.split('/').all(|part| !part.is_empty());
        prop_assume!(real);
        prop_assert_eq!(glob(&pattern).matches(&path), regex.is_match(&path), "{} on {}", pattern, path);
    }
}

#[test]
fn the_strongest_effect_wins_and_what_is_uncovered_is_evaluated() {
    let config = good(
        r#"{"jobs": {"a": {"file": "x.nix"}}, "change_set": [
            {"paths": ["**/*.md", "doc/**"], "effect": "docs-only"},
            {"paths": [".github/**", ".ekaci/**"], "effect": "no-op"},
            {"paths": ["src/**"], "effect": "rebuild-only"},
            {"paths": ["flake.lock"], "effect": "rebuild-all"},
            {"paths": ["doc/build.nix"], "effect": "evaluate"}]}"#,
    );
    for (changed, effect) in [
        (&["README.md"][..], Effect::DocsOnly),
        (&[".github/a.yml"], Effect::NoOp),
        (&[".github/a.yml", "doc/a"], Effect::DocsOnly),
        (&["src/a.c", "README.md"], Effect::RebuildOnly),
        // Two rules for one path.
        (&["doc/build.nix"], Effect::Evaluate),
        (&["src/README.md"], Effect::RebuildOnly),
        (&["default.nix"], Effect::Evaluate),
        (&["README.md", "default.nix"], Effect::Evaluate),
        (&["default.nix", "flake.lock"], Effect::RebuildAll),
        // Never passed over, whatever a rule says.
        (&[".ekaci/config.json"], Effect::Evaluate),
        (&[".ekaci/other.json"], Effect::NoOp),
        (&[], Effect::Evaluate),
    ] {
        assert_eq!(config.effect_of(changed.iter().copied()), effect, "{changed:?}");
    }
    let none = good(r#"{"jobs": {"a": {"file": "x.nix"}}}"#);
    assert_eq!(none.effect_of(["README.md"]), Effect::Evaluate);
}

#[test]
fn a_change_is_skipped_when_all_of_it_is_covered() {
    let skip_paths = ["doc/**", "**/CHANGELOG.md"].map(glob);
    for (changed, skipped) in [
        (&["doc/a", "x/CHANGELOG.md"][..], true),
        (&["doc/a", "default.nix"], false),
        (&["default.nix"], false),
        (&[], false),
    ] {
        assert_eq!(is_skipped(&skip_paths, changed.iter().copied()), skipped, "{changed:?}");
    }
    assert!(!is_skipped(&[], ["doc/a"]));
    assert!(!is_skipped(&[glob("**")], ["doc/a", ".eka-ci/config.json"]));
}
