//! Patterns over the names of repositories and branches; configurations of repositories.

use std::sync::LazyLock;

use ci_model::config::{BYTES_MAX, FINDINGS_MAX, Finding, RepositoryConfig, effective, parse};
use ci_model::flow::Trust;
use ci_model::pattern::NAME_MAX;
use ci_model::{BranchPattern, RepositoryPattern};
use serde_json::Value;

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

/// The published schema.
static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&ci_model::config::schema()).expect("the schema is JSON"));

/// A configuration that is taken is JSON to another reader too, with the same values; it satisfies the schema; stored and
/// read back it is the same; as its own base it loses nothing. Whatever is wrong with another one, its findings are in
/// order, bounded, of one line each, and inside the file.
pub fn repository_config(bytes: &[u8]) {
    let refused = match parse(bytes) {
        Err(refused) => refused,
        Ok(parsed) => {
            placed(bytes, &parsed.warnings);
            taken(bytes, &parsed.config);
            return;
        }
    };
    assert!(!refused.problems.is_empty() && refused.problems.len() <= FINDINGS_MAX);
    assert!(refused.more == 0 || refused.problems.len() == FINDINGS_MAX);
    placed(bytes, &refused.problems);
    placed(bytes, &refused.warnings);
    // Both, for either may be words of the file.
    let contradicts = |finding: &Finding| {
        finding.what.starts_with("this program contradicts itself")
            && finding.remedy == "report it, with the file"
    };
    assert!(!refused.problems.iter().any(contradicts), "the table and the types differ: {refused}");
    if serde_json::from_slice::<Value>(bytes).is_ok() {
        // What is JSON to another reader is JSON here too: faults that name no key are these.
        let ours = ["is there already, at", "are within each other", "an object is expected", "the file has"];
        let stranger = refused
            .problems
            .iter()
            .find(|finding| finding.key.is_empty() && !ours.iter().any(|what| finding.what.contains(what)));
        assert_eq!(stranger, None);
    }
}

fn taken(bytes: &[u8], config: &RepositoryConfig) {
    let text = std::str::from_utf8(bytes).expect("what is taken is UTF-8");
    let mut text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    while let Some(comment) = text.strip_prefix("//") {
        text = comment.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    let value: Value = serde_json::from_str(text).expect("what is taken is JSON");
    assert_eq!(satisfies(&SCHEMA, &value, ""), Ok(()));
    // What keys mean is left to the types, which read the other reader's values.
    let read: RepositoryConfig = serde_json::from_value(value).expect("the types take it");
    assert_eq!(&read, config);
    let stored = serde_json::to_vec(config).expect("a configuration can be stored");
    assert!(serde_json::from_slice::<RepositoryConfig>(&stored).is_ok_and(|again| &again == config));
    if stored.len() <= BYTES_MAX {
        let again = parse(&stored).unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(&again.config, config);
    }
    for trust in [Trust::TrustedPush, Trust::ApprovedPr, Trust::UntrustedPr] {
        let effective = effective(Some(config), config, trust);
        assert_eq!(effective.config.all_jobs(), config.all_jobs());
        assert!(effective.notices.is_empty(), "{:?}", effective.notices);
    }
}

fn placed(bytes: &[u8], findings: &[Finding]) {
    let lines = bytes.split(|c| *c == b'\n').count();
    assert!(findings.is_sorted_by_key(|finding| (finding.line, finding.column)));
    for finding in findings {
        assert!((1..=lines).contains(&finding.line), "{finding} of {lines} lines");
        let line = bytes.split(|c| *c == b'\n').nth(finding.line - 1).expect("there is such a line");
        assert!((1..=line.len() + 1).contains(&finding.column), "{finding}");
        let said = finding.to_string();
        assert!(said.len() < 5000 && !said.contains(char::is_control), "{said:?}");
    }
}

/// Does a value satisfy a schema? Knows what ours is made of, and no more.
///
/// # Errors
/// Where it does not, and which keyword says so.
///
/// # Panics
/// When the schema has a keyword that is not known here.
pub fn satisfies(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let schema = schema.as_object().expect("a schema is an object");
    for (keyword, wanted) in schema {
        if !holds(schema, keyword, wanted, value, path)? {
            return Err(format!("{path}: {keyword}"));
        }
    }
    Ok(())
}

type Schema = serde_json::Map<String, Value>;

fn holds(schema: &Schema, keyword: &str, wanted: &Value, value: &Value, path: &str) -> Result<bool, String> {
    let least = |found: usize| wanted.as_u64().is_some_and(|wanted| found as u64 >= wanted);
    let most = |found: usize| wanted.as_u64().is_some_and(|wanted| found as u64 <= wanted);
    let number = wanted.as_f64().unwrap_or(f64::NAN);
    Ok(match (keyword, value) {
        ("$schema" | "title" | "description" | "default" | "examples", _) => true,
        ("type", _) => match wanted.as_str().expect("one type") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("type {other}"),
        },
        ("enum", _) => wanted.as_array().is_some_and(|words| words.contains(value)),
        ("not", _) => satisfies(wanted, value, path).is_err(),
        ("minimum", Value::Number(found)) => found.as_f64().is_some_and(|found| found >= number),
        ("maximum", Value::Number(found)) => found.as_f64().is_some_and(|found| found <= number),
        ("minLength", Value::String(text)) => least(text.chars().count()),
        ("maxLength", Value::String(text)) => most(text.chars().count()),
        ("pattern", Value::String(text)) => {
            regex_lite::Regex::new(wanted.as_str().expect("a text")).expect("a pattern").is_match(text)
        }
        ("minItems", Value::Array(items)) => least(items.len()),
        ("maxItems", Value::Array(items)) => most(items.len()),
        ("uniqueItems", Value::Array(items)) => {
            wanted == false || (1..items.len()).all(|place| !items[..place].contains(&items[place]))
        }
        ("items", Value::Array(items)) => {
            for (place, item) in items.iter().enumerate() {
                satisfies(wanted, item, &format!("{path}[{place}]"))?;
            }
            true
        }
        ("required", Value::Object(object)) => wanted
            .as_array()
            .expect("a list")
            .iter()
            .all(|key| object.contains_key(key.as_str().expect("a key"))),
        ("maxProperties", Value::Object(object)) => most(object.len()),
        ("propertyNames", Value::Object(object)) => {
            for key in object.keys() {
                satisfies(wanted, &Value::String(key.clone()), &format!("{path}.{key}"))?;
            }
            true
        }
        ("properties", Value::Object(object)) => {
            for (key, value) in object {
                let of_key = wanted.get(key).map(|of_key| satisfies(of_key, value, &format!("{path}.{key}")));
                of_key.unwrap_or(Ok(()))?;
            }
            true
        }
        ("additionalProperties", Value::Object(object)) => {
            let known = |key: &str| schema.get("properties").is_some_and(|keys| keys.get(key).is_some());
            for (key, value) in object.iter().filter(|(key, _)| !known(key)) {
                match wanted {
                    Value::Bool(allowed) if !allowed => return Err(format!("{path}: no key {key}")),
                    _ => satisfies(wanted, value, &format!("{path}.{key}"))?,
                }
            }
            true
        }
        (
            "minimum"
            | "maximum"
            | "minLength"
            | "maxLength"
            | "pattern"
            | "minItems"
            | "maxItems"
            | "uniqueItems"
            | "items"
            | "required"
            | "maxProperties"
            | "propertyNames"
            | "properties"
            | "additionalProperties",
            _,
        ) => true,
        (other, _) => panic!("the schema has {other}, which this does not know"),
    })
}
