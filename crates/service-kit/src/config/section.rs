//! One table of the file. In: the keys a program asks for, each once. Out: typed values with their lines; what
//! is missing, of the wrong type or out of bounds goes to the report. Leaves out defaults.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use near_name::remedy;

use super::report::{Problem, Sink};
use super::tree::{Node, Table, Value};
use super::units::{UnitError, parse_duration, parse_rate, parse_size};

/// A value and the line of its key, for checks that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its line, from 1.
    pub line: u32,
}

impl<T> Located<T> {
    /// The same line with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: change(self.value), line: self.line }
    }
}

/// A value that may be written both ways, as `credentials = "none"` and `credentials = { env = … }`.
#[derive(Debug)]
pub enum TextOrTable {
    /// A string.
    Text(Located<String>),
    /// A table; it must be finished.
    Table(Section),
}

/// One table of the file. Asking for a key makes it known and takes it; a value of the wrong kind is reported
/// and counts as absent. [`finish`](Self::finish) refuses what nobody asked for.
#[derive(Debug)]
pub struct Section {
    place: String,
    present: bool,
    line: Option<u32>,
    table: RefCell<Table>,
    known: RefCell<Vec<String>>,
    /// Keys that were there when they were asked for.
    found: RefCell<Vec<String>>,
    sink: Rc<RefCell<Sink>>,
}

impl Section {
    pub(super) fn new(place: String, table: Table, sink: &Rc<RefCell<Sink>>) -> Self {
        let line = Some(table.line);
        Self { present: true, line, table: RefCell::new(table), ..Self::absent(place, sink) }
    }

    pub(super) fn absent(place: String, sink: &Rc<RefCell<Sink>>) -> Self {
        sink.borrow_mut().open_sections += 1;
        Self {
            place,
            present: false,
            line: None,
            table: RefCell::default(),
            known: RefCell::default(),
            found: RefCell::default(),
            sink: Rc::clone(sink),
        }
    }

