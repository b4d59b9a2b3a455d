//! What a change does to a repository's derivations, as types: what became of each attribute, what must be built for
//! it, and why. [`crate::diff`] fills them in from two evaluations and two graphs; reports are written from them.

use std::collections::BTreeMap;

use nix_types::{AttrPath, DrvPath, System};
use serde::{Deserialize, Serialize};

use crate::attr::{AttrError, License, Maintainer};
use crate::id::JobName;

/// An attribute of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobAttr {
    /// The job.
    pub job: JobName,
    /// The attribute below it.
    pub path: AttrPath,
}

/// What became of an attribute that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    /// Which one; of a removed one where it was.
    pub attr: JobAttr,
    /// Where it is, or was, built.
    pub system: System,
    /// What became of it.
    pub kind: ChangeKind,
    /// What its `meta` says differently, beside that.
    pub meta: Vec<MetaChange>,
    /// Its derivation before.
    pub before: Option<DrvPath>,
    /// Its derivation now.
    pub after: Option<DrvPath>,
}

/// What became of an attribute. Exactly one of these holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ChangeKind {
    /// It was not there.
    Added,
    /// It is not there any more, and no other attribute took its place.
    Removed,
    /// It moved, its package the same: rebuilt or not.
    Renamed {
        /// Where it was.
        from: AttrPath,
    },
    /// Another version.
    Bumped {
        /// Before.
        from: String,
        /// Now.
        to: String,
    },
    /// Another derivation of the same version.
    Rebuilt,
    /// The same derivation; only `meta` differs.
    Metadata,
}

/// What a `meta` says differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum MetaChange {
    /// The licences.
    Licenses {
        /// Before.
        from: Vec<License>,
        /// Now.
        to: Vec<License>,
    },
    /// The maintainers.
    Maintainers {
        /// Those who are new.
        added: Vec<Maintainer>,
        /// Those who are gone.
        removed: Vec<Maintainer>,
    },
    /// The description.
    Description,
    /// It is marked as broken now, or not any more.
    Broken {
        /// Is it now?
        now: bool,
    },
    /// It is marked as insecure now, or not any more.
    Insecure {
        /// Is it now?
        now: bool,
    },
}

/// How many attributes of a system had what happen to them, and what is to be built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemCounts {
    /// New attributes.
    pub added: usize,
    /// Attributes that are gone.
    pub removed: usize,
    /// Moved ones.
    pub renamed: usize,
    /// Other versions.
    pub bumped: usize,
    /// Rebuilt ones.
    pub rebuilt: usize,
    /// Those of which only `meta` differs.
    pub metadata: usize,
    /// Those that are as they were.
    pub unchanged: usize,
    /// Those that evaluated and do not any more.
    pub failing: usize,
    /// Those that did not evaluate and do now.
    pub fixed: usize,
    /// Derivations, attributes or not, that are in no closure of the base.
    pub drvs: usize,
    /// Those of `drvs` all of whose outputs are outputs of derivations of the base: other ways to the same things,
    /// of which nothing is to be built. As far as the derivations could be read.
    pub same_outputs: usize,
}

impl SystemCounts {
    /// Several together.
    #[must_use]
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, of| Self {
            added: sum.added + of.added,
            removed: sum.removed + of.removed,
            renamed: sum.renamed + of.renamed,
            bumped: sum.bumped + of.bumped,
            rebuilt: sum.rebuilt + of.rebuilt,
            metadata: sum.metadata + of.metadata,
            unchanged: sum.unchanged + of.unchanged,
            failing: sum.failing + of.failing,
            fixed: sum.fixed + of.fixed,
            drvs: sum.drvs + of.drvs,
            same_outputs: sum.same_outputs + of.same_outputs,
        })
    }

    /// How many derivations are to be built.
    #[must_use]
    pub fn to_build(&self) -> usize {
        self.drvs.saturating_sub(self.same_outputs)
    }
}

