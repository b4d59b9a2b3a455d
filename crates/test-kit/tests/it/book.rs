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

/// Markdown files below a folder, by their paths in the repository.
fn pages_below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(pages_below(&path));
        } else if path.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// What a heading is called in a link, as mdbook and GitHub do it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// A page without its fenced blocks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let mut keep = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    };
    page.lines().filter(|line| keep(line)).flat_map(|line| [line, "\n"]).collect()
}

fn anchors(page: &str) -> BTreeSet<String> {
    let heading = |line: &str| line.starts_with('#').then(|| anchor(line.trim_start_matches('#')));
    prose(page).lines().filter_map(heading).collect()
}

#[test]
fn every_page_is_in_the_book_and_every_link_leads_somewhere() {
    let summary = text("docs/SUMMARY.md");
    let mut pages = pages_below("docs");
    assert!(pages.len() > 16, "{pages:?}");
    for page in pages.iter().filter(|page| *page != "docs/SUMMARY.md") {
        let name = page.trim_start_matches("docs/");
        assert!(summary.contains(&format!("({name})")), "docs/SUMMARY.md does not list {name}");
    }
    pages.extend(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    for page in pages {
        let text = text(&page);
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in names(&prose(&text), "](", ")") {
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            if file.contains("://") {
                continue;
            }
            let there = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            assert!(there.exists(), "{page}: the link {link} leads nowhere");
            let known = part.is_empty() || anchors(&fs::read_to_string(&there).unwrap()).contains(part);
            assert!(known, "{page}: the link {link} leads to no heading");
        }
    }
}

#[test]
fn headings_are_linked_to_as_readers_of_the_book_do() {
    let page = "# A `[[x]]` in *five* steps\n```sh\n# no\n```\n## What it's for: a, b\n";
    let expected = ["a-x-in-five-steps", "what-its-for-a-b"];
    assert_eq!(anchors(page), expected.map(str::to_owned).into());
    assert!(!prose(page).contains("no"));
}

/// Rust files below a folder, all their text.
fn sources_below(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources_below(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn the_tests_that_the_security_page_names_exist() {
    let page = text("docs/security.md");
    let table = between(&page, "| threat | test |", "\n\n");
    let folders = [
        "queue-daemon/tests",
        "crates/object-kit/tests",
        "crates/sqlite-kit/tests",
        "ci-server/tests",
        "ci-server/src",
        "cli/tests",
    ];
    let tests: String = folders.map(|folder| sources_below(&root().join(folder))).concat();
    let rows: Vec<&str> = table.lines().filter(|line| line.contains('`')).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for name in rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2)) {
        assert!(tests.contains(&format!("fn {name}()")), "docs/security.md: there is no test {name}");
    }
}
