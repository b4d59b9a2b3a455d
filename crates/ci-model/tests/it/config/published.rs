//! What is published about configurations is what the code says: the schema, and the tables of the page for people.
//! `EKA_WRITE_PAGES=1` writes both anew.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use ci_model::config::keys::{Absent, From, Key, ROOT, Shape};
use ci_model::config::{BYTES_MAX, DEPTH_MAX, FINDINGS_MAX, RepositoryConfig, parse, schema};
use serde_json::Value;

use super::good::PRINTED;
use crate::fuzz::checks::satisfies;

fn docs(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)
}

/// Compares a file with what it should be, or writes it.
fn same(file: &str, expected: &str) {
    if std::env::var_os("EKA_WRITE_PAGES").is_some() {
        fs::write(docs(file), expected).unwrap();
    }
    let found = fs::read_to_string(docs(file)).unwrap();
    assert!(found == expected, "docs/{file} is not what the code says: run this test with EKA_WRITE_PAGES=1");
}

#[test]
fn the_schema() {
    same("schema/repository-config.json", &schema());
}

#[test]
fn good_files_satisfy_the_schema() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    for text in PRINTED.into_iter().filter(|text| text.starts_with('{')) {
        assert_eq!(satisfies(&schema, &serde_json::from_str(text).unwrap(), ""), Ok(()), "{text}");
    }
}

