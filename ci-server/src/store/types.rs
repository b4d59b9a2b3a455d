//! What goes into the store and comes out of it, beside the stages' own types in `ci_model`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use ci_model::attr::BuildTraits;
use ci_model::change::{ChangeKind, Comparison};
use ci_model::diff::OutputHash;
use ci_model::drv::DrvRecord;
use ci_model::flow::{BuildState, Trigger, Trust};
use ci_model::outcome::Outcome;
use ci_model::{JobName, TreeId};
use nix_types::{AttrPath, DrvPath, System};
use serde::Serialize;
use service_kit::clock::Time;
use sha2::{Digest, Sha256};

sqlite_kit::typed_id!(
    /// A repository's row.
    RepositoryId
);
sqlite_kit::typed_id!(
    /// A run.
    RunId
);
sqlite_kit::typed_id!(
    /// An evaluation, half or whole.
    EvaluationId
);
sqlite_kit::typed_id!(
    /// A derivation in the store: what it needs has lower ones. Good until the next [`super::Store::forget`].
    DrvId
);

/// Longest key of a run, in bytes.
pub const RUN_KEY_BYTES_MAX: usize = 255;

/// What makes a run the same run when it is begun again: a forge's delivery, or something random.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKey(String);

/// A text that is no key of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a run's key has 1 to {RUN_KEY_BYTES_MAX} bytes, this one has {0}")]
pub struct NotARunKey(usize);

impl RunKey {
    /// A key.
    ///
    /// # Errors
    /// When it is empty or longer than [`RUN_KEY_BYTES_MAX`].
    pub fn new(text: impl Into<String>) -> Result<Self, NotARunKey> {
        let text = text.into();
        if (1..=RUN_KEY_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(NotARunKey(text.len()))
        }
    }

    /// A key that nobody else has: 128 bits of the system's randomness, in hexadecimal.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A run as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Its id.
    pub id: RunId,
    /// What asked for it.
    pub trigger: Trigger,
    /// When it was begun first.
    pub begun: Time,
    /// How it ended, and when; none while it goes on.
    pub end: Option<(RunEnd, Time)>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// With an answer.
    Answered(Box<Outcome>),
    /// It could not be carried through: why, in a sentence.
    Failed(String),
    /// Nobody wants its answer any more.
    Cancelled,
    /// It is a job set of an older server, which does not say.
    TakenOver,
    /// Whoever ran it is gone and did not say. It goes on when it is begun again with its key, and takes any other end.
    Lost,
}

/// One attribute of a comparison, as it can be looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// The job.
    pub job: JobName,
    /// The attribute.
    pub path: AttrPath,
    /// What became of it.
    pub difference: DifferenceCode,
    /// Where it is, or was, built; none where an older database does not say.
    pub system: Option<System>,
    /// Its derivation before.
    pub before: Option<DrvPath>,
    /// Its derivation now.
    pub after: Option<DrvPath>,
}

/// What became of an attribute, as the older server counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DifferenceCode {
    /// It was not there.
    New = 0,
    /// Another derivation, or another name or `meta` for the same one.
    Changed = 1,
    /// It is not there any more.
    Removed = 2,
    /// As it was.
    Unchanged = 3,
}

impl DifferenceCode {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::New, Self::Changed, Self::Removed, Self::Unchanged];

    /// The code in a database.
    #[must_use]
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The one with this code.
    #[must_use]
    pub fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

/// Under what an evaluation is found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EvaluationKey {
    /// Of what.
    pub tree: TreeId,
    /// Which job of it.
    pub job: JobName,
    /// How.
    pub settings: SettingsHash,
}

/// Everything beside the tree and the job that an evaluation's result depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SettingsHash(pub [u8; 32]);

impl SettingsHash {
    /// Of whose trust it is evaluated in and all else that may change what comes of it: the engine with its version,
    /// the job's file and attribute, systems, whether it is restricted, what it may fetch. Trust is always part of it:
    /// what an untrusted change evaluated to is never taken for what a trusted one does.
    #[must_use]
    pub fn of(trust: Trust, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update([trust_code(trust)]);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for SettingsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsHash(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// What lets an evaluation be written. It is good until the store is opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationToken {
    /// Which evaluation.
    pub evaluation: EvaluationId,
    /// Which opening of the store gave it out.
    pub session: i64,
}

/// A derivation as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDrv {
    /// All of it; none when only its state is known, from an older database.
    pub record: Option<DrvRecord>,
    /// What it is in each domain that knows it.
    pub states: Vec<(Domain, BuildState)>,
}

/// How a build ended, by an older database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldState {
    /// Of what.
    pub drv: DrvPath,
    /// Where it was built.
    pub system: System,
    /// For whom that holds.
    pub domain: Domain,
    /// How.
    pub state: BuildState,
}

/// For whom a derivation is in a state: what an untrusted change had built is not there for anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Domain {
    /// Pushes and approved pull requests.
    Trusted = 0,
    /// Other pull requests.
    Untrusted = 1,
}

impl Domain {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Trusted, Self::Untrusted];

    /// The code in a database.
    #[must_use]
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The one with this code.
    #[must_use]
    pub fn of_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.code() == code)
    }
}

/// A derivation of the graph, while it is loaded.
#[derive(Debug)]
pub struct LoadedDrv<'a> {
    /// Its id; ids only grow while a graph is loaded.
    pub id: DrvId,
    /// Its path.
    pub path: &'a DrvPath,
    /// Where it is built.
    pub system: &'a System,
    /// What its build asks for.
    pub traits: &'a BuildTraits,
    /// The hashes of its outputs' paths; `None` where one is known only after the build.
    pub outputs: Option<&'a [OutputHash]>,
    /// What it needs: all of them came before.
    pub inputs: &'a [LoadedInput],
}

/// What a derivation of the graph needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedInput {
    /// Which derivation.
    pub drv: DrvId,
    /// Which of its outputs, sorted.
    pub outputs: Arc<[String]>,
}

/// How much was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GraphSize {
    /// Derivations.
    pub drvs: u64,
    /// What they need, added up.
    pub edges: u64,
}

/// How much was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Runs, with their comparisons.
    pub runs: u64,
    /// Evaluations, half ones among them.
    pub evaluations: u64,
    /// Attributes that no evaluation has any more.
    pub attrs: u64,
    /// Derivations that nothing needs any more.
    pub drvs: u64,
}

pub(super) fn trust_code(trust: Trust) -> u8 {
    match trust {
        Trust::TrustedPush => 0,
        Trust::ApprovedPr => 1,
        Trust::UntrustedPr => 2,
    }
}

pub(super) fn trust_of(code: i64) -> Option<Trust> {
    let all = [Trust::TrustedPush, Trust::ApprovedPr, Trust::UntrustedPr];
    all.into_iter().find(|one| i64::from(trust_code(*one)) == code)
}

/// The rows of a comparison.
pub(super) fn job_rows(comparison: &Comparison) -> impl Iterator<Item = JobRow> + '_ {
    comparison.changes.iter().map(|change| JobRow {
        job: change.attr.job.clone(),
        path: change.attr.path.clone(),
        difference: match change.kind {
            ChangeKind::Added => DifferenceCode::New,
            ChangeKind::Removed => DifferenceCode::Removed,
            ChangeKind::Renamed { .. }
            | ChangeKind::Bumped { .. }
            | ChangeKind::Rebuilt
            | ChangeKind::Metadata => DifferenceCode::Changed,
        },
        system: Some(change.system.clone()),
        before: change.before.clone(),
        after: change.after.clone(),
    })
}
