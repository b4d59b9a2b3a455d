//! Patterns over the names of repositories and branches.

use ci_model::pattern::NAME_MAX;
use ci_model::{BranchPattern, RepositoryPattern};

/// A pattern in the first line, a name in the rest: whether they match is what the same pattern as a regular expression
/// says, and no name matches that is none or where a pattern says that it matches nothing.
pub fn name_pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (pattern, name) = text.split_once('\n').unwrap_or((&text, "release/1"));
    let (Ok(branch), Ok(repository)) = (BranchPattern::parse(pattern), RepositoryPattern::parse(pattern))
    else {
        return;
    };
    assert_eq!((branch.as_str(), repository.as_str()), (pattern, pattern));
    let expected = is_name(name) && as_regex(pattern, false).is_match(name);
    assert_eq!(branch.matches(name), expected, "branch: {pattern:?} on {name:?}");
    assert!(!expected || name.starts_with("refs/") || branch.matches_nothing().is_none(), "{pattern:?}");
    // Expressions know more letters that differ in case alone than the patterns fold.
    if text.is_ascii() {
        let expected = is_name(name) && name.contains('/') && as_regex(pattern, true).is_match(name);
        assert_eq!(repository.matches(name), expected, "repository: {pattern:?} on {name:?}");
        assert!(!expected || repository.matches_nothing().is_none(), "{pattern:?}");
    }
}

/// What can be the name of something, said another way than the crate says it.
fn is_name(name: &str) -> bool {
    let none = [" ", "~", "^", ":", "?", "[", "\\", "*", "//", "/./", "/../"];
    let framed = format!("/{name}/");
    name.len() <= NAME_MAX
        && none.iter().all(|bad| !framed.contains(bad))
        && !name.chars().any(char::is_control)
}

/// A pattern as a regular expression, made another way than the matcher makes its steps.
pub fn as_regex(pattern: &str, any_case: bool) -> regex_lite::Regex {
    let mut text = String::from(if any_case { r"(?is)\A" } else { r"(?s)\A" });
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let run = chars[at..].iter().take_while(|c| **c == '*').count();
        let (first, last) = (at == 0, at + run == chars.len());
        match run {
            0 => text.push_str(&regex_lite::escape(&chars[at].to_string())),
            1 if first && last => text.push_str(".+"),
            1 if first && chars[1] == '/' => text.push_str(".+"),
            1 if last && chars[at - 1] == '/' => text.push_str(".+"),
            1 => text.push_str("[^/]*"),
            _ => text.push_str(".*"),
        }
        at += run.max(1);
    }
    regex_lite::Regex::new(&(text + r"\z")).expect("the translation is an expression")
}
