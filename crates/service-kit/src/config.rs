//! Reads `ekaci.toml`. In: the file's text. Out: values taken key by key, each with its line, and one report of
//! everything that is wrong with the file at once. Leaves out what the keys mean, defaults, environment and
//! flags: those belong to the program that asks.
//!
//! A program takes its sections, takes each key it knows, finishes every section and then the document:
//!
//! ```text
//! let doc = Document::load(&file)?;
//! let queue = doc.section("queue");
//! let socket = queue.path("socket");
//! queue.finish();
//! let warnings = doc.finish(QUEUE_NAMES, SERVER_NAMES)?;
//! ```

mod depth;
mod find;
mod layout;
mod report;
mod section;
mod tree;
mod units;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use near_name::remedy;

use toml::de::DeTable;

pub use find::{NoConfigFile, find_config_file};
pub use layout::{QUEUE_NAMES, SECURITY_KEYS_OF_SERVER, SERVER_NAMES};
pub use report::{FINDINGS_MAX, Problem, Report};
pub use section::{Located, Section, TextOrTable};
pub use units::{UnitError, parse_duration, parse_rate, parse_size};

use report::Sink;
use tree::{Lines, Table, Value};

/// The largest configuration file that is read. The worst that can be written into it takes some tens of milliseconds
/// to refuse, most of them in the TOML parser.
pub const FILE_BYTES_MAX: u64 = 128 << 10;

/// A configuration file that is being read.
#[derive(Debug)]
pub struct Document {
    root: RefCell<Table>,
    sink: Rc<RefCell<Sink>>,
}

impl Document {
    /// Reads and parses `file`.
    ///
    /// # Errors
    /// A report when the file cannot be read, is larger than [`FILE_BYTES_MAX`], is not UTF-8, or is not TOML.
    pub fn load(file: &Path) -> Result<Self, Report> {
        let text = read(file).map_err(|(what, remedy)| {
            let mut sink = Sink::new(file);
            sink.refuse(Problem::of_file(what, remedy));
            sink.into_report()
        })?;
        Self::parse(file, &text)
    }

    /// Parses `text` as TOML 1.1; `file` is what the report calls it.
    ///
    /// # Errors
    /// A report with the syntax errors, or that the text is larger than [`FILE_BYTES_MAX`] or nested too deep.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Report> {
        let mut sink = Sink::new(file);
        if text.len() as u64 > FILE_BYTES_MAX {
            let (what, remedy) = too_large();
            sink.refuse(Problem::of_file(what, remedy));
            return Err(sink.into_report());
        }
        let lines = Lines::of(text);
        if let Some(at) = depth::too_deep(text) {
            let what = format!("more than {} brackets are open here", depth::DEPTH_MAX);
            sink.refuse(Problem::of_syntax(Some(lines.line(at)), &what));
            return Err(sink.into_report());
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        sink.refuse_more(errors.len().saturating_sub(FINDINGS_MAX));
        for error in errors.iter().take(FINDINGS_MAX) {
            let line = error.span().map(|span| lines.line(span.start));
            sink.refuse(Problem::of_syntax(line, error.message()));
        }
        if sink.is_refused() {
            return Err(sink.into_report());
        }
        let root = Table::read(table, &lines);
        Ok(Self { root: RefCell::new(root), sink: Rc::new(RefCell::new(sink)) })
    }

    /// Takes the table `[name]`. An absent one is an empty section, [`Section::is_present`] tells.
    #[must_use = "a section must be finished"]
    pub fn section(&self, name: &str) -> Section {
        let place = format!("[{name}]");
        match self.root.borrow_mut().take(name) {
            None => Section::absent(place, &self.sink),
            Some(entry) => match entry.value {
                Value::Table(table) => Section::new(place, table, &self.sink),
                other => {
                    self.refuse_shape(&place, entry.line, &other, "a table", &format!("write [{name}]"));
                    Section::absent(place, &self.sink)
                }
            },
        }
    }

