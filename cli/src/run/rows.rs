//! The table of changes: an outcome comes in; rows come out, grouped by what became of a package, the systems on which
//! the same became of it in one row. Pure, and before any cut: numbers are never taken from here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ci_model::attr::{License, Maintainer};
use ci_model::change::{AttrChange, ChangeKind, JobAttr, MetaChange};
use ci_model::outcome::Outcome;
use nix_types::{AttrPath, System};

use super::phrase::Phrase;

/// What became of a package, in the order in which people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Status {
    Added,
    Removed,
    Bump,
    Rename,
    /// It is marked as broken or insecure, or not any more.
    Marked,
    License,
    Maintainers,
    Description,
    Rebuild,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Added => "Added",
            Self::Removed => "Removed",
            Self::Bump => "Bump",
            Self::Rename => "Rename",
            Self::Marked => "Marked",
            Self::License => "License",
            Self::Maintainers => "Maintainers",
            Self::Description => "Description",
            Self::Rebuild => "Rebuild",
        }
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Anybody's text.
    pub(crate) name: String,
    pub(crate) change: Phrase,
    /// Where; sorted.
    pub(crate) systems: BTreeSet<System>,
    /// How far it reaches, where that is known.
    reach: usize,
}

/// Groups of rows; in each, what reaches furthest comes first, and then by name.
pub(crate) type Rows = BTreeMap<Status, Vec<Row>>;

/// How things are called in this outcome.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    many_jobs: bool,
}

impl Names {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Self { many_jobs: outcome.jobs.len() > 1 }
    }

    /// An attribute where it lies, with its job when there are several.
    pub(crate) fn attr(self, job: &str, path: &AttrPath) -> String {
        let path = if path.is_root() { "(all of it)".to_owned() } else { path.to_string() };
        if self.many_jobs { format!("{job}: {path}") } else { path }
    }

    /// The same without the component that only says the system: what people call the package.
    pub(crate) fn package(self, attr: &JobAttr, system: &System) -> String {
        self.attr(attr.job.as_str(), &without(&attr.path, system))
    }
}

fn without(path: &AttrPath, system: &System) -> AttrPath {
    let mut components = path.components().to_vec();
    if let Some(place) = components.iter().position(|component| component == system.as_str())
        && components.len() > 1
    {
        components.remove(place);
    }
    // It was a path with one component more.
    AttrPath::new(components).unwrap_or_else(|_| path.clone())
}

/// All rows of an outcome.
pub(crate) fn rows(outcome: &Outcome) -> Rows {
    let names = Names::of(outcome);
    let reach = &outcome.comparison.reach;
    let reach: HashMap<&JobAttr, usize> = reach.iter().map(|reach| (&reach.attr, reach.dependants)).collect();
    let mut merged: BTreeMap<(Status, String, Phrase), (BTreeSet<System>, usize)> = BTreeMap::new();
    for change in &outcome.comparison.changes {
        let name = names.package(&change.attr, &change.system);
        let reach = reach.get(&change.attr).copied().unwrap_or(0);
        for (status, phrase) in said(change) {
            let (systems, furthest) = merged.entry((status, name.clone(), phrase)).or_default();
            systems.insert(change.system.clone());
            *furthest = reach.max(*furthest);
        }
    }
    let mut rows = Rows::new();
    for ((status, name, change), (systems, reach)) in merged {
        rows.entry(status).or_default().push(Row { name, change, systems, reach });
    }
    for group in rows.values_mut() {
        group.sort_by_key(|row| std::cmp::Reverse(row.reach)); // stable: by name among equals
    }
    rows
}

/// What there is to say of one attribute.
fn said(change: &AttrChange) -> Vec<(Status, Phrase)> {
    let mut said: Vec<_> = main(change).into_iter().collect();
    said.extend(change.meta.iter().map(meta));
    said
}

fn main(change: &AttrChange) -> Option<(Status, Phrase)> {
    let name = |drv: &Option<nix_types::DrvPath>| {
        drv.as_ref().map_or_else(Phrase::default, |drv| Phrase::theirs(drv.drv_name()))
    };
    Some(match &change.kind {
        ChangeKind::Added => (Status::Added, name(&change.after)),
        ChangeKind::Removed => (Status::Removed, name(&change.before)),
        ChangeKind::Renamed { from } => {
            let was = Phrase::ours("was ").and_theirs(without(from, &change.system).to_string());
            let is_rebuilt = change.before != change.after;
            (Status::Rename, if is_rebuilt { was.and(", rebuilt") } else { was })
        }
        ChangeKind::Bumped { from, to } => (Status::Bump, arrow(from, to)),
        ChangeKind::Rebuilt => (Status::Rebuild, Phrase::default()),
        ChangeKind::Metadata => return None, // `meta` says it
    })
}

fn arrow(from: impl Into<String>, to: impl Into<String>) -> Phrase {
    Phrase::theirs(from).and(" → ").and_theirs(to)
}

fn meta(change: &MetaChange) -> (Status, Phrase) {
    let marked = |now: bool, what: &str| {
        let text = if now { format!("as {what}") } else { format!("not as {what} any more") };
        (Status::Marked, Phrase::ours(text))
    };
    match change {
        MetaChange::Licenses { from, to } => (Status::License, arrow(licenses(from), licenses(to))),
        MetaChange::Maintainers { added, removed } => (Status::Maintainers, maintainers(added, removed)),
        MetaChange::Description => (Status::Description, Phrase::ours("changed")),
        MetaChange::Broken { now } => marked(*now, "broken"),
        MetaChange::Insecure { now } => marked(*now, "insecure"),
    }
}

fn licenses(licenses: &[License]) -> String {
    if licenses.is_empty() {
        return "none".into();
    }
    licenses.iter().map(license).collect::<Vec<_>>().join(", ")
}

/// What it is called, and that it is not free where the name does not say so.
fn license(license: &License) -> String {
    let name = license.shown();
    let says_so = name.get(..6).is_some_and(|begins| begins.eq_ignore_ascii_case("unfree"));
    if license.is_unfree() && !says_so { format!("{name} (unfree)") } else { name.to_owned() }
}

fn maintainers(added: &[Maintainer], removed: &[Maintainer]) -> Phrase {
    let mut phrase = Phrase::default();
    let signed = added.iter().map(|who| ("+", who)).chain(removed.iter().map(|who| ("−", who)));
    for (place, (sign, who)) in signed.enumerate() {
        phrase = phrase.and(format!("{}{sign}", if place > 0 { ", " } else { "" })).and_theirs(called(who));
    }
    phrase
}

fn called(who: &Maintainer) -> String {
    let names = [who.github.as_ref(), who.name.as_ref(), who.email.as_ref()];
    match (names.into_iter().flatten().next(), who.github_id) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => format!("number {id}"),
        (None, None) => "somebody".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_that_is_not_free_says_so() {
        let said = |name: &str, free| {
            let of = |free| vec![License { spdx: None, name: name.into(), free }];
            meta(&MetaChange::Licenses { from: of(None), to: of(free) }).1.text()
        };
        assert_eq!(said("A", Some(false)), "A → A (unfree)");
        assert_eq!(said("A", Some(true)), "A → A");
        assert_eq!(
            said("Unfree redistributable", Some(false)),
            "Unfree redistributable → Unfree redistributable"
        );
        assert_eq!(said("ünfrei", Some(false)), "ünfrei → ünfrei (unfree)");
    }
}
