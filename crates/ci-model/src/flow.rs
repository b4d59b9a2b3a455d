//! The life of a change, told by the types its stages hand on. Each stage takes the type above it and gives the one
//! below; what a stage decides, it decides in this crate, and what it does, it does in `ci-server`, in a folder of the
//! stage's name.
//!
//! A forge, or a person at a terminal, says that a commit wants a verdict: a [`Trigger`]. Its code is fetched, and the
//! code it is compared with: a [`Checkout`]. Each job of each side is evaluated: [`Evaluation`]s. The two sides are
//! compared: a [`Comparison`]. What must be built for it is put in line: [`Wanted`]. Whenever a builder is free, one of
//! them goes there: an [`Assignment`]. It ends somehow: an [`Attempt`]. That is written down, and decides what follows
//! from it: a [`Record`]. The forge hears of it: a [`Report`]. And what was built goes to the caches: a [`Push`], which
//! is a request to `eka-queue`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix_types::{AttrPath, DrvPath, StorePath, System};
use serde::{Deserialize, Serialize};

use crate::attr::{Attr, AttrError};
pub use crate::change::Comparison;
use crate::id::{CommitId, JobName, RepositoryName, TreeId};

// 1. webhook ------------------------------------------------------------------------------------------------------------

/// A commit that wants a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Whose.
    pub repository: RepositoryName,
    /// Why now.
    pub cause: Cause,
    /// The commit; `None` for a work tree as it lies there.
    pub head: Option<CommitId>,
    /// What it is compared with; `None` when there is nothing before it.
    pub base: Option<CommitId>,
    /// How far its code is trusted; fixed here, carried in every row from now on.
    pub trust: Trust,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Commits were pushed to a branch.
    Push {
        /// Without `refs/heads/`.
        branch: String,
    },
    /// A pull request was opened, or has other commits.
    PullRequest {
        /// Its number.
        number: u64,
    },
    /// A person asked for it: `ekaci run`.
    Person,
}

/// How far code is trusted, with [`crate::TrustClass`] as what it is decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// A push to the repository itself, or a person's own work tree.
    TrustedPush,
    /// A pull request at a commit that was approved, or whose author may write.
    ApprovedPr,
    /// Any other pull request.
    UntrustedPr,
}

// 2. checkout -----------------------------------------------------------------------------------------------------------

/// The code of both sides, on disk and not to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// What wants a verdict.
    pub head: Source,
    /// What it is compared with.
    pub base: Option<Source>,
    /// Files that differ between the two, from the root of the repository, sorted.
    pub changed: Vec<String>,
}

/// The code of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `None` for a work tree.
    pub commit: Option<CommitId>,
    /// What it holds.
    pub tree: TreeId,
    /// Where it lies.
    pub folder: PathBuf,
}

// 3. evaluate -----------------------------------------------------------------------------------------------------------

/// What one job of one side evaluates to. Attributes and errors are in order of their paths; each path is in one of
/// them once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The job.
    pub job: JobName,
    /// Of which tree.
    pub tree: TreeId,
    /// What it has.
    pub attrs: Vec<Attr>,
    /// What it could not have.
    pub errors: Vec<AttrError>,
    /// What it took.
    pub cost: EvaluationCost,
}

/// What an evaluation took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationCost {
    /// `nix-eval-jobs 2.33.0`, `walker (Nix 2.8.0)`.
    pub engine: String,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
    /// Of all evaluators, in milliseconds.
    pub cpu_ms: u64,
    /// The most memory that one evaluator had, in bytes.
    pub memory_peak_bytes: u64,
    /// How many evaluators were started.
    pub processes: u32,
    /// Was it taken from an earlier one of the same tree?
    pub reused: bool,
}

// 4. diff: a `Comparison`, in crate::change -----------------------------------------------------------------------------

// 5. schedule -----------------------------------------------------------------------------------------------------------

/// A derivation that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What to build.
    pub drv: DrvPath,
    /// Where it can be built.
    pub system: System,
    /// In whose trust: what an untrusted change asks for is built for nobody else.
    pub trust: Trust,
    /// Which attributes wait for it.
    pub waiting: Vec<(JobName, AttrPath)>,
}

