//! Two derivations that take each other's place come in, with what takes the place of what they need; what is different
//! about them by themselves comes out. Texts of the base are translated first, so that what merely follows from a
//! difference further down does not show.

use std::collections::{BTreeMap, BTreeSet};

use nix_types::derivation::Output;
use nix_types::{Derivation, StorePath};

use super::shown::shown;
use super::texts::{Texts, Unmatched};
use super::translate::{Dictionary, Translator};
use crate::change::Difference;

/// Most differences that are named of one derivation; a [`Difference::Unknown`] behind them says that there are more.
pub const DIFFERENCES_LISTED_MAX: usize = 32;

/// What is different. `known` are dictionaries from the base to the head; `unmatched` are outputs of inputs whose coming
/// and going is told elsewhere.
pub(super) fn own(
    before: &Derivation,
    after: &Derivation,
    known: &[&Dictionary],
    mut unmatched: Unmatched,
) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.system != after.system {
        found.push(match (before.system.parse(), after.system.parse()) {
            (Ok(from), Ok(to)) => Difference::System { from, to },
            _ => Difference::Unknown,
        });
    }
    outputs(&before.outputs, &after.outputs, &mut found);
    let sources = sources(before, after, Translator(known), &mut unmatched, &mut found);
    let dictionaries: Vec<&Dictionary> = std::iter::once(&sources).chain(known.iter().copied()).collect();
    let names = before.outputs.keys().chain(after.outputs.keys());
    let one_has = |name: &&String| before.outputs.contains_key(*name) != after.outputs.contains_key(*name);
    let told = names.filter(one_has).map(String::as_bytes).collect();
    let texts = Texts { translator: Translator(&dictionaries), unmatched: &unmatched, told: &told };
    if !texts.agree(&before.builder, &after.builder) {
        found.push(Difference::Builder);
    }
    let agree = |(one, other): (&Vec<u8>, &Vec<u8>)| texts.agree(one, other);
    if before.args.len() != after.args.len() || !before.args.iter().zip(&after.args).all(agree) {
        found.push(Difference::Args);
    }
    texts.env(&before.env, &after.env, &mut found);
    bounded(found)
}

/// No more than are listed.
pub(super) fn bounded(mut found: Vec<Difference>) -> Vec<Difference> {
    if found.len() > DIFFERENCES_LISTED_MAX {
        found.truncate(DIFFERENCES_LISTED_MAX);
        found.push(Difference::Unknown);
    }
    found
}

type Outputs = BTreeMap<String, Output>;

fn outputs(before: &Outputs, after: &Outputs, found: &mut Vec<Difference>) {
    if !before.keys().eq(after.keys()) {
        found.push(Difference::Outputs);
        return;
    }
    for (one, other) in before.values().zip(after.values()) {
        let text = |output: &Output| shown(format!("{}:{}", output.hash_algo, output.hash).as_bytes());
        match (one.hash.is_empty(), other.hash.is_empty()) {
            (false, false) if text(one) == text(other) => {}
            (false, false) => found.push(Difference::FixedHash { from: text(one), to: text(other) }),
            (true, true) if one.hash_algo == other.hash_algo => {}
            (true, true) | (true, false) | (false, true) => found.push(Difference::Outputs),
        }
    }
}

/// Names the plain sources that differ, and gives those as a dictionary that take each other's place by their name.
fn sources(
    before: &Derivation,
    after: &Derivation,
    translator: Translator<'_>,
    unmatched: &mut Unmatched,
    found: &mut Vec<Difference>,
) -> Dictionary {
    let stays: BTreeSet<&StorePath> = before.input_srcs.iter().map(|path| translator.path(path)).collect();
    let mut by_name: BTreeMap<&str, (Vec<&StorePath>, Vec<&StorePath>)> = BTreeMap::new();
    for path in before.input_srcs.iter().filter(|path| !after.input_srcs.contains(translator.path(path))) {
        by_name.entry(path.name()).or_default().0.push(path);
    }
    for path in after.input_srcs.iter().filter(|path| !stays.contains(path)) {
        by_name.entry(path.name()).or_default().1.push(path);
    }
    let mut dictionary = Dictionary::default();
    for (name, (gone, new)) in by_name {
        found.push(Difference::Source { name: shown(name.as_bytes()) });
        if let ([from], [to]) = (&gone[..], &new[..]) {
            dictionary.path(from, to);
            continue;
        }
        gone.iter().for_each(|path| unmatched.before.add(path));
        new.iter().for_each(|path| unmatched.after.add(path));
    }
    dictionary
}

#[cfg(test)]
mod tests;
