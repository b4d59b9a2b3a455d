//! The parsed file as plain owned values. In: what the TOML parser gives, with byte spans. Out: the same tree
//! with line numbers. Leaves out any judgement of keys and values.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where each line of a text begins.
#[derive(Debug)]
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// The line, from 1, that holds the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.starts.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }
}

/// A value and the line it begins on; for the entry of a table, the line of its key.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u32,
}

#[derive(Debug)]
pub(super) enum Value {
    String(String),
    /// As written, without underscores, and its radix.
    Integer {
        digits: String,
        radix: u32,
    },
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Table),
}

impl Value {
    fn read(value: DeValue<'_>, lines: &Lines) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.into_owned()),
            DeValue::Integer(number) => {
                Self::Integer { digits: number.as_str().to_owned(), radix: number.radix() }
            }
            DeValue::Float(_) => Self::Float,
            DeValue::Boolean(value) => Self::Boolean(value),
            DeValue::Datetime(_) => Self::Datetime,
            DeValue::Array(items) => Self::Array(items.into_iter().map(|item| node(item, lines)).collect()),
            DeValue::Table(table) => Self::Table(Table::entries(table, 0, lines)),
        }
    }

    /// What the value is, for a sentence: "found an integer".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer { .. } => "an integer",
            Self::Float => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date or time",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

fn node(value: Spanned<DeValue<'_>>, lines: &Lines) -> Node {
    let line = lines.line(value.span().start);
    let mut value = Value::read(value.into_inner(), lines);
    if let Value::Table(table) = &mut value {
        table.line = line;
    }
    Node { value, line }
}

/// Entries by key, each taken at most once.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) line: u32,
    entries: BTreeMap<String, Node>,
}

impl Table {
    pub(super) fn read(table: Spanned<DeTable<'_>>, lines: &Lines) -> Self {
        Self::entries(table.into_inner(), 1, lines)
    }

    fn entries(table: DeTable<'_>, line: u32, lines: &Lines) -> Self {
        let entries = table.into_iter().map(|(key, value)| {
            let key_line = lines.line(key.span().start);
            let mut entry = Node { line: key_line, ..node(value, lines) };
            if let Value::Table(table) = &mut entry.value {
                table.line = key_line;
            }
            (key.into_inner().into_owned(), entry)
        });
        Self { line, entries: entries.collect() }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Node> {
        self.entries.remove(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries.iter().map(|(key, node)| (key.as_str(), node.line))
    }

    /// What nobody took.
    pub(super) fn into_rest(self) -> impl Iterator<Item = (String, Node)> {
        self.entries.into_iter()
    }
}
