//! One section: values with their lines, and the report of what is wrong with them.

use std::path::Path;
use std::time::Duration;

use service_kit::config::{Document, Located, Problem, Report, Section};

/// Reads `[queue]` of this text by `take`.
fn read<T>(text: &str, take: impl FnOnce(&Section) -> T) -> (T, Result<Vec<Problem>, Report>) {
    let doc = Document::parse(Path::new("f"), text).unwrap();
    let section = doc.section("queue");
    let taken = take(&section);
    section.finish();
    (taken, doc.finish(&["queue"], &[]))
}

/// The report of reading `[queue]` with this one line in it.
fn refused<T>(line: &str, take: impl FnOnce(&Section) -> Option<T>) -> String {
    let (taken, end) = read(&format!("[queue]\n{line}\n"), take);
    assert!(taken.is_none(), "{line} gave a value");
    end.unwrap_err().to_string()
}

#[test]
fn values_come_typed_and_with_their_lines() {
    let text = r#"[queue]
socket = "/run/q.sock"
sign_store = true
quota = 0x10
stop = "30s"
nar = "5G"
plain = 4096
rate = "1MiB/s"
one = "a*"
two = ["a", "b"]
keys = ["/k1", "/k2"]
backoff.min = "1s"
mode = "full"
"#;
    let ((), end) = read(text, |q| {
        assert_eq!(q.path("socket").unwrap(), Located { value: "/run/q.sock".into(), line: 2 });
        assert_eq!(q.bool("sign_store").unwrap(), Located { value: true, line: 3 });
        assert_eq!(q.u64("quota", 1..=20).unwrap(), Located { value: 16, line: 4 });
        assert_eq!(q.duration("stop").unwrap(), Located { value: Duration::from_secs(30), line: 5 });
        assert_eq!(q.size("nar").unwrap(), Located { value: 5 << 30, line: 6 });
        assert_eq!(q.size("plain").unwrap().value, 4096);
        assert_eq!(q.rate("rate").unwrap().value, 1 << 20);
        assert_eq!(q.string_or_list("one").unwrap().value[0].value, "a*");
        assert_eq!(q.string_or_list("two").unwrap().value.len(), 2);
        assert_eq!(q.paths("keys").unwrap().value[1].value, Path::new("/k2"));
        let backoff = q.table("backoff").unwrap();
        assert_eq!(backoff.duration("min").unwrap().line, 12);
        backoff.finish();
        assert_eq!(q.choice("mode", &[("full", 1), ("off", 2)]).unwrap().value, 1);
        assert!(q.string("absent").is_none());
        assert!(q.table("absent_table").is_none());
    });
    assert_eq!(end.unwrap(), []);
}

#[test]
fn a_wrong_type_says_what_was_found() {
    assert_eq!(
        refused("x = 5", |q| q.string("x")),
        "f:2: [queue] x: must be a string, found an integer; put it in quotes"
    );
    assert_eq!(
        refused("x = \"true\"", |q| q.bool("x")),
        "f:2: [queue] x: must be a boolean, found a string; write true or false without quotes"
    );
    assert_eq!(
        refused("x = 1.5", |q| q.u64("x", 1..=9)),
        "f:2: [queue] x: must be an integer, found a float; give one from 1 to 9"
    );
    assert_eq!(
        refused("x = [\"a\",\n2026-01-31]", |q| q.strings("x")),
        "f:3: [queue] x: must be strings only, found a date or time; put each in quotes"
    );
    assert_eq!(
        refused("x = \"a\"", |q| q.table("x").map(Section::finish)),
        "f:2: [queue] x: must be a table, found a string; write it in braces"
    );
    assert_eq!(
        refused("x = {}", |q| q.string_or_list("x")),
        "f:2: [queue] x: must be a string or an array of strings, found a table; put it in quotes"
    );
}