#[test]
fn bad_files_do_not() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    for (text, at) in [
        ("[]", ": "),
        (r#"{"job": {}}"#, ": no key job"),
        (r#"{"jobs": {"a": {}}}"#, ".jobs.a: required"),
        (r#"{"jobs": {"a": {"file": 1}}}"#, ".jobs.a.file: type"),
        (r#"{"jobs": {"a": {"file": "-x"}}}"#, ".jobs.a.file: pattern"),
        (r#"{"jobs": {"a": {"file": ""}}}"#, ".jobs.a.file: "),
        (r#"{"jobs": {"-a": {"file": "x"}}}"#, ".jobs.-a: pattern"),
        (r#"{"jobs": {"a": {"file": "x", "priority": 101}}}"#, ".jobs.a.priority: maximum"),
        (r#"{"jobs": {"a": {"file": "x", "priority": 1.5}}}"#, ".jobs.a.priority: type"),
        (r#"{"jobs": {"a": {"file": "x", "caches": ["b", "b"]}}}"#, ".jobs.a.caches: uniqueItems"),
        (r#"{"jobs": {"a": {"file": "x", "systems": []}}}"#, ".jobs.a.systems: minItems"),
        (r#"{"jobs": {"a": {"file": "x", "systems": ["a b"]}}}"#, ".jobs.a.systems[0]: pattern"),
        (r#"{"jobs": {"a": {"file": "x", "size_check": {"max_increase_percent": -1}}}}"#, "percent: minimum"),
        (
            r#"{"jobs": {"a": {"file": "x", "allow_eval_failures": true, "allow-eval-failures": true}}}"#,
            ".jobs.a: not",
        ),
        (r#"{"change_set": [{"paths": ["a"], "effect": "none"}]}"#, ".change_set[0].effect: enum"),
        (r#"{"post_build_hooks": [{"name": "a", "command": []}]}"#, ".post_build_hooks[0].command: minItems"),
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text}");
        let said = satisfies(&schema, &serde_json::from_str(text).unwrap(), "").expect_err(text);
        assert!(said.contains(at), "{text}: {said}");
    }
}

/// Every key of the table is one that the types take, keep, and give the default of.
#[test]
fn every_example_is_taken_and_every_default_is_the_types() {
    let chains = all(&ROOT, &[]);
    assert!(chains.len() > 80, "{}", chains.len());
    for chain in chains {
        let key = chain[chain.len() - 1];
        let path = chain.iter().map(|key| key.name).collect::<Vec<_>>().join(".");
        let read = |value: Option<&str>| -> RepositoryConfig {
            let document = document(&ROOT, &chain, value);
            // What names others is looked for among them by the parser alone.
            if key.name != "after" && path != "schedules.jobs" {
                let parsed = parse(document.to_string().as_bytes());
                return parsed.unwrap_or_else(|error| panic!("{document}\n{error}")).config;
            }
            serde_json::from_value(document).unwrap()
        };
        let [one, other] = key.examples;
        if !one.is_empty() {
            assert_eq!(read(Some(one)) == read(Some(other)), one == other, "{path}");
        }
        let optional = key.absent != Absent::Refused;
        assert!(!optional || one.is_empty() || read(Some(one)) != read(None), "{path}: the types drop it");
        if let Absent::Is(default) = key.absent {
            assert_eq!(read(Some(default)), read(None), "{path}");
        }
        if !optional {
            let refused = parse(document(&ROOT, &chain, None).to_string().as_bytes()).expect_err(&path);
            assert!(refused.to_string().contains(&format!("the key {} is missing", key.name)), "{refused}");
        }
    }
}

/// A configuration with this value at the end of a chain of keys, and on the way what has to be there.
fn document(shape: &Shape, chain: &[&Key], value: Option<&str>) -> Value {
    let (key, rest) = match (shape, chain) {
        (Shape::Named { each, .. }, _) => return serde_json::json!({ "name": document(each, chain, value) }),
        (Shape::List { of, .. }, _) => return serde_json::json!([document(of, chain, value)]),
        (_, [key, rest @ ..]) => (key, rest),
        (_, []) => panic!("{shape:?}"),
    };
    let Shape::Keys(keys) = shape else { panic!("{shape:?}") };
    let required = keys.iter().filter(|key| key.absent == Absent::Refused);
    let example = |key: &Key| (key.name.to_owned(), serde_json::from_str::<Value>(key.examples[0]).unwrap());
    let mut object: serde_json::Map<String, Value> = required.map(example).collect();
    match (rest, value) {
        ([], None) => _ = object.remove(key.name),
        ([], Some(value)) => _ = object.insert(key.name.to_owned(), serde_json::from_str(value).unwrap()),
        (rest, value) => _ = object.insert(key.name.to_owned(), document(&key.shape, rest, value)),
    }
    Value::Object(object)
}

/// Every key below a shape, as the chain of keys that leads to it.
fn all(shape: &'static Shape, chain: &[&'static Key]) -> Vec<Vec<&'static Key>> {
    match shape {
        Shape::Keys(keys) => keys
            .iter()
            .flat_map(|key| {
                let here = [chain, &[key]].concat();
                let below = all(&key.shape, &here);
                std::iter::once(here).chain(below)
            })
            .collect(),
        Shape::Named { each, .. } => all(each, chain),
        Shape::List { of, .. } => all(of, chain),
        Shape::Flag | Shape::Whole(..) | Shape::Decimal(..) | Shape::Text(_) | Shape::Word(_) => Vec::new(),
    }
}

#[test]
fn the_tables_of_the_page() {
    let page = fs::read_to_string(docs("repository-config.md")).unwrap();
    let (before, rest) = page.split_once("<!-- keys -->\n").expect("the page has tables");
    let (_, behind) = rest.split_once("<!-- /keys -->\n").expect("they end");
    same("repository-config.md", &format!("{before}<!-- keys -->\n{}<!-- /keys -->\n{behind}", tables()));
}

#[test]
fn what_the_page_says_is_so() {
    let page = fs::read_to_string(docs("repository-config.md")).unwrap();
    let blocks: Vec<&str> =
        page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 2, "the page has examples");
    for block in blocks {
        let parsed = parse(block.as_bytes()).unwrap_or_else(|error| panic!("{block}\n{error}"));
        assert_eq!(parsed.warnings, [], "{block}");
    }
    for bound in
        [format!("{} KiB", BYTES_MAX / 1024), format!("{DEPTH_MAX} levels"), format!("first {FINDINGS_MAX}")]
    {
        assert!(page.contains(&bound), "the page has {bound}");
    }
    let Shape::Keys(keys) = &ROOT else { panic!("a file is an object") };
    assert!(keys.iter().all(|key| page.contains(&format!("| `{}` |", key.name))));
}

/// Shapes that several keys share have one table.
fn tables() -> String {
    let mut page = String::new();
    table(&mut page, "The file", "", &ROOT);
    for (title, about, path) in [
        ("A job", "`jobs.NAME`", "jobs"),
        ("`size_check`", "`jobs.NAME.size_check`", "jobs.size_check"),
        ("A hook", "One of the list `post_build_hooks` or `fod_post_build_hooks`", "post_build_hooks"),
        ("Conditions of a hook", "`conditions` of a hook", "post_build_hooks.conditions"),
        ("A check", "`checks.NAME`", "checks"),
        ("An output of the flake", "`flake.checks` and `flake.packages`", "flake.packages"),
        ("A rule of changes", "One of the list `change_set`", "change_set"),
        ("A schedule", "`schedules.NAME`", "schedules"),
        ("The list of packages", "`package_change_summary`", "package_change_summary"),
        ("Counts of rebuilds", "`rebuild_impact`", "rebuild_impact"),
    ] {
        table(&mut page, title, about, shape_at(path));
    }
    page
}

/// The object that a path of keys leads to, whatever lists and names are on the way.
fn shape_at(path: &str) -> &'static Shape {
    path.split('.').fold(&ROOT, |shape, name| {
        let Shape::Keys(keys) = object(shape) else { panic!("{path}") };
        &keys.iter().find(|key| key.name == name).unwrap_or_else(|| panic!("{path}: {name}")).shape
    })
}

fn object(shape: &'static Shape) -> &'static Shape {
    match shape {
        Shape::Named { each, .. } => object(each),
        Shape::List { of, .. } => object(of),
        other => other,
    }
}

fn table(page: &mut String, title: &str, about: &str, shape: &'static Shape) {
    let Shape::Keys(keys) = object(shape) else { panic!("{title} has no keys") };
    writeln!(page, "\n### {title}\n").unwrap();
    if !about.is_empty() {
        writeln!(page, "{about}.\n").unwrap();
    }
    writeln!(page, "| key | value | without it | in a pull request | what |\n|---|---|---|---|---|").unwrap();
    for key in *keys {
        let name = match key.alias {
            None => format!("`{}`", key.name),
            Some(alias) => format!("`{}`, `{alias}`", key.name),
        };
        let absent = match key.absent {
            Absent::Refused => "refused".to_owned(),
            Absent::Is(value) => format!("`{value}`"),
            Absent::Means(words) => words.to_owned(),
        };
        let about = format!("{} {}", key.about, example(key));
        let row = [name, value(&key.shape), absent, side(key.from).to_owned(), about.trim().to_owned()];
        let row = row.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
}

fn example(key: &Key) -> String {
    match key.shape {
        Shape::Flag | Shape::Whole(..) | Shape::Word(_) => String::new(),
        _ if key.examples[0].is_empty() => String::new(),
        _ => format!("Such as `{}`.", key.examples[0]),
    }
}

fn side(from: From) -> &'static str {
    match from {
        From::Base => "base",
        From::Head => "head",
        From::Either => "either",
        From::Within => "by key",
        From::Whole | From::Nobody => "",
    }
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Keys(_) => "object".to_owned(),
        Shape::Named { name, each, max } => {
            format!("object: {} → {}; at most {max}", bare(name.what), value(each))
        }
        Shape::List { of, min, max, .. } => {
            let least = if *min == 0 { "at most ".to_owned() } else { format!("{min} to ") };
            format!("list of {least}{max}: {}", value(of))
        }
        Shape::Flag => "`true`, `false`".to_owned(),
        Shape::Whole(from, to) => format!("whole number, {from} to {to}"),
        Shape::Decimal(from, to) => format!("number, {from} to {to}"),
        Shape::Text(kind) => format!("{}, at most {} bytes", bare(kind.what), kind.bytes_max),
        Shape::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    }
}

/// Without its article.
fn bare(what: &str) -> &str {
    what.strip_prefix("a ").or_else(|| what.strip_prefix("an ")).unwrap_or(what)
}
