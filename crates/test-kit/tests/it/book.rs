//! The book says what the code does. In: the pages of `docs/`, and the sources and snapshots they describe. Out: a
//! failure for each transition, configuration key, metric or link that only one side has. Leaves out whether the
//! sentences around them are true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between two texts, the first time.
fn between<'a>(text: &'a str, before: &str, behind: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("there is no {before}"));
    rest.split_once(behind).unwrap_or_else(|| panic!("there is no {behind}")).0
}

#[test]
fn the_states_page_has_every_transition() {
    let page = text("docs/states.md");
    let block = between(&page, "<!-- transitions -->", "<!-- /transitions -->");
    let printed: Vec<&str> = block.lines().filter(|line| line.contains(" -> ")).collect();
    let folder = "queue-daemon/src/snapshots";
    let name = "eka_queue__delivery__tests__the_table_of_transitions_is_the_documented_one.snap";
    let snapshot = text(&format!("{folder}/{name}"));
    let tested: Vec<&str> = snapshot.lines().filter(|line| line.contains(" -> ")).collect();
    assert!(tested.len() > 20, "the snapshot has the machine's table");
    assert_eq!(printed, tested, "left: docs/states.md, right: the machine's own table");
}

#[test]
fn the_operations_page_has_every_metric() {
    let source = text("queue-daemon/src/metrics.rs");
    let made = names(&source, "\"eka_queue_", "\"");
    let page = text("docs/operations.md");
    let printed = names(&page, "| `eka_queue_", "`");
    assert!(made.len() > 10, "the source names its metrics");
    assert_eq!(printed, made, "left: the table of docs/operations.md, right: queue-daemon/src/metrics.rs");
}

/// What follows each `before`, up to `end`.
fn names(text: &str, before: &str, end: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.split(end).next().unwrap_or_default().to_owned();
    text.split(before).skip(1).map(name).collect()
}

#[test]
fn the_operations_page_has_every_configuration_key() {
    let page = text("docs/operations.md");
    let page = between(&page, "\n## Configuration", "\n## Destinations");
    let mut keys = BTreeSet::new();
    keys.extend(keys_read_by(&text("queue-daemon/src/config.rs")));
    for entry in fs::read_dir(root().join("queue-daemon/src/config")).unwrap() {
        keys.extend(keys_read_by(&fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    for known in
        ["state_dir", "allowed_users", "backoff", "fod", "upload_logs", "cache_type", "bandwidth_limit"]
    {
        assert!(keys.contains(known), "the sources read `{known}`, and this test sees it: {keys:?}");
    }
    let printed = |key: &&String| page.contains(&format!("`{key}`")) || page.contains(&format!("{key} = "));
    let absent: Vec<&String> = keys.iter().filter(|key| !printed(key)).collect();
    assert!(absent.is_empty(), "keys that docs/operations.md does not have: {absent:?}");
}

/// The keys that a reader of sections asks for: `section.string("key")` and its like.
fn keys_read_by(source: &str) -> BTreeSet<String> {
    const READERS: [&str; 15] = [
        "string",
        "string_or_list",
        "text_or_table",
        "rate",
        "path",
        "paths",
        "bool",
        "u64",
        "duration",
        "size",
        "strings",
        "choice",
        "table",
        "unsupported",
        "texts",
    ];
    let code: String = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = code.replace("(&section, \"", "(\"").replace("( \"", "(\"");
    let mut keys = BTreeSet::new();
    let mut before = "";
    for part in code.split("(\"") {
        let reader = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let key = part.split('"').next().unwrap_or_default();
        if READERS.contains(&reader) {
            keys.insert(key.to_owned());
        }
        before = part;
    }
    keys
}

#[test]
fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
    let mut pages = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    let summary = text("docs/SUMMARY.md");
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            let listed = name == "SUMMARY.md" || summary.contains(&format!("({name})"));
            assert!(listed, "docs/SUMMARY.md does not list {name}");
            pages.push(format!("docs/{name}"));
        }
    }
    assert!(pages.len() > 8, "{pages:?}");
    for page in pages {
        let text = text(&page);
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in names(&text, "](", ")") {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(folder.join(file).exists(), "{page}: the link {link} leads nowhere");
        }
    }
}
