//! What `nix-eval-jobs` prints comes in, line by line; jobs and errors go out. All releases are understood: what one of
//! them does not say is left open, and what it says beside is left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ci_model::attr::{Attr, AttrError, ErrorKind};
use nix_store::process::LINE_BYTES_MAX;
use nix_types::AttrPath;
use serde::Deserialize;
use serde_json::Value;

use crate::evaluate::message;
use crate::evaluate::record::{self, Parts};

/// Longest row, in bytes: some releases list all inputs of a job.
const ROW_BYTES_MAX: usize = 4 << 20;

/// Most lines that make a row: a longer line than one may be is cut. Each piece has the row read from its beginning.
const PIECES_MAX: usize = ROW_BYTES_MAX / LINE_BYTES_MAX + 1;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Row {
    Job(Box<Attr>),
    Error(Box<AttrError>),
    /// What it could not evaluate for want of something that a pass that writes nothing did not write.
    Unwritten(AttrPath),
    /// The older releases call a `recurseForDerivations = true` an error.
    NoJob,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    attr: Option<String>,
    attr_path: Option<Vec<String>>,
    error: Option<String>,
    name: Option<String>,
    system: Option<String>,
    drv_path: Option<String>,
    outputs: Option<BTreeMap<String, Option<String>>>,
    #[serde(default)]
    meta: Value,
}

/// Puts rows together from lines, which may be pieces of rows.
pub(super) struct Reader {
    checkout: PathBuf,
    /// The store's folder, and whether it may be built in between, where it writes nothing.
    reads: Option<(String, bool)>,
    partial: String,
    pieces: usize,
    root_failed: bool,
    garbage: bool,
}

impl Reader {
    pub(super) fn new(checkout: &Path, reads: Option<(String, bool)>) -> Self {
        let checkout = checkout.into();
        Self { checkout, reads, partial: String::new(), pieces: 0, root_failed: false, garbage: false }
    }

    /// Did it say that there is nothing to look at, and why?
    pub(super) fn root_failed(&self) -> bool {
        self.root_failed
    }

    /// Was all that it said understood?
    pub(super) fn is_whole(&self) -> bool {
        self.partial.is_empty() && !self.garbage
    }

    /// The rows that a line completes.
    pub(super) fn push(&mut self, line: &str) -> Vec<Row> {
        if let Ok(row) = serde_json::from_str::<Line>(line) {
            self.garbage |= !self.partial.is_empty();
            self.clear();
            return vec![self.row(row)];
        }
        if self.partial.is_empty() && !line.starts_with('{') {
            self.garbage |= !line.trim().is_empty();
            return Vec::new();
        }
        self.partial.push_str(line);
        self.pieces += 1;
        // Only what ends with a brace can be one, and to read it from its beginning each time is dear.
        if line.trim_end().ends_with('}')
            && let Ok(row) = serde_json::from_str::<Line>(&self.partial)
        {
            self.clear();
            return vec![self.row(row)];
        }
        if self.partial.len() > ROW_BYTES_MAX || self.pieces >= PIECES_MAX {
            self.clear();
            self.garbage = true;
        }
        Vec::new()
    }

    fn clear(&mut self) {
        self.partial.clear();
        self.pieces = 0;
    }

    fn row(&mut self, line: Line) -> Row {
        let path = match (line.attr_path, line.attr) {
            (Some(names), _) => AttrPath::new(names).map_err(|error| error.to_string()),
            (None, Some(text)) => text.parse().map_err(|error: nix_types::NotAnAttrPath| error.to_string()),
            (None, None) => Ok(AttrPath::root()),
        };
        let path = match path {
            Ok(path) => path,
            Err(why) => return error(message::ours(AttrPath::root(), ErrorKind::TooLarge, &why)),
        };
        if let Some(said) = line.error {
            self.root_failed |= path.is_root();
            let is_switch = path.components().last().is_some_and(|name| name == "recurseForDerivations");
            if is_switch && said.contains("is not supported") {
                return Row::NoJob;
            }
            let needs = |(store, may_build): &(String, bool)| message::needs_store(&said, store, *may_build);
            if self.reads.as_ref().is_some_and(needs) {
                return Row::Unwritten(path);
            }
            let found = message::error(path, None, &said);
            let kind = if found.kind == ErrorKind::Fatal { kind_of(&found.message) } else { found.kind };
            return error(AttrError { kind, ..found });
        }
        let parts = Parts {
            name: line.name.unwrap_or_default(),
            system: line.system.unwrap_or_default(),
            drv: line.drv_path.unwrap_or_default(),
            outputs: line.outputs.unwrap_or_default(),
            pname: None,
            version: None,
        };
        match parts.into_attr(path.clone()) {
            Ok(mut attr) => {
                attr.meta = record::meta(&line.meta, &self.checkout);
                Row::Job(Box::new(attr))
            }
            Err(why) => error(message::ours(path, ErrorKind::Garbage, &why)),
        }
    }
}

fn error(error: AttrError) -> Row {
    Row::Error(Box::new(error))
}

