//! What docs/operations.md says is so: every metric with its labels, the exit codes, the lines of the log, and that the
//! messages it has remedies for are still said. `monitoring` does the same for the dashboard and the alert rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use eka_queue::cli;
use test_kit::wait;

use crate::world::{SOON, World};

mod monitoring;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn page() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// What stands under a heading, up to the next one of its rank or above.
fn section<'p>(page: &'p str, heading: &str) -> &'p str {
    let begin = page.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &page[begin + 1..];
    rest.find("\n## ").map_or(rest, |end| &rest[..end])
}

/// The cells of the tables in a text, without their heads.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        if line.starts_with("|---") {
            rows.pop(); // the head
        } else {
            rows.push(line.trim_matches('|').split('|').map(str::trim).collect());
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The metrics that are documented, with their labels.
pub(crate) fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = page();
    let rows = rows(section(&page, "Metrics"));
    let metric = |row: &Vec<&str>| {
        let labels = quoted(row[1]).into_iter().map(str::to_owned).collect();
        (quoted(row[0])[0].to_owned(), labels)
    };
    rows.iter().map(metric).collect()
}

/// A machine on which everything that is counted by a label has happened once.
fn eventful(log: &[&str]) -> World {
    let picky =
        World::command_cache("picky", "case $OUT_PATHS in *-p1*) echo no room for it; exit 65;; esac", "");
    let away = World::command_cache(
        "away",
        "[ -e $W/back ] || exit 69",
        "breaker = { failures = 1, probe = \"1s\" }\nbackoff = { min = \"1s\", max = \"1s\" }",
    );
    let main = "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"file://$W/cache\"\nexclude = [\"p2\"]\n";
    let mut world = World::new(&[main, &picky, &away].concat());
    let paths = world.valid_paths(3);
    world.start_with(|command| {
        command.args(log);
    });
    for path in &paths {
        assert_eq!(world.ask(&["push", path]).code, 0);
    }
    world.until("picky", "dead", 1);
    wait::until(SOON, || world.log().contains("will retry"));
    fs::write(world.path("back"), "").unwrap();
    for (id, count) in [("main", 2), ("picky", 2), ("away", 3)] {
        world.until(id, "done", count);
    }
    let backup = world.path("backup.db");
    assert_eq!(world.ask(&["backup", backup.to_str().unwrap()]).code, 0);
    world
}

