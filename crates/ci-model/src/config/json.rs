//! JSON as RFC 8259 has it, with the place of everything. In: the bytes of a file. Out: a tree whose nodes know where
//! they begin, and every fault that was found; reading goes on behind those faults that do not hide what follows.
//! Knows no keys: what they mean is for [`super::check`].

use std::collections::BTreeMap;

use super::check::Step;
use super::fault::{Fault, Faults, cut};
use super::number;
use super::string;

/// Most bytes of a configuration.
pub const BYTES_MAX: usize = 256 << 10;
/// Most lists and objects within each other, the outermost one included.
pub const DEPTH_MAX: usize = 32;

/// A value, and where it begins, in bytes from the beginning of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Whole(i64),
    /// Finite.
    Decimal(f64),
    Text(String),
    List(Vec<Node>),
    /// As they were written; no key twice unless there is a fault that says so.
    Object(Vec<Member>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    /// Where the key begins.
    pub(super) at: usize,
    pub(super) node: Node,
}

impl Node {
    /// Where the value at a path begins, or the last one on the way to it that is there.
    pub(super) fn at_path(&self, path: &[Step<'_>]) -> usize {
        let mut node = self;
        for step in path {
            let next = match (step, &node.value) {
                (Step::Key(key), Value::Object(members)) => {
                    members.iter().find(|member| member.key == *key).map(|member| &member.node)
                }
                (Step::Item(place), Value::List(items)) => items.get(*place),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.at
    }
}

impl Value {
    /// What it is, with its article.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag(_) => "true or false",
            Self::Whole(_) | Self::Decimal(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// The same without places.
    pub(super) fn plain(self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Flag(flag) => flag.into(),
            Self::Whole(number) => number.into(),
            Self::Decimal(number) => number.into(),
            Self::Text(text) => text.into(),
            Self::List(items) => items.into_iter().map(|item| item.value.plain()).collect(),
            Self::Object(members) => {
                members.into_iter().map(|member| (member.key, member.node.value.plain())).collect()
            }
        }
    }
}

/// What reading a file came to.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// `None` when a fault hides the rest.
    pub(super) root: Option<Node>,
    pub(super) faults: Faults,
    pub(super) warnings: Faults,
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Reading {
    if bytes.len() > BYTES_MAX {
        let what = format!("the file has {} bytes, more than {BYTES_MAX}", bytes.len());
        return refused(Fault::new(0, what, "make it smaller"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let fault = Fault::new(error.valid_up_to(), "this is no UTF-8", "save the file as UTF-8");
            return refused(fault);
        }
    };
    let mut reader = Reader { text, at: 0, faults: Faults::default(), warnings: Faults::default() };
    let root = reader.file().ok();
    Reading { root, faults: reader.faults, warnings: reader.warnings }
}

fn refused(fault: Fault) -> Reading {
    let mut reading = Reading::default();
    reading.faults.push(fault);
    reading
}

/// A fault was noted behind which nothing can be read.
#[derive(Debug)]
pub(super) struct Stop;

pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    faults: Faults,
    warnings: Faults,
}

impl Reader<'_> {
    fn file(&mut self) -> Result<Node, Stop> {
        self.preamble();
        self.blank();
        let root = self.value(1)?;
        self.blank();
        match self.peek() {
            None => Ok(root),
            Some(_) => Err(self.stop(
                self.at,
                "something follows behind the end",
                "a file is one object: take away what is behind its closing }",
            )),
        }
    }

    /// What pages print above a file to copy, and what some editors put there.
    fn preamble(&mut self) {
        if self.text.starts_with('\u{feff}') {
            self.at += '\u{feff}'.len_utf8();
            let what = "the file begins with a byte order mark, which other readers of JSON refuse";
            self.warnings.push(Fault::new(0, what, "save it as UTF-8 without one"));
        }
        loop {
            self.spaces();
            if !self.text[self.at..].starts_with("//") {
                return;
            }
            let what =
                "a comment is no JSON; above everything else it is passed over here, by others it is not";
            self.warnings.push(Fault::new(self.at, what, "take it away"));
            self.skip_line();
        }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.find('\n').unwrap_or(rest.len());
    }

    /// Passes over white space, and over comments with a fault for each.
    fn blank(&mut self) {
        loop {
            self.spaces();
            let rest = &self.text[self.at..];
            if !(rest.starts_with("//") || rest.starts_with("/*") || rest.starts_with('#')) {
                return;
            }
            self.fault(self.at, "JSON has no comments", "take it away; a key's name can say much");
            match rest.strip_prefix("/*") {
                None => self.skip_line(),
                Some(inside) => self.at += inside.find("*/").map_or(rest.len(), |end| end + 4),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        let at = self.at;
        let value = match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                if depth > DEPTH_MAX {
                    let what = format!("more than {DEPTH_MAX} lists and objects are within each other");
                    return Err(self.stop(at, what, "nothing in a configuration is that deep"));
                }
                if open == b'{' { self.object(depth)? } else { self.list(depth)? }
            }
            Some(b'"') => Value::Text(string::read(self)?),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => number::read(self)?,
            _ => self.word()?,
        };
        Ok(Node { at, value })
    }

    fn word(&mut self) -> Result<Value, Stop> {
        let at = self.at;
        let rest = &self.text[at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "true" => Ok(Value::Flag(true)),
            "false" => Ok(Value::Flag(false)),
            "null" => Ok(Value::Null),
            "" => Err(self.no_value()),
            _ => {
                let lower = word.to_ascii_lowercase();
                let remedy = match lower.as_str() {
                    "true" | "false" | "null" => format!("write {lower}"),
                    "nan" | "infinity" => "write a number".to_owned(),
                    _ => format!("write \"{}\"", cut(word)),
                };
                Err(self.stop(at, format!("{} is no value", cut(word)), remedy))
            }
        }
    }

    fn no_value(&mut self) -> Stop {
        let at = self.at;
        match self.text[at..].chars().next() {
            None => self.stop(at, "the file ends where a value is expected", "write the value"),
            Some('\'') => self.stop(at, "a text begins with '", "texts are in double quotes: \""),
            Some(c) => {
                let what = format!("{c:?} stands where a value is expected");
                self.stop(at, what, "write a text, a number, true, false, a list or an object")
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Stop> {
        let (open, mut items) = (self.at, Vec::new());
        self.at += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.another(open, b']')? {
                return Ok(Value::List(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stop> {
        let (open, mut members) = (self.at, Vec::new());
        self.at += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            let (key, at) = self.key(open)?;
            let node = self.value(depth + 1)?;
            members.push(Member { key, at, node });
            if !self.another(open, b'}')? {
                self.twice(&members);
                return Ok(Value::Object(members));
            }
        }
    }

    /// A key, up to where its value begins.
    fn key(&mut self, open: usize) -> Result<(String, usize), Stop> {
        let at = self.at;
        match self.peek() {
            Some(b'"') => {}
            None => return Err(self.unclosed(open)),
            Some(_) => {
                let what = "a key is expected here";
                return Err(self.stop(at, what, "keys are in double quotes: \"file\": …"));
            }
        }
        let key = string::read(self)?;
        self.blank();
        if self.peek() != Some(b':') {
            let what = format!("no : follows the key {}", cut(&key));
            return Err(self.stop(self.at, what, "write : and a value behind it"));
        }
        self.at += 1;
        self.blank();
        Ok((key, at))
    }

    /// Behind an item: does another one follow?
    fn another(&mut self, open: usize, close: u8) -> Result<bool, Stop> {
        self.blank();
        match self.peek() {
            None => Err(self.unclosed(open)),
            Some(c) if c == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') => {
                let comma = self.at;
                self.at += 1;
                self.blank();
                if self.peek() != Some(close) {
                    return Ok(true);
                }
                self.at += 1;
                self.fault(comma, "nothing follows this comma", "take the comma away");
                Ok(false)
            }
            Some(b'"' | b'{' | b'[') => {
                self.fault(self.at, "no comma stands before this", "write one behind what is before it");
                Ok(true)
            }
            Some(_) => {
                let remedy = format!("write a comma, or close with {}", char::from(close));
                Err(self.stop(self.at, "neither a comma nor an end", remedy))
            }
        }
    }

    fn unclosed(&mut self, open: usize) -> Stop {
        let (what, remedy) = match self.text.as_bytes().get(open) {
            Some(b'[') => ("the file ends inside this list", "close it with ]"),
            _ => ("the file ends inside this object", "close it with }"),
        };
        self.stop(open, what, remedy)
    }

    fn twice(&mut self, members: &[Member]) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for member in members {
            match first.get(member.key.as_str()) {
                None => _ = first.insert(&member.key, member.at),
                Some(before) => {
                    let what = format!("the key {} is there already, at", cut(&member.key));
                    let fault = Fault::new(member.at, what, "take one of the two away");
                    self.faults.push(Fault { other: Some(*before), ..fault });
                }
            }
        }
    }

    pub(super) fn fault(&mut self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault::new(at, what, remedy));
    }

    pub(super) fn stop(&mut self, at: usize, what: impl Into<String>, remedy: impl Into<String>) -> Stop {
        self.fault(at, what, remedy);
        Stop
    }
}