/// It does not say whether an expression said no by itself. These are the words of the evaluator where it did not.
fn kind_of(text: &str) -> ErrorKind {
    let fatal = [
        "evaluation aborted",
        "missing",
        "infinite recursion",
        "undefined variable",
        "cannot coerce",
        "cannot add",
        "cannot be",
        "without required argument",
        "unexpected argument",
        "was expected",
        "while a",
        "is not a",
        "syntax error",
        "experimental",
        "No such file",
        "does not exist",
        "out of bounds",
        "division by zero",
        "cannot evaluate a function",
    ];
    // What an assertion was about is the author's text.
    let failed = text.strip_prefix("assertion '").and_then(|text| text.split_once("' failed"));
    let text = failed.map_or(text, |(_, why)| why);
    let is_type = text.starts_with("expected a") && text.contains(" but found ");
    let is_fatal = is_type || fatal.iter().any(|words| text.contains(words)) || message::is_passing(text);
    if is_fatal { ErrorKind::Fatal } else { ErrorKind::Thrown }
}

#[cfg(test)]
mod tests {
    use ci_model::attr::{MESSAGE_BYTES_MAX, TRACE_BYTES_MAX};
    use test_kit::mutate::{Shape, play};

    use super::*;

    #[test]
    fn what_the_author_says_is_thrown_and_what_nix_says_is_fatal() {
        for (said, kind) in [
            ("expected a set but found an integer: 5", ErrorKind::Fatal),
            ("expected one output but found three", ErrorKind::Thrown),
            ("attribute 'x' missing", ErrorKind::Fatal),
            (
                "assertion '(missing == 1)' failed: an integer with value '2' is not equal to an integer",
                ErrorKind::Thrown,
            ),
            ("assertion '(a.missing)' failed", ErrorKind::Thrown),
        ] {
            assert_eq!(kind_of(said), kind, "{said}");
        }
    }

    #[test]
    fn a_row_in_pieces_is_one_row() {
        let drv = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a.drv";
        let row = format!(
            r#"{{"attr":"a","attrPath":["a"],"drvPath":"{drv}","inputDrvs":{{{}}},"name":"a","outputs":{{"out":null}},"system":"x86_64-linux"}}"#,
            (0..3000).map(|at| format!("\"/nix/store/{at}.drv\":[\"out\"]")).collect::<Vec<_>>().join(",")
        );
        let mut reader = Reader::new(Path::new("/"), None);
        let (first, second) = row.split_at(row.len() / 2);
        assert!(reader.push(first).is_empty());
        let rows = reader.push(second);
        assert!(matches!(&rows[..], [Row::Job(attr)] if attr.drv.as_str() == drv), "{rows:?}");
        assert!(reader.is_whole());
    }

    /// Lines as the reader of the child's output cuts them. Each gives at most one row; what an error says can be shown and is
    /// bounded; what is whole before is whole after a line of its own; and what a pass that writes nothing did not write is an
    /// error to one that writes.
    fn rows(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let reads = Some(("/nix/store".to_owned(), true));
        let (mut plain, mut reading) =
            (Reader::new(Path::new("/c"), None), Reader::new(Path::new("/c"), reads));
        for line in text.lines() {
            let mut rest = line;
            loop {
                let (now, later) = rest.split_at(rest.floor_char_boundary(LINE_BYTES_MAX));
                let (rows, same) = (plain.push(now), reading.push(now));
                assert!(rows.len() <= 1 && rows.len() == same.len(), "{rows:?}, {same:?}");
                assert_eq!(plain.is_whole(), reading.is_whole());
                for (row, same) in rows.iter().zip(&same) {
                    match (row, same) {
                        (Row::Error(error), Row::Unwritten(path)) => assert_eq!(&error.path, path),
                        (row, same) => assert_eq!(row, same),
                    }
                    shown(row);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        }
        assert!(plain.partial.len() <= ROW_BYTES_MAX);
    }

    fn shown(row: &Row) {
        match row {
            Row::Error(error) => {
                assert!(!error.message.is_empty() && error.message.len() <= MESSAGE_BYTES_MAX, "{error:?}");
                assert!(error.trace.len() <= TRACE_BYTES_MAX);
                let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
                assert!(!error.message.contains(steers) && !error.trace.contains(steers), "{error:?}");
            }
            Row::Job(attr) => assert_eq!(attr.path.to_string().parse().as_ref(), Ok(&attr.path)),
            Row::Unwritten(_) | Row::NoJob => {}
        }
    }

    #[test]
    fn any_bytes_are_rows_or_noticed() {
        play(
            "eval_rows",
            &[
                Shape { part: "{\n", ..Shape::default() },
                Shape { part: "{ \"a\":\n", ..Shape::default() },
                Shape { part: "{\"attr\":\"a{n}\",\"error\":\"error: x\"}\n", ..Shape::default() },
                Shape { head: "{\"attrPath\":[", part: "\"{n}\",", tail: "\"a\"],\"error\":\"\"}\n" },
                Shape { head: "{\"attr\":\"", part: "a.", tail: "a\",\"error\":\"\"}\n" },
                Shape { head: "{\"attr\":\"a\",\"error\":\"", part: "error: \\u001b[\\n", tail: "\"}\n" },
                Shape { head: "{\"attr\":\"a\",\"meta\":", part: "[", tail: "}\n" },
            ],
            rows,
        );
    }

    #[test]
    fn a_row_of_too_many_pieces_is_none() {
        let mut reader = Reader::new(Path::new("/"), None);
        for _ in 0..PIECES_MAX {
            assert!(reader.push("{").is_empty());
        }
        assert!(reader.partial.is_empty() && !reader.is_whole());
    }

    #[test]
    fn what_is_no_row_is_noticed() {
        for text in ["hello", "{\"attr\": ", "[1]"] {
            let mut reader = Reader::new(Path::new("/"), None);
            assert!(reader.push(text).is_empty());
            assert!(!reader.is_whole(), "{text}");
        }
    }
}
