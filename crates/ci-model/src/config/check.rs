//! Is a tree of JSON a configuration? In: the tree and the table of keys. Out: a fault for everything that is not as the
//! table has it. What several keys say together is for [`super::rules`].

use std::collections::{BTreeMap, BTreeSet};

use near_name::{nearest, remedy};

use super::fault::{Fault, Faults, cut};
use super::json::{Member, Node, Value};
use super::keys::{Absent, Key, ROOT, Shape};
use super::text::Text;

/// A step from a value to one inside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Looks at everything.
pub(super) fn check(root: &Node) -> Faults {
    let mut checker = Checker { faults: Faults::default(), path: Vec::new() };
    checker.value(root, &ROOT);
    checker.faults
}

/// A path as people write it: `jobs.hello.file`, `change_set[0].paths`.
pub(super) fn path_text(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Item(place) => text.push_str(&format!("[{place}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
                match !key.is_empty() && key.chars().all(plain) {
                    true => text.push_str(&cut(key)),
                    false => text.push_str(&format!("\"{}\"", cut(key))),
                }
            }
        }
    }
    text
}

struct Checker<'a> {
    faults: Faults,
    path: Vec<Step<'a>>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, node: &'a Node, shape: &'static Shape) {
        if self.faults.is_full() {
            return;
        }
        match (shape, &node.value) {
            (Shape::Keys(keys), Value::Object(members)) => self.keys(node.at, members, keys),
            (Shape::Named { name, each, max }, Value::Object(members)) => {
                self.at_most(node.at, members.len(), *max);
                members.iter().for_each(|member| self.named(member, name, each));
            }
            (Shape::List { of, min, max, unique }, Value::List(items)) => {
                self.at_most(node.at, items.len(), *max);
                if items.len() < *min {
                    self.fault(node.at, "the list is empty", "write something into it, or leave the key out");
                }
                for (place, item) in items.iter().enumerate() {
                    self.within(Step::Item(place), |checker| checker.value(item, of));
                }
                if *unique {
                    self.unique(items);
                }
            }
            (Shape::Flag, Value::Flag(_)) => {}
            (Shape::Whole(from, to), Value::Whole(number)) => {
                if !(from..=to).contains(&number) {
                    let remedy = format!("write a whole number from {from} to {to}");
                    self.fault(node.at, format!("{number} is not allowed here"), remedy);
                }
            }
            (Shape::Decimal(from, to), Value::Whole(_) | Value::Decimal(_)) => {
                let number = decimal(&node.value);
                if !(*from..=*to).contains(&number) {
                    let remedy = format!("write a number from {from} to {to}");
                    self.fault(node.at, format!("{number} is not allowed here"), remedy);
                }
            }
            (Shape::Text(kind), Value::Text(text)) => self.text(node.at, text, kind),
            (Shape::Word(words), Value::Text(text)) => self.word(node.at, text, words),
            (_, found) => self.other_type(node.at, shape, found),
        }
    }

    fn keys(&mut self, at: usize, members: &'a [Member], keys: &'static [Key]) {
        let mut seen: BTreeMap<&str, &Member> = BTreeMap::new();
        for member in members {
            if self.faults.is_full() {
                return;
            }
            let Some(key) = keys.iter().find(|key| key.is_called(&member.key)) else {
                // A key that was meant is not missing as well.
                let meant = self.unknown(member, keys);
                meant.into_iter().for_each(|name| _ = seen.entry(name).or_insert(member));
                continue;
            };
            let earlier = *seen.entry(key.name).or_insert(member);
            self.within(Step::Key(&member.key), |checker| {
                if earlier.key != member.key && key.is_called(&earlier.key) {
                    let what = format!("{} is the same key as {}, at", member.key, earlier.key);
                    let fault = Fault::new(member.at, what, "take one of the two away");
                    checker.push(Fault { other: Some(earlier.at), ..fault });
                }
                checker.value(&member.node, &key.shape);
            });
        }
        for key in keys.iter().filter(|key| key.absent == Absent::Refused) {
            if !seen.contains_key(key.name) {
                let remedy = format!("write \"{}\": {}", key.name, key.examples[0]);
                self.fault(at, format!("the key {} is missing", key.name), remedy);
            }
        }
    }

    /// Says so, and gives the key that was probably meant.
    fn unknown(&mut self, member: &'a Member, keys: &'static [Key]) -> Option<&'static str> {
        let names = || keys.iter().flat_map(|key| std::iter::once(key.name).chain(key.alias));
        let near = nearest(&member.key, names());
        let remedy = match (near, elsewhere(&member.key)) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, Some(path)) => format!("it belongs to {path}"),
            (None, None) => format!("the keys here are {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.within(Step::Key(&member.key), |checker| {
            checker.fault(member.at, "there is no such key", remedy);
        });
        near
    }

    fn named(&mut self, member: &'a Member, name: &'static Text, each: &'static Shape) {
        self.within(Step::Key(&member.key), |checker| {
            if let Err(wrong) = name.of(&member.key) {
                checker.fault(member.at, wrong.what, wrong.remedy);
            }
            checker.value(&member.node, each);
        });
    }

    fn text(&mut self, at: usize, text: &str, kind: &Text) {
        if let Err(wrong) = kind.of(text) {
            self.fault(at, wrong.what, wrong.remedy);
        }
    }

    fn word(&mut self, at: usize, text: &str, words: &'static [&'static str]) {
        if words.contains(&text) {
            return;
        }
        let remedy = remedy(text, words.iter().copied(), format!("write one of {}", words.join(", ")));
        self.fault(at, format!("{} is none of the words here", cut(text)), remedy);
    }

    fn at_most(&mut self, at: usize, count: usize, max: usize) {
        if count > max {
            self.fault(at, format!("{count} are more than the {max} that there may be"), "write fewer");
        }
    }

    /// Texts alone: nothing else is in lists of which each may be there once.
    fn unique(&mut self, items: &'a [Node]) {
        let mut seen = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            if let Value::Text(text) = &item.value
                && !seen.insert(text)
            {
                self.within(Step::Item(place), |checker| {
                    checker.fault(item.at, format!("{} is in the list twice", cut(text)), "take one away");
                });
            }
        }
    }

    fn other_type(&mut self, at: usize, shape: &Shape, found: &Value) {
        let wanted = shape.what();
        let remedy = match (shape, found) {
            (_, Value::Null) => "leave the key out, or write a value".to_owned(),
            (Shape::List { .. }, Value::Text(text)) => format!("write [\"{}\"]", cut(text)),
            (Shape::Flag, Value::Text(text)) if matches!(text.as_str(), "true" | "false") => {
                format!("write {text} without the quotes")
            }
            (Shape::Whole(..) | Shape::Decimal(..), Value::Text(text)) if text.parse::<f64>().is_ok() => {
                format!("write {} without the quotes", cut(text))
            }
            (Shape::Text(_) | Shape::Word(_), Value::List(_)) => {
                "write one text without the brackets".to_owned()
            }
            _ => format!("write {wanted}"),
        };
        self.fault(at, format!("{wanted} is expected, not {}", found.what()), remedy);
    }

    fn within(&mut self, step: Step<'a>, look: impl FnOnce(&mut Self)) {
        self.path.push(step);
        look(self);
        self.path.pop();
    }

    fn fault(&mut self, at: usize, what: impl Into<String>, remedy: impl Into<String>) {
        self.push(Fault::new(at, what, remedy));
    }

    fn push(&mut self, fault: Fault) {
        self.faults.push(Fault { key: path_text(&self.path), ..fault });
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds are far below what a float has exactly")]
fn decimal(value: &Value) -> f64 {
    match value {
        Value::Whole(number) => *number as f64,
        Value::Decimal(number) => *number,
        Value::Null | Value::Flag(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => f64::NAN,
    }
}

/// Where in the table a key of this name is, if it is not where it was looked for.
fn elsewhere(name: &str) -> Option<String> {
    fn search(shape: &'static Shape, path: &str, name: &str) -> Option<String> {
        match shape {
            Shape::Keys(keys) => keys.iter().find_map(|key| {
                let here = if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
                if key.is_called(name) { Some(here) } else { search(&key.shape, &here, name) }
            }),
            Shape::Named { each, .. } => search(each, &format!("{path}.NAME"), name),
            Shape::List { of, .. } => search(of, &format!("{path}[]"), name),
            Shape::Flag | Shape::Whole(..) | Shape::Decimal(..) | Shape::Text(_) | Shape::Word(_) => None,
        }
    }
    search(&ROOT, "", name)
}

impl Key {
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }
}

impl Shape {
    /// What is expected, with its article.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Keys(_) | Self::Named { .. } => "an object",
            Self::List { .. } => "a list",
            Self::Flag => "true or false",
            Self::Whole(..) => "a whole number",
            Self::Decimal(..) => "a number",
            Self::Text(kind) => kind.what,
            Self::Word(_) => "a text",
        }
    }
}