#[test]
fn a_value_out_of_bounds_says_the_bounds() {
    for value in ["0", "10", "-1", "99999999999999999999"] {
        assert_eq!(
            refused(&format!("x = {value}"), |q| q.u64("x", 1..=9)),
            "f:2: [queue] x: is out of bounds; give one from 1 to 9"
        );
    }
    let unit =
        "f:2: [queue] x: has no unit that is known here; write \"250ms\", \"30s\", \"10m\", \"2h\" or \"7d\"";
    assert_eq!(refused("x = 30", |q| q.duration("x")), unit);
    assert!(
        refused("x = \"10 MB\"", |q| q.size("x"))
            .contains("is not a whole number with a unit; write \"10MiB\"")
    );
    let words = refused("x = \"ful\"", |q| q.choice("x", &[("full", 1), ("off", 2)]));
    assert_eq!(words, "f:2: [queue] x: is none of the known words; write \"full\" or \"off\"");
}

#[test]
fn a_path_is_absolute_and_nothing_is_expanded() {
    let shown = |value: &str| refused(&format!("x = {value}"), |q| q.path("x"));
    assert_eq!(shown("\"state\""), "f:2: [queue] x: is not an absolute path; begin it with /");
    assert!(shown("\"~/state\"").ends_with("write the home folder out: ~ is not expanded"));
    assert!(shown("\"$HOME/state\"").ends_with("write the folder out: variables are not expanded"));
    assert!(shown("\"\"").ends_with("begin it with /"));
    assert!(shown("\"/a\\u0000b\"").contains("is not an absolute path"));
    assert!(refused("x = [\"/a\", \"b\"]", |q| q.paths("x")).contains("is not an absolute path"));
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_lines() {
    let text = "[queue]\nsokcet = \"/x\"\nquota = \"many\"\nbackoff = { mni = \"1s\" }\nlater = 1\n";
    let ((), end) = read(text, |q| {
        q.unsupported("later", "it comes with the server");
        q.u64("quota", 0..=9);
        let backoff = q.table("backoff").unwrap();
        backoff.duration("min");
        backoff.finish();
        q.path("socket");
        q.missing("socket", "name the socket");
        q.missing("quota", "give it a number");
    });
    assert_eq!(
        end.unwrap_err().to_string(),
        "f:1: [queue] socket: is missing; name the socket\n\
         f:2: [queue] sokcet: unknown key; did you mean socket?\n\
         f:3: [queue] quota: must be an integer, found a string; give one from 0 to 9\n\
         f:4: [queue.backoff] mni: unknown key; did you mean min?\n\
         f:5: [queue] later: is not served by this version: it comes with the server; remove it"
    );
}

#[test]
fn warnings_do_not_refuse_the_file() {
    let ((), end) = read("[queue]\nx = 1\n", |q| {
        let x = q.u64("x", 0..=9).unwrap();
        q.warn("x", Some(x.line), "does nothing", "remove it");
        q.missing("x", "never said: x is there");
    });
    let warnings = end.unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].in_file(Path::new("f")), "f:2: [queue] x: does nothing; remove it");
}

#[test]
fn a_report_never_repeats_a_value_and_stays_on_its_lines() {
    let canary = "c2VjcmV0LWNhbmFyeQ";
    let keys = [
        "path",
        "bool",
        "u64",
        "duration",
        "size",
        "rate",
        "strings",
        "paths",
        "choice",
        "table",
        "nobody_knows",
    ];
    let lines: String = keys.iter().map(|key| format!("{key} = \"{canary}\"\n")).collect();
    let ((), end) = read(&format!("[queue]\n{lines}\"bro\\nken\" = 1\n"), |q| {
        q.path("path");
        q.bool("bool");
        q.u64("u64", 0..=1);
        q.duration("duration");
        q.size("size");
        q.rate("rate");
        q.strings("strings");
        q.paths("paths");
        q.choice("choice", &[("a", ())]);
        assert!(q.table("table").is_none());
    });
    let shown = end.unwrap_err().to_string();
    assert!(!shown.contains(canary), "{shown}");
    assert_eq!(shown.lines().count(), keys.len() + 1, "{shown}");
    let syntax = format!("[queue]\nkey = \"{canary}\nother = {canary}\n");
    let shown = Document::parse(Path::new("f"), &syntax).unwrap_err().to_string();
    assert!(!shown.contains(canary), "{shown}");
}
