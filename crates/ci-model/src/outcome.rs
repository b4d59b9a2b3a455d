//! What a whole run came to, and what is heard of it on the way. The pipeline fills these in; terminals, checks and
//! pages are written from them and from nothing else.

use nix_types::System;
use serde::{Deserialize, Serialize};

use crate::change::Comparison;
use crate::flow::{EvaluationCost, Verdict};
use crate::id::{CommitId, JobName, RepositoryName};

/// Which side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What wants a verdict.
    Head,
    /// What it is compared with.
    Base,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of which repository.
    pub repository: RepositoryName,
    /// `None` for a work tree.
    pub head: Option<CommitId>,
    /// What it was compared with.
    pub base: Option<CommitId>,
    /// How many files differ between the two.
    pub files_changed: usize,
    /// Job by job, by name.
    pub jobs: Vec<JobOutcome>,
    /// What the change does; of everything when there is no base.
    pub comparison: Comparison,
    /// The answer.
    pub verdict: Verdict,
    /// Why that is the answer: one sentence each, the weightiest first.
    pub reasons: Vec<String>,
    /// What a person should know beside: one sentence each.
    pub warnings: Vec<String>,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
}

/// What came of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOutcome {
    /// Its name.
    pub job: JobName,
    /// May attributes of it fail to evaluate?
    pub allows_failures: bool,
    /// Attributes that evaluated at the head, and those that did not.
    pub attrs: usize,
    /// Attributes that did not.
    pub errors: usize,
    /// Systems it has attributes for, sorted.
    pub systems: Vec<System>,
    /// What evaluating the head took; `None` when the head has no such job.
    pub head: Option<EvaluationCost>,
    /// What evaluating the base took; `None` when the base has no such job.
    pub base: Option<EvaluationCost>,
}

/// Something that happened on the way. Whoever shows them may miss any but the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The code is being fetched.
    CheckingOut,
    /// A job's evaluation began.
    Evaluating {
        /// Which one.
        job: JobName,
        /// Of which side.
        side: Side,
    },
    /// How far it is.
    Evaluated {
        /// Which one.
        job: JobName,
        /// Of which side.
        side: Side,
        /// Attributes that evaluated, so far.
        attrs: usize,
        /// Attributes that did not, so far.
        errors: usize,
        /// Of all its evaluators now, in bytes.
        memory_bytes: u64,
    },
    /// It is over.
    EvaluationEnded {
        /// Which one.
        job: JobName,
        /// Of which side.
        side: Side,
        /// Attributes that evaluated.
        attrs: usize,
        /// Attributes that did not.
        errors: usize,
        /// What it took.
        cost: EvaluationCost,
    },
    /// Derivations of what changed are being written and read; so many of so many attributes.
    Instantiating {
        /// Attributes done.
        done: usize,
        /// Of these.
        of: usize,
    },
    /// The two sides are being compared.
    Comparing,
}
