//! Two `meta` of one attribute come in, what they say differently comes out. Lists are compared as sets: their order
//! says nothing. A licence is what it is called and whether it is free, and a maintainer is their number at GitHub where it is known, else
//! their login there, else their name: who renames themselves stays who they are.

use std::collections::BTreeSet;

use crate::attr::{License, Maintainer, Meta};
use crate::change::MetaChange;

/// What differs, in a fixed order.
pub(super) fn changes(before: &Meta, after: &Meta) -> Vec<MetaChange> {
    let mut changes = Vec::new();
    if before == after {
        return changes;
    }
    let terms = |of: &'_ License| (of.shown().to_owned(), of.is_unfree());
    if set(&before.licenses, terms) != set(&after.licenses, terms) {
        changes.push(MetaChange::Licenses { from: before.licenses.clone(), to: after.licenses.clone() });
    }
    let added = missing_in(&before.maintainers, &after.maintainers);
    let removed = missing_in(&after.maintainers, &before.maintainers);
    if !added.is_empty() || !removed.is_empty() {
        changes.push(MetaChange::Maintainers { added, removed });
    }
    if before.description != after.description {
        changes.push(MetaChange::Description);
    }
    if before.broken != after.broken {
        changes.push(MetaChange::Broken { now: after.broken });
    }
    if before.insecure != after.insecure {
        changes.push(MetaChange::Insecure { now: after.insecure });
    }
    changes
}

fn set<'a, T, K: Ord>(of: &'a [T], key: impl Fn(&'a T) -> K) -> BTreeSet<K> {
    of.iter().map(key).collect()
}

/// Those of `wanted` who are not among `known`, each once.
fn missing_in(known: &[Maintainer], wanted: &[Maintainer]) -> Vec<Maintainer> {
    let mut seen = set(known, who);
    wanted.iter().filter(|one| seen.insert(who(one))).cloned().collect()
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Who<'a> {
    Number(u64),
    /// In lower case, as GitHub takes them.
    Login(String),
    Name(&'a str),
    Address(&'a str),
    Nobody,
}

fn who(one: &Maintainer) -> Who<'_> {
    match one {
        Maintainer { github_id: Some(id), .. } => Who::Number(*id),
        Maintainer { github: Some(login), .. } => Who::Login(login.to_ascii_lowercase()),
        Maintainer { name: Some(name), .. } => Who::Name(name),
        Maintainer { email: Some(email), .. } => Who::Address(email),
        Maintainer { .. } => Who::Nobody,
    }
}
