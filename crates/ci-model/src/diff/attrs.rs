//! The evaluations of both sides come in; what became of each attribute comes out, with the numbers of all of them by
//! system, before any list is cut. Derivations are compared by their paths alone; what must be built and why is for
//! the other parts of [`crate::diff`].
//!
//! An error hides whatever lies at its path or below. So an attribute that lies under an error of the head did not go
//! away: it fails. And one that lies under an error of the base is not new: it is fixed. Where there is nothing now,
//! neither an attribute nor an error, what failed to evaluate is removed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use nix_types::{AttrPath, DrvPath, System};

use super::names::packages;
use super::{meta, renames};
use crate::attr::{Attr, AttrError};
use crate::change::{AttrChange, ChangeKind, ErrorChanges, JobAttr, SystemCounts};
use crate::flow::Evaluation;
use crate::id::JobName;

/// What became of attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttrDiff {
    /// Those that are not as they were, by job and path.
    pub changes: Vec<AttrChange>,
    /// Numbers by system; what must be built is not counted yet.
    pub systems: BTreeMap<System, SystemCounts>,
    /// What does not evaluate.
    pub errors: ErrorChanges,
    /// Those of `errors.fixed`, with what they evaluate to.
    pub fixed: Vec<Fixed>,
}

/// An attribute that evaluates again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Which one.
    pub attr: JobAttr,
    /// Where it is built.
    pub system: System,
    /// Its derivation.
    pub drv: DrvPath,
}

/// Compares the attributes of all jobs. A job that one side lacks has no attributes there: with no evaluation of a base
/// at all, everything is added. Time grows with the number of attributes, times its logarithm where they are not in
/// order.
#[must_use]
pub fn attrs(base: &[Evaluation], head: &[Evaluation]) -> AttrDiff {
    let (base, head) = (by_job(base), by_job(head));
    let mut diff = AttrDiff::default();
    let nothing = Side::default();
    for (job, before) in &base {
        Job { job, diff: &mut diff }.compare(before, head.get(job).unwrap_or(&nothing));
    }
    for (job, after) in head.iter().filter(|(job, _)| !base.contains_key(*job)) {
        Job { job, diff: &mut diff }.compare(&nothing, after);
    }
    diff.changes.sort_by(|a, b| a.attr.cmp(&b.attr));
    diff.fixed.sort_by(|a, b| a.attr.cmp(&b.attr));
    diff.errors.new.sort_by(by_place);
    diff.errors.still.sort_by(by_place);
    diff.errors.removed.sort();
    diff.errors.fixed = diff.fixed.iter().map(|fixed| fixed.attr.clone()).collect();
    diff
}

fn by_place(a: &(JobName, AttrError), b: &(JobName, AttrError)) -> Ordering {
    (&a.0, &a.1.path).cmp(&(&b.0, &b.1.path))
}

/// What a job has on one side, in order of paths.
#[derive(Default)]
struct Side<'a> {
    attrs: Vec<&'a Attr>,
    errors: Vec<&'a AttrError>,
}

fn by_job(evaluations: &[Evaluation]) -> BTreeMap<&JobName, Side<'_>> {
    let mut jobs: BTreeMap<&JobName, Side<'_>> = BTreeMap::new();
    for evaluation in evaluations {
        let side = jobs.entry(&evaluation.job).or_default();
        side.attrs.extend(&evaluation.attrs);
        side.errors.extend(&evaluation.errors);
    }
    for side in jobs.values_mut() {
        // One pass where they are in order already, as they should be.
        side.attrs.sort_by(|a, b| a.path.cmp(&b.path));
        side.errors.sort_by(|a, b| a.path.cmp(&b.path));
    }
    jobs
}

/// The errors of a job by their paths, to find the one that hides a path.
struct Hidden<'a>(HashMap<&'a [String], usize>);

impl<'a> Hidden<'a> {
    fn by(errors: &[&'a AttrError]) -> Self {
        Self(errors.iter().enumerate().map(|(at, error)| (error.path.components(), at)).collect())
    }

    /// The place of the nearest error at `path` or above it.
    fn find(&self, path: &AttrPath) -> Option<usize> {
        let components = path.components();
        let depths = if self.0.is_empty() { 0..0 } else { 0..components.len() + 1 };
        depths.rev().find_map(|depth| self.0.get(&components[..depth]).copied())
    }
}

/// The comparison of one job.
struct Job<'a> {
    job: &'a JobName,
    diff: &'a mut AttrDiff,
}

