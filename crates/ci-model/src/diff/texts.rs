//! Texts of two derivations come in, their variables above all; those that say something different come out. A text of
//! the base is translated before it is compared, and words that name what only one side needs are left out of both, for
//! that is told elsewhere. Of structured attributes the topmost names are told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::differences::DIFFERENCES_LISTED_MAX;
use super::shown::{shown, shown_from};
use super::translate::{Mentioned, Translator};
use crate::change::Difference;

/// The variable that holds all others of a derivation with structured attributes.
const JSON: &[u8] = b"__json";

/// Store paths that one side needs, and that take no other's place.
#[derive(Debug, Default)]
pub(super) struct Unmatched {
    pub(super) before: Mentioned,
    pub(super) after: Mentioned,
}

/// How texts are compared.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) translator: Translator<'a>,
    pub(super) unmatched: &'a Unmatched,
    /// Variables that are told elsewhere: names of outputs that one side has.
    pub(super) told: &'a BTreeSet<&'a [u8]>,
}

type Env = BTreeMap<Vec<u8>, Vec<u8>>;

impl Texts<'_> {
    /// Do they say the same?
    pub(super) fn agree(&self, before: &[u8], after: &[u8]) -> bool {
        if before == after {
            return true;
        }
        let before = self.translator.text(before);
        before == after || self.agree_but_for_unmatched(&before, after)
    }

    fn agree_but_for_unmatched(&self, before: &[u8], after: &[u8]) -> bool {
        let Unmatched { before: gone, after: new } = self.unmatched;
        !(gone.is_empty() && new.is_empty()) && words_without(before, gone).eq(words_without(after, new))
    }

    /// Notes the variables that differ, one more than are listed at most.
    pub(super) fn env(&self, before: &Env, after: &Env, found: &mut Vec<Difference>) {
        let has_fixed_hash =
            found.iter().any(|difference| matches!(difference, Difference::FixedHash { .. }));
        let names: BTreeSet<&Vec<u8>> = before.keys().chain(after.keys()).collect();
        for name in names {
            let is_of_hash = matches!(&name[..], b"outputHash" | b"outputHashAlgo" | b"outputHashMode");
            if has_fixed_hash && is_of_hash || self.told.contains(&name[..]) {
                continue;
            }
            match (before.get(name), after.get(name)) {
                (Some(one), Some(other)) if self.agree(one, other) => {}
                (Some(one), Some(other)) if name == JSON && self.json(one, other, found) => {}
                (one, other) => {
                    let one = one.map(|one| self.translator.text(one));
                    found.push(variable(name, one.as_deref(), other.map(Vec::as_slice)));
                }
            }
            if found.len() > DIFFERENCES_LISTED_MAX {
                return;
            }
        }
    }

    /// Notes the topmost names that differ; false when the texts are no sets, or the difference is none of what they say.
    fn json(&self, before: &[u8], after: &[u8], found: &mut Vec<Difference>) -> bool {
        let set = |text: &[u8]| serde_json::from_slice::<Map<String, Value>>(text).ok();
        let (Some(before), Some(after)) = (set(&self.translator.text(before)), set(after)) else {
            return false;
        };
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut agrees_but_for_unmatched = false;
        let already = found.len();
        for name in names {
            let (one, other) = (before.get(name), after.get(name));
            if one == other {
                continue;
            }
            let Unmatched { before: gone, after: new } = self.unmatched;
            let is_told = one
                .zip(other)
                .is_some_and(|(one, other)| value_without(one, gone) == value_without(other, new));
            agrees_but_for_unmatched |= is_told;
            if !is_told {
                let text = |value: Option<&Value>| value.map(|value| value.to_string().into_bytes());
                found.push(variable(name.as_bytes(), text(one).as_deref(), text(other).as_deref()));
            }
            if found.len() > DIFFERENCES_LISTED_MAX {
                break;
            }
        }
        agrees_but_for_unmatched || found.len() > already
    }
}

/// A variable that differs, each value shown from a little before the place where they part.
fn variable(name: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Difference {
    let same =
        |(one, other): (&[u8], &[u8])| one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let parts_at = before.zip(after).map_or(0, same);
    let value = |value: Option<&[u8]>| value.map(|value| shown_from(value, parts_at));
    Difference::Env { name: shown(name), from: value(before), to: value(after) }
}

fn words_without<'a>(text: &'a [u8], paths: &'a Mentioned) -> impl Iterator<Item = &'a [u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty() && !paths.by(word))
}

/// A value of structured attributes without what names one of `paths`. No deeper than what reads them allows.
fn value_without(value: &Value, paths: &Mentioned) -> Value {
    match value {
        Value::Array(items) => {
            let stays = |item: &&Value| !item.as_str().is_some_and(|text| paths.by(text.as_bytes()));
            Value::Array(items.iter().filter(stays).map(|item| value_without(item, paths)).collect())
        }
        Value::Object(set) => {
            Value::Object(set.iter().map(|(name, item)| (name.clone(), value_without(item, paths))).collect())
        }
        Value::String(text) if paths.by(text.as_bytes()) => {
            let words = text.split_ascii_whitespace().filter(|word| !paths.by(word.as_bytes()));
            Value::String(words.collect::<Vec<_>>().join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