/// A derivation on its way to a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// What to build.
    pub drv: DrvPath,
    /// In whose trust.
    pub trust: Trust,
    /// Where.
    pub builder: String,
    /// The lease's token: a result with an older one is refused.
    pub token: u64,
}

// 6. build --------------------------------------------------------------------------------------------------------------

/// One try to build a derivation, over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried, where, under which token.
    pub assignment: Assignment,
    /// How it ended.
    pub end: AttemptEnd,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Built, or substituted: output paths by name.
    Success(BTreeMap<String, StorePath>),
    /// The builder said no.
    Failure,
    /// Something it needs failed.
    DependencyFailure(DrvPath),
    /// It took longer than it may.
    TimedOut,
    /// It said nothing for longer than it may.
    Silent,
    /// It took more memory than there was.
    OutOfMemory,
    /// It said more than is kept.
    LogLimit,
    /// Nobody waits for it any more.
    Cancelled,
    /// Not its fault: a machine, a disk, a connection.
    Infrastructure(String),
}

// 7. record -------------------------------------------------------------------------------------------------------------

/// What is written down of an attempt, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Of which derivation.
    pub drv: DrvPath,
    /// What it is now.
    pub state: BuildState,
    /// Derivations that can be built now, or never will be, because of it.
    pub follows: Vec<(DrvPath, BuildState)>,
}

/// What a derivation is. Codes are those of the database of the older server, so that it can be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i16)]
pub enum BuildState {
    /// It waits for what it needs.
    Queued = 0,
    /// All it needs is there.
    Buildable = 1,
    /// It failed once and is tried again.
    FailedRetry = 2,
    /// A builder has it.
    Building = 7,
    /// Its outputs are there.
    Success = 42,
    /// It waits for a word of a person.
    Blocked = 100,
    /// It cannot be built.
    Failure = -1,
    /// What it needs cannot be built.
    TransitiveFailure = -2,
    /// No builder can build it.
    Unsatisfiable = -3,
    /// The scheduler was lost with it.
    SchedulerDeath = -13,
    /// Its builder's process was lost.
    ProcessDeath = -66,
    /// Nobody waits for it any more.
    Cancelled = -86,
    /// It took more memory than there was.
    OutOfMemory = -104,
    /// It took longer than it may.
    TimedOut = -120,
}

// 8. report -------------------------------------------------------------------------------------------------------------

/// A check as a forge shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// On which commit.
    pub commit: CommitId,
    /// The check's name.
    pub name: String,
    /// What it says about the change; `None` while it is under way.
    pub verdict: Option<Verdict>,
    /// One line.
    pub title: String,
    /// Markdown.
    pub summary: String,
}

/// Should this be merged?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Yes, as far as was looked.
    Good,
    /// No: it breaks something that worked.
    Bad,
    /// A person has to say something first.
    NeedsAction,
    /// Nothing to say: no job, or nothing that could have changed.
    Neutral,
}

// 9. push ---------------------------------------------------------------------------------------------------------------

/// What goes to caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Output paths.
    pub paths: Vec<StorePath>,
    /// Of which derivation.
    pub drv: DrvPath,
    /// Ids of caches.
    pub caches: Vec<String>,
    /// Whose permission decides.
    pub trust: Trust,
}

impl BuildState {
    /// Every state.
    pub const ALL: [Self; 14] = [
        Self::Queued,
        Self::Buildable,
        Self::FailedRetry,
        Self::Building,
        Self::Success,
        Self::Blocked,
        Self::Failure,
        Self::TransitiveFailure,
        Self::Unsatisfiable,
        Self::SchedulerDeath,
        Self::ProcessDeath,
        Self::Cancelled,
        Self::OutOfMemory,
        Self::TimedOut,
    ];

    /// The code in a database.
    #[must_use]
    pub fn code(self) -> i16 {
        self as i16
    }

    /// The state with this code.
    #[must_use]
    pub fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| i64::from(state.code()) == code)
    }

    /// Will it stay as it is, unless somebody asks again?
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Buildable | Self::FailedRetry | Self::Building | Self::Blocked => false,
            Self::Success
            | Self::Failure
            | Self::TransitiveFailure
            | Self::Unsatisfiable
            | Self::SchedulerDeath
            | Self::ProcessDeath
            | Self::Cancelled
            | Self::OutOfMemory
            | Self::TimedOut => true,
        }
    }
}