impl Job<'_> {
    fn compare(&mut self, base: &Side<'_>, head: &Side<'_>) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (before, after) in side_by_side(&base.attrs, &head.attrs) {
            match (before, after) {
                (Some(before), Some(after)) => self.both(before, after),
                (Some(before), None) => gone.push(before),
                (None, Some(after)) => new.push(after),
                (None, None) => {}
            }
        }
        self.failures(&mut gone, base, head);
        self.fixes(&mut new, base);
        self.removals(base, head);
        for (from, to) in renames::take_pairs(&mut gone, &mut new) {
            self.counts(to).renamed += 1;
            self.change(ChangeKind::Renamed { from: from.path.clone() }, Some(from), Some(to));
        }
        for attr in gone {
            self.counts(attr).removed += 1;
            self.change(ChangeKind::Removed, Some(attr), None);
        }
        for attr in new {
            self.counts(attr).added += 1;
            self.change(ChangeKind::Added, None, Some(attr));
        }
    }

    /// An attribute that evaluates on both sides.
    fn both(&mut self, before: &Attr, after: &Attr) {
        if before.drv == after.drv {
            if meta::changes(&before.meta, &after.meta).is_empty() {
                self.counts(after).unchanged += 1;
            } else {
                self.counts(after).metadata += 1;
                self.change(ChangeKind::Metadata, Some(before), Some(after));
            }
        } else if let Some(kind) = bump(before, after) {
            self.counts(after).bumped += 1;
            self.change(kind, Some(before), Some(after));
        } else {
            self.counts(after).rebuilt += 1;
            self.change(ChangeKind::Rebuilt, Some(before), Some(after));
        }
    }

    /// Takes those out of `gone` which an error of the head hides, and sorts these errors into new ones and old ones.
    fn failures(&mut self, gone: &mut Vec<&Attr>, base: &Side<'_>, head: &Side<'_>) {
        let (hidden_now, hidden_before) = (Hidden::by(&head.errors), Hidden::by(&base.errors));
        let mut hides = vec![false; head.errors.len()];
        gone.retain(|attr| {
            let Some(error) = hidden_now.find(&attr.path) else { return true };
            hides[error] = true;
            self.counts(attr).failing += 1;
            false
        });
        for (error, hides) in head.errors.iter().zip(hides) {
            let is_above = below(&base.errors, &error.path, |error| &error.path);
            let around = hidden_before.find(&error.path).map(|at| &base.errors[at]);
            let was_there = is_above.iter().chain(around).any(|before| says_as_much(before, error));
            let errors = &mut self.diff.errors;
            let list = if was_there && !hides { &mut errors.still } else { &mut errors.new };
            list.push((self.job.clone(), (*error).clone()));
        }
    }

    /// Takes those out of `new` which an error of the base hid.
    fn fixes(&mut self, new: &mut Vec<&Attr>, base: &Side<'_>) {
        let hidden = Hidden::by(&base.errors);
        new.retain(|attr| {
            if hidden.find(&attr.path).is_none() {
                return true;
            }
            self.counts(attr).fixed += 1;
            let (system, drv) = (attr.system.clone(), attr.drv.clone());
            self.diff.fixed.push(Fixed { attr: self.place(attr), system, drv });
            false
        });
    }

    /// Errors of the base at whose place the head has nothing.
    fn removals(&mut self, base: &Side<'_>, head: &Side<'_>) {
        let hidden = Hidden::by(&head.errors);
        for error in &base.errors {
            let path = &error.path;
            let is_there = hidden.find(path).is_some()
                || !below(&head.errors, path, |error| &error.path).is_empty()
                || !below(&head.attrs, path, |attr| &attr.path).is_empty();
            if !is_there {
                self.diff.errors.removed.push(JobAttr { job: self.job.clone(), path: path.clone() });
            }
        }
    }

    fn change(&mut self, kind: ChangeKind, before: Option<&Attr>, after: Option<&Attr>) {
        let Some(shown) = after.or(before) else { return };
        let meta = match (before, after) {
            (Some(before), Some(after)) => meta::changes(&before.meta, &after.meta),
            _ => Vec::new(),
        };
        self.diff.changes.push(AttrChange {
            attr: self.place(shown),
            system: shown.system.clone(),
            kind,
            meta,
            before: before.map(|attr| attr.drv.clone()),
            after: after.map(|attr| attr.drv.clone()),
        });
    }

    fn place(&self, attr: &Attr) -> JobAttr {
        JobAttr { job: self.job.clone(), path: attr.path.clone() }
    }

    fn counts(&mut self, attr: &Attr) -> &mut SystemCounts {
        self.diff.systems.entry(attr.system.clone()).or_default()
    }
}

/// Those of these, which are in order of paths, that are at this one or below.
fn below<'a, 'b, T>(all: &'a [&'b T], at: &AttrPath, path: impl Fn(&T) -> &AttrPath) -> &'a [&'b T] {
    let all = &all[all.partition_point(|one| path(one) < at)..];
    &all[..all.partition_point(|one| path(one).starts_with(at))]
}

/// Does the base's error tell that the head's is nothing new? What the machine did to the base says nothing of its code; and
/// that attributes fail is not that nobody looked at them.
fn says_as_much(before: &AttrError, after: &AttrError) -> bool {
    let is_known = !before.kind.is_of_machine() || after.kind.is_of_machine();
    is_known && (before.is_cut_short() || !after.is_cut_short())
}

/// The change of version, or of the package itself, if it is one.
fn bump(before: &Attr, after: &Attr) -> Option<ChangeKind> {
    let (was, is) = packages(before, after);
    if was == is {
        return None;
    }
    let versions = was.version.zip(is.version).filter(|_| was.pname == is.pname);
    let (from, to) = versions.unwrap_or((&before.name, &after.name));
    Some(ChangeKind::Bumped { from: from.to_owned(), to: to.to_owned() })
}

/// Both lists, which are in order of paths, side by side.
fn side_by_side<'a>(base: &[&'a Attr], head: &[&'a Attr]) -> Vec<(Option<&'a Attr>, Option<&'a Attr>)> {
    let (mut base, mut head) = (base.iter().copied().peekable(), head.iter().copied().peekable());
    let mut rows = Vec::new();
    loop {
        let order = match (base.peek(), head.peek()) {
            (Some(before), Some(after)) => before.path.cmp(&after.path),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return rows,
        };
        rows.push(match order {
            Ordering::Less => (base.next(), None),
            Ordering::Equal => (base.next(), head.next()),
            Ordering::Greater => (None, head.next()),
        });
    }
}