/// A derivation that differs by itself, not only because of what it needs; and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCause {
    /// The derivation it was, where there is a counterpart.
    pub before: Option<DrvPath>,
    /// The derivation now.
    pub after: DrvPath,
    /// Where it is built.
    pub system: System,
    /// What is different about it.
    pub differences: Vec<Difference>,
    /// Changed attributes that have it in their closure, itself included, exactly.
    pub attrs: usize,
    /// Some of these, in order of their paths; at most [`CONSEQUENCES_LISTED_MAX`].
    pub examples: Vec<JobAttr>,
    /// New derivations that have it in their closure, itself included, exactly.
    pub drvs: usize,
    /// Attributes that changed because of this one alone, exactly.
    pub attrs_alone: usize,
}

/// Most attributes that a [`RootCause`] lists.
pub const CONSEQUENCES_LISTED_MAX: usize = 10;

/// What is different about a derivation. Values are cut at [`VALUE_BYTES_MAX`], and are attackers' text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Difference {
    /// There is no counterpart.
    New,
    /// A plain source is another one.
    Source {
        /// Its name, without the hash.
        name: String,
    },
    /// It fetches something else: its output's fixed hash differs.
    FixedHash {
        /// Before, as in the derivation.
        from: String,
        /// Now.
        to: String,
    },
    /// It needs a derivation that it did not need.
    InputAdded {
        /// Its name.
        name: String,
    },
    /// It does not need a derivation that it needed.
    InputRemoved {
        /// Its name.
        name: String,
    },
    /// It needs other outputs of a derivation.
    InputOutputs {
        /// The derivation's name.
        name: String,
    },
    /// A variable of its environment differs, was added or taken away.
    Env {
        /// The variable.
        name: String,
        /// Before.
        from: Option<String>,
        /// Now.
        to: Option<String>,
    },
    /// Another builder.
    Builder,
    /// Other arguments for it.
    Args,
    /// Built elsewhere.
    System {
        /// Before.
        from: System,
        /// Now.
        to: System,
    },
    /// It has other outputs.
    Outputs,
    /// The files of the derivations were not there to compare, or the difference is beyond what is looked at.
    Unknown,
}

/// Most bytes of a value in a [`Difference`].
pub const VALUE_BYTES_MAX: usize = 200;

/// How far one new derivation reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The attribute.
    pub attr: JobAttr,
    /// Its system.
    pub system: System,
    /// How many derivations must be built again when it is: its dependants, exactly.
    pub dependants: usize,
}

/// Attributes that do not evaluate, against the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorChanges {
    /// They did before, or were not there.
    pub new: Vec<(JobName, AttrError)>,
    /// They did not before either.
    pub still: Vec<(JobName, AttrError)>,
    /// They do now.
    pub fixed: Vec<JobAttr>,
    /// They did not before, and there is nothing at their place now: no attribute, and no error. Where they would have been
    /// built is not known, so they are in no number by system.
    #[serde(default)]
    pub removed: Vec<JobAttr>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Attributes that are not as they were, by job and path.
    pub changes: Vec<AttrChange>,
    /// Numbers, by system.
    pub systems: BTreeMap<System, SystemCounts>,
    /// Why, most consequences first; at most [`crate::diff::ROOT_CAUSES_LISTED_MAX`].
    pub root_causes: Vec<RootCause>,
    /// How many root causes there are.
    pub root_causes_total: usize,
    /// Which changed attributes reach furthest, furthest first; of each system at most
    /// [`crate::diff::REACH_LISTED_MAX`].
    pub reach: Vec<Reach>,
    /// How many changed attributes others need, listed or not; several with one derivation are one.
    #[serde(default)]
    pub reach_total: usize,
    /// What does not evaluate.
    pub errors: ErrorChanges,
    /// Attributes, of either side, whose derivations were not there to look at, where any has another derivation than
    /// before. Unless it is 0, there may be more to build than is counted, or less, and a root cause may lie further down.
    pub unseen: usize,
}

impl Comparison {
    /// Is everything as it was?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let ErrorChanges { new, still: _, fixed, removed } = &self.errors;
        self.changes.is_empty() && new.is_empty() && fixed.is_empty() && removed.is_empty()
    }

    /// The numbers of all systems together.
    #[must_use]
    pub fn totals(&self) -> SystemCounts {
        SystemCounts::sum(self.systems.values())
    }
}