/// The metrics a daemon serves, with their labels.
fn served(world: &World) -> BTreeMap<String, BTreeSet<String>> {
    let mut stream = UnixStream::connect(world.path("control.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.split_once("\r\n\r\n").unwrap().1.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            name = typed.split(' ').next().unwrap().to_owned();
            metrics.entry(name.clone()).or_default();
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels =
                labels.split("\",").filter_map(|label| label.split_once('=')).map(|(label, _)| label);
            let labels = labels.filter(|label| *label != "le").map(str::to_owned);
            metrics.get_mut(&name).unwrap().extend(labels);
        }
    }
    metrics
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_served() {
    assert_eq!(served(&eventful(&[])), documented());
}

#[test]
fn the_exit_codes_are_those_of_the_programs() {
    let page = page();
    let mut codes = BTreeMap::from([("eka-queue", BTreeSet::new()), ("eka-hook", BTreeSet::new())]);
    let (queue, hook) = section(&page, "Exit codes").split_once("`eka-hook` exits").unwrap();
    for (program, text) in [("eka-queue", queue), ("eka-hook", hook)] {
        for row in rows(text) {
            let numbers = row[0].split(", ").map(|code| code.parse::<u8>().unwrap());
            codes.get_mut(program).unwrap().extend(numbers);
        }
    }
    let ours = [
        cli::EXIT_OK,
        cli::EXIT_BAD,
        cli::EXIT_TIME_OUT,
        cli::EXIT_NOT_FOUND,
        cli::EXIT_USAGE,
        cli::EXIT_UNAVAILABLE,
        cli::EXIT_SOFTWARE,
        cli::EXIT_CONFIG,
        130,
        143,
    ];
    assert_eq!(codes["eka-queue"], BTreeSet::from(ours));
    // All there are, as far as the source says so by its names.
    let source = fs::read_to_string(root().join("queue-daemon/src/cli.rs")).unwrap();
    let named = source.lines().filter_map(|line| line.strip_prefix("pub const EXIT_"));
    let named: BTreeSet<u8> =
        named.map(|line| line.rsplit(' ').next().unwrap().trim_end_matches(';').parse().unwrap()).collect();
    assert!(named.is_subset(&codes["eka-queue"]) && named.len() == ours.len() - 2, "{named:?}");
    let source = fs::read_to_string(root().join("hook-client/src/run.rs")).unwrap();
    let code = source.split_once("const fn code(self").unwrap().1;
    let code = &code[..code.find("\n    }\n").unwrap()];
    let hook: BTreeSet<u8> = code
        .lines()
        .filter_map(|line| line.split_once("=> "))
        .filter_map(|(_, code)| code.trim_end_matches(',').parse().ok())
        .collect();
    assert_eq!(codes["eka-hook"], hook);
}

/// The code and its literals in one line each, without tests, and with nothing where a value is put in.
fn sources() -> String {
    let mut all = String::new();
    for folder in ["hook-client/src", "queue-daemon/src", "crates"] {
        gather(&root().join(folder), &mut all);
    }
    // A literal goes on in the next line behind a backslash.
    let mut text = String::with_capacity(all.len());
    let mut rest = all.as_str();
    while let Some(at) = rest.find("\\\n") {
        text.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start();
    }
    text.push_str(rest);
    text
}

fn gather(folder: &Path, all: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_str().unwrap();
        if entry.is_dir() && !["tests", "test-kit", "target"].contains(&name) {
            gather(&entry, all);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&entry).unwrap();
            all.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn every_message_with_a_remedy_is_one_that_is_said() {
    let (page, sources) = (page(), sources());
    let rows = rows(section(&page, "Error messages and remedies"));
    assert!(rows.len() > 50, "{}", rows.len());
    for row in rows {
        let message = row[0].strip_prefix('`').and_then(|text| text.strip_suffix('`'));
        let message = message.unwrap_or_else(|| panic!("no message in {row:?}"));
        let pieces: Vec<&str> = message.split('…').map(str::trim).filter(|piece| !piece.is_empty()).collect();
        assert!(pieces.iter().any(|piece| piece.len() >= 10), "{message} says too little to be found");
        for piece in pieces.iter().map(|piece| piece.trim_start_matches([',', ';', ':', '.', ' '])) {
            assert!(sources.contains(piece), "`{message}`: nothing says `{piece}`");
        }
        assert!(row.len() == 3 && !row[2].is_empty(), "{row:?}");
    }
}

/// The lines of the code block behind a mark.
fn example<'p>(page: &'p str, mark: &str) -> Vec<&'p str> {
    let block = page.split_once(&format!("<!-- log {mark} -->")).unwrap().1;
    block
        .lines()
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .collect()
}

/// Whether a line is the example, with anything where it has a `…`.
fn is_like(line: &str, example: &str) -> bool {
    let mut pieces = example.split('…');
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap()) else { return false };
    let mut last = "";
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = piece;
    }
    rest.is_empty() || (last.is_empty() && example.ends_with('…'))
}

#[test]
fn the_lines_of_the_log_are_printed_so() {
    for (mark, log) in [("text", [].as_slice()), ("json", ["--log-format", "json"].as_slice())] {
        let mut world = eventful(log);
        assert_eq!(world.stop(), 0);
        let (page, log) = (page(), world.log());
        let examples = example(&page, mark);
        assert!(examples.len() >= 2, "{mark}");
        for example in examples {
            let wanted = example.replace("0.1.0", env!("CARGO_PKG_VERSION"));
            assert!(log.lines().any(|line| is_like(line, &wanted)), "nothing like\n{wanted}\nin\n{log}");
        }
    }
}