    /// Whether the file has this section at all.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.present
    }

    /// The line the section begins on; `None` when it is absent.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// A string.
    pub fn string(&self, key: &str) -> Option<Located<String>> {
        let node = self.take(key)?;
        match node.value {
            Value::String(value) => Some(Located { value, line: node.line }),
            other => self.wrong(key, node.line, &other, "a string", "put it in quotes"),
        }
    }

    /// An absolute path, without NUL; `~` and variables are not expanded.
    pub fn path(&self, key: &str) -> Option<Located<PathBuf>> {
        let text = self.string(key)?;
        self.absolute(key, text)
    }

    fn absolute(&self, key: &str, text: Located<String>) -> Option<Located<PathBuf>> {
        if text.value.starts_with('/') && !text.value.contains('\0') {
            return Some(text.map(PathBuf::from));
        }
        let remedy = match text.value.chars().next() {
            Some('~') => "write the home folder out: ~ is not expanded",
            Some('$') => "write the folder out: variables are not expanded",
            _ => "begin it with /",
        };
        self.refuse(key, Some(text.line), "is not an absolute path", remedy);
        None
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<Located<bool>> {
        let node = self.take(key)?;
        match node.value {
            Value::Boolean(value) => Some(Located { value, line: node.line }),
            other => self.wrong(key, node.line, &other, "a boolean", "write true or false without quotes"),
        }
    }

    /// An integer within `range`.
    pub fn u64(&self, key: &str, range: RangeInclusive<u64>) -> Option<Located<u64>> {
        let node = self.take(key)?;
        let remedy = || format!("give one from {} to {}", range.start(), range.end());
        let Value::Integer { digits, radix } = &node.value else {
            return self.wrong(key, node.line, &node.value, "an integer", &remedy());
        };
        match u64::from_str_radix(digits, *radix) {
            Ok(value) if range.contains(&value) => Some(Located { value, line: node.line }),
            Ok(_) | Err(_) => {
                self.refuse(key, Some(node.line), "is out of bounds", remedy());
                None
            }
        }
    }

    /// A duration such as `"30s"`; see [`parse_duration`].
    pub fn duration(&self, key: &str) -> Option<Located<Duration>> {
        let remedy = r#"write "250ms", "30s", "10m", "2h" or "7d""#;
        self.amount(key, "a duration", remedy, parse_duration)
    }

    /// Bytes such as `"10MiB"`, or a plain integer; see [`parse_size`].
    pub fn size(&self, key: &str) -> Option<Located<u64>> {
        self.amount(key, "a size", r#"write "10MiB", "5G" or a number of bytes"#, parse_size)
    }

    /// Bytes per second such as `"10MiB/s"`, or a plain integer; see [`parse_rate`].
    pub fn rate(&self, key: &str) -> Option<Located<u64>> {
        self.amount(key, "a rate", r#"write "10MiB/s", "80Mbit/s" or a number of bytes a second"#, parse_rate)
    }

    fn amount<T>(
        &self,
        key: &str,
        wanted: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, UnitError>,
    ) -> Option<Located<T>> {
        let node = self.take(key)?;
        let text = match &node.value {
            Value::String(text) => text,
            Value::Integer { digits, radix: 10 } => digits,
            other => return self.wrong(key, node.line, other, wanted, remedy),
        };
        match parse(text) {
            Ok(value) => Some(Located { value, line: node.line }),
            Err(error) => {
                self.refuse(key, Some(node.line), error.to_string(), remedy);
                None
            }
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<Located<Vec<Located<String>>>> {
        let node = self.take(key)?;
        match node.value {
            Value::Array(items) => {
                self.all_strings(key, items).map(|value| Located { value, line: node.line })
            }
            other => self.wrong(key, node.line, &other, "an array of strings", "put it in brackets"),
        }
    }

    /// One string, or an array of strings.
    pub fn string_or_list(&self, key: &str) -> Option<Located<Vec<Located<String>>>> {
        let Node { value, line } = self.take(key)?;
        match value {
            Value::String(value) => Some(Located { value: vec![Located { value, line }], line }),
            Value::Array(items) => self.all_strings(key, items).map(|value| Located { value, line }),
            other => self.wrong(key, line, &other, "a string or an array of strings", "put it in quotes"),
        }
    }

    /// An array of absolute paths, as [`path`](Self::path) reads one.
    pub fn paths(&self, key: &str) -> Option<Located<Vec<Located<PathBuf>>>> {
        let Located { value, line } = self.strings(key)?;
        let wanted = value.len();
        let paths: Vec<_> = value.into_iter().filter_map(|text| self.absolute(key, text)).collect();
        (paths.len() == wanted).then_some(Located { value: paths, line })
    }

    fn all_strings(&self, key: &str, items: Vec<Node>) -> Option<Vec<Located<String>>> {
        let wanted = items.len();
        let strings: Vec<_> = items
            .into_iter()
            .filter_map(|item| match item.value {
                Value::String(value) => Some(Located { value, line: item.line }),
                other => self.wrong(key, item.line, &other, "strings only", "put each in quotes"),
            })
            .collect();
        (strings.len() == wanted).then_some(strings)
    }

    /// One of a few words, each with what it stands for.
    pub fn choice<T: Clone>(&self, key: &str, choices: &[(&str, T)]) -> Option<Located<T>> {
        let text = self.string(key)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(text.map(|_| value.clone()));
        }
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.refuse(
            key,
            Some(text.line),
            "is none of the known words",
            format!("write {}", words.join(" or ")),
        );
        None
    }

    /// A table within this one, as `[caches.backoff]` or `backoff = { … }`.
    #[must_use = "a section must be finished"]
    pub fn table(&self, key: &str) -> Option<Self> {
        let node = self.take(key)?;
        match node.value {
            Value::Table(table) => Some(self.inner(key, table)),
            other => self.wrong(key, node.line, &other, "a table", "write it in braces"),
        }
    }

    /// A string or a table.
    #[must_use = "a section must be finished"]
    pub fn text_or_table(&self, key: &str) -> Option<TextOrTable> {
        let node = self.take(key)?;
        match node.value {
            Value::String(value) => Some(TextOrTable::Text(Located { value, line: node.line })),
            Value::Table(table) => Some(TextOrTable::Table(self.inner(key, table))),
            other => {
                self.wrong(key, node.line, &other, "a string or a table", "write it in quotes or braces")
            }
        }
    }

    fn inner(&self, key: &str, table: Table) -> Self {
        let name = self.place.trim_matches(['[', ']']);
        Self::new(format!("[{name}.{key}]"), table, &self.sink)
    }

    /// The keys nobody asked for yet; for a table whose only key names a variant.
    #[must_use]
    pub fn rest(&self) -> Vec<Located<String>> {
        let table = self.table.borrow();
        table.keys().map(|(key, line)| Located { value: key.to_owned(), line }).collect()
    }

    /// Makes a key known that this version does not serve, and refuses it when it is there.
    pub fn unsupported(&self, key: &str, why: &str) {
        if let Some(node) = self.take(key) {
            self.refuse(key, Some(node.line), format!("is not served by this version: {why}"), "remove it");
        }
    }

    /// Makes keys known that belong to the other program.
    pub fn pass_over(&self, keys: &[&str]) {
        for key in keys {
            let _ = self.take(key); // the other program checks it
        }
    }

    /// Refuses the absence of a key; says nothing when the key was there, even with a wrong value.
    pub fn missing(&self, key: &str, remedy: &str) {
        if !self.found.borrow().iter().any(|found| found == key) {
            self.refuse(key, self.line, "is missing", remedy);
        }
    }

    /// Records a problem with a key of this section; an empty `key` means the section itself.
    pub fn refuse(&self, key: &str, line: Option<u32>, what: impl Into<String>, remedy: impl Into<String>) {
        self.sink.borrow_mut().refuse(Problem::new(&self.place_of(key), line, what, remedy));
    }

    /// Records what works but deserves the operator's attention.
    pub fn warn(&self, key: &str, line: Option<u32>, what: impl Into<String>, remedy: impl Into<String>) {
        self.sink.borrow_mut().warn(Problem::new(&self.place_of(key), line, what, remedy));
    }

    /// Ends the section: every key that nobody asked for is refused, with the nearest known one.
    pub fn finish(self) {
        let table = self.table.borrow();
        for (at, (key, line)) in table.keys().enumerate() {
            if self.sink.borrow().is_full() {
                self.sink.borrow_mut().refuse_more(table.keys().count() - at);
                break;
            }
            let known = self.known.borrow();
            let remedy = remedy(key, known.iter().map(String::as_str), "remove it");
            self.refuse(key, Some(line), "unknown key", remedy);
        }
        self.sink.borrow_mut().open_sections -= 1;
    }

    fn place_of(&self, key: &str) -> String {
        if key.is_empty() { self.place.clone() } else { format!("{} {key}", self.place) }
    }

    fn take(&self, key: &str) -> Option<Node> {
        self.known.borrow_mut().push(key.to_owned());
        let node = self.table.borrow_mut().take(key)?;
        self.found.borrow_mut().push(key.to_owned());
        Some(node)
    }

    fn wrong<T>(&self, key: &str, line: u32, found: &Value, wanted: &str, remedy: &str) -> Option<T> {
        if self.sink.borrow().is_full() {
            self.sink.borrow_mut().refuse_more(1);
            return None;
        }
        self.refuse(key, Some(line), format!("must be {wanted}, found {}", found.kind()), remedy);
        None
    }
}