    /// Takes the tables `[[name]]`, in the file's order.
    #[must_use = "each section must be finished"]
    pub fn array(&self, name: &str) -> Vec<Section> {
        let place = format!("[[{name}]]");
        let Some(entry) = self.root.borrow_mut().take(name) else { return Vec::new() };
        let Value::Array(items) = entry.value else {
            let remedy = format!("write {place}, with two brackets");
            self.refuse_shape(&place, entry.line, &entry.value, "an array of tables", &remedy);
            return Vec::new();
        };
        items.into_iter().filter_map(|item| self.element(&place, item)).collect()
    }

    fn element(&self, place: &str, item: tree::Node) -> Option<Section> {
        match item.value {
            Value::Table(table) => Some(Section::new(place.to_owned(), table, &self.sink)),
            other => {
                self.refuse_shape(place, item.line, &other, "a table", &format!("write {place}"));
                None
            }
        }
    }

    fn refuse_shape(&self, place: &str, line: u32, found: &Value, wanted: &str, remedy: &str) {
        self.refuse(place, Some(line), format!("must be {wanted}, found {}", found.kind()), remedy);
    }

    /// Records a problem that several sections have together; `place` is how the report names it.
    pub fn refuse(&self, place: &str, line: Option<u32>, what: impl Into<String>, remedy: impl Into<String>) {
        self.sink.borrow_mut().refuse(Problem::new(place, line, what, remedy));
    }

    /// Records what works but deserves the operator's attention.
    pub fn warn(&self, place: &str, line: Option<u32>, what: impl Into<String>, remedy: impl Into<String>) {
        self.sink.borrow_mut().warn(Problem::new(place, line, what, remedy));
    }

    /// Ends the reading. Whatever nobody took must be in `passed_over`, the other program's names; the rest is
    /// unknown and compared with both lists for the nearest name.
    ///
    /// # Errors
    /// The report, when anything in the file was refused.
    ///
    /// # Panics
    /// When a section was handed out and never finished, or a known one never taken: its mistakes would go
    /// unnoticed.
    pub fn finish(self, known: &[&str], passed_over: &[&str]) -> Result<Vec<Problem>, Report> {
        for (name, entry) in self.root.take().into_rest() {
            if passed_over.contains(&name.as_str()) {
                continue;
            }
            if self.sink.borrow().is_full() {
                self.sink.borrow_mut().refuse_more(1);
                continue;
            }
            assert!(
                !known.contains(&name.as_str()),
                "the program takes every section it knows, {name} as well"
            );
            let all = known.iter().chain(passed_over).copied();
            let (place, what) = match &entry.value {
                Value::Table(_) => (format!("[{name}]"), "unknown section"),
                Value::Array(items) if items.iter().all(|i| matches!(i.value, Value::Table(_))) => {
                    (format!("[[{name}]]"), "unknown section")
                }
                _ => (name.clone(), "unknown key at the top of the file"),
            };
            let remedy = remedy(&name, all, "remove it");
            self.refuse(&place, Some(entry.line), what, remedy);
        }
        let sink = self.sink.take();
        assert!(sink.open_sections == 0, "every configuration section is finished before its document");
        if sink.is_refused() { Err(sink.into_report()) } else { Ok(sink.into_report().warnings) }
    }

    /// The file's name as given.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.sink.borrow().file.clone()
    }
}

fn too_large() -> (String, String) {
    (format!("is larger than {FILE_BYTES_MAX} bytes"), "name the right file".to_owned())
}

/// The text of the file, or what was wrong and its remedy.
fn read(file: &Path) -> Result<String, (String, String)> {
    use std::io::Read;

    let failed = |error: std::io::Error| {
        (format!("cannot be read: {error}"), "check that it exists and who may read it".to_owned())
    };
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).map_err(failed)?;
    open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| {
        (format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()), "save it as UTF-8".to_owned())
    })
}
