//! What the CI remembers. Runs, what trees evaluate to, and the graph of derivations come in as coarse commands; the
//! same come out, in this process or a later one. [`Store`] is what an engine promises; [`SqliteStore`] is the one that
//! needs no server. Leaves out every decision, and every question about the graph: it is loaded, and asked in memory.
//!
//! Each command is one transaction, or says how many it is and what is seen between them. It has happened when it
//! returns, power cuts included, and all of them bear being given twice: after an error that may pass, give the same
//! command again. Commands block; async code goes through `spawn_blocking`.

mod error;
mod import;
mod sqlite;
mod types;

use std::collections::HashSet;

use ci_model::attr::{Attr, AttrError};
use ci_model::change::Comparison;
use ci_model::drv::DrvRecord;
use ci_model::flow::{Evaluation, EvaluationCost, Trigger};
use ci_model::outcome::Side;
use ci_model::{CommitId, RepositoryName};
use nix_types::DrvPath;
use service_kit::clock::Time;

pub use error::{Class, Fault, Refusal, StoreError};
pub use import::{ImportError, ImportReport, LeftBehind, TakenOver, import};
pub use sqlite::{SqlitePlace, SqliteStore};
pub use types::{
    DifferenceCode, Domain, DrvId, EvaluationId, EvaluationKey, EvaluationToken, Forgotten, GraphSize,
    JobRow, LoadedDrv, LoadedInput, NotARunKey, OldState, RUN_KEY_BYTES_MAX, RepositoryId, RunEnd, RunId,
    RunKey, SettingsHash, StoredDrv, StoredRun,
};

/// Most rows of one command; each is one transaction, and others get their turn between two.
pub const CHUNK_MAX: usize = 500;

/// A store of the CI. Every command gives a [`StoreError`] that names the database and the remedy.
#[expect(clippy::missing_errors_doc, reason = "said once, above")]
pub trait Store: Send + Sync {
    /// The repository of this name; made when it is new.
    fn repository(&self, name: &RepositoryName) -> Result<RepositoryId, StoreError>;

    /// When a commit of a repository was first part of a run; none when it never was.
    fn first_seen(&self, repository: &RepositoryName, commit: &CommitId) -> Result<Option<Time>, StoreError>;

    /// Begins a run. The same key gives the same run, whoever asks and however often; with another trigger it is
    /// refused ([`Refusal::KeyTaken`]). Two runs of one commit under two keys stand beside each other: each has its own
    /// comparison and end, and both use the same evaluations and derivations. It belongs to whoever began it last: once
    /// their store is closed, or their process gone, an open run is lost ([`RunEnd::Lost`]) from the next opening, or the
    /// next [`Store::forget`], on. A lost one that is begun again goes on.
    fn begin_run(&self, key: &RunKey, trigger: &Trigger) -> Result<RunId, StoreError>;

    /// Writes down that a side of a run is this evaluation, which is kept as long as the run is.
    fn use_evaluation(&self, run: RunId, side: Side, evaluation: EvaluationId) -> Result<(), StoreError>;

    /// What a run's change does. In chunks: it is there once the last one is, and a begun one is begun anew. The same
    /// again changes nothing; another one is refused.
    fn record_comparison(&self, run: RunId, comparison: &Comparison) -> Result<(), StoreError>;

    /// Ends a run, with its comparison when it has not been recorded. The same end again changes nothing; another one
    /// is refused, but for one that was lost.
    fn close_run(&self, run: RunId, end: &RunEnd) -> Result<(), StoreError>;

    /// A run.
    fn run(&self, run: RunId) -> Result<Option<StoredRun>, StoreError>;

    /// A run's comparison, once it is recorded.
    fn comparison(&self, run: RunId) -> Result<Option<Comparison>, StoreError>;

    /// A run's attributes that are not as they were; of a run of an older server also those that are. Ordered by job
    /// and path; empty until the comparison is recorded.
    fn job_rows(&self, run: RunId) -> Result<Vec<JobRow>, StoreError>;

    /// What this tree's job evaluates to, when that was evaluated before, to its end. Half an evaluation is never seen
    /// here. Its cost says that it is reused. Using it keeps it from being forgotten.
    fn evaluation(&self, key: &EvaluationKey) -> Result<Option<(EvaluationId, Evaluation)>, StoreError>;

    /// Begins an evaluation. Two of one key may be under way at once; the first to be closed stays, unless
    /// the other is to replace it.
    fn begin_evaluation(&self, key: &EvaluationKey) -> Result<EvaluationToken, StoreError>;

    /// Adds the chunk of this number (from 0, without gaps) to an evaluation: at most [`CHUNK_MAX`] attributes and
    /// errors together. A number that was taken before changes nothing. The chunk is refused as a whole when it names
    /// an attribute that the evaluation has, or names one twice.
    fn add_attrs(
        &self,
        token: EvaluationToken,
        chunk: u32,
        attrs: &[Attr],
        errors: &[AttrError],
    ) -> Result<(), StoreError>;

    /// Says that an evaluation is whole; only now is it found. When another one of its key was closed meanwhile, that
    /// one stays, its id is given, and this one is taken away.
    fn close_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError>;

    /// Says that an evaluation is whole and is what is found from now on: one of its key that was closed before is not
    /// found any more, and stays as it is for the runs that use it. Of two at once the last one is found.
    fn replace_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError>;

    /// Takes away an evaluation that will not be closed. One that is whole stays.
    fn drop_evaluation(&self, token: EvaluationToken) -> Result<(), StoreError>;

    /// Stores derivations, at most [`CHUNK_MAX`]: each behind everything it needs, which is stored already or comes
    /// earlier in the chunk; else the chunk is refused ([`Refusal::InputUnknown`]). So whatever is stored has its whole
    /// closure stored, at every moment, also when an ingest breaks off. Those that are there are passed over. Gives how
    /// many were not.
    fn add_drvs(&self, drvs: &[DrvRecord]) -> Result<usize, StoreError>;

    /// Which of these are stored, and so everything they need: a walk of closures need not look below them.
    fn known_drvs(&self, drvs: &[DrvPath]) -> Result<HashSet<DrvPath>, StoreError>;

    /// One derivation.
    fn drv(&self, drv: &DrvPath) -> Result<Option<StoredDrv>, StoreError>;

    /// Hands over every derivation, what it needs before it, from one moment's view of the store.
    fn load_graph(&self, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, StoreError>;

    /// Notes how builds ended, by an older database; at most [`CHUNK_MAX`] at once. Such a derivation counts as stored
    /// only when [`Store::add_drvs`] brings the rest of it. What has a state keeps it. Gives how many had none.
    fn take_over_states(&self, states: &[OldState]) -> Result<usize, StoreError>;

    /// Adds attributes of an older server's job set to the run that stands for it, at most [`CHUNK_MAX`] at once. With
    /// the last ones the run ends as [`RunEnd::TakenOver`], and its rows are seen. A run that ended takes none: gives
    /// how many were taken.
    fn take_over_jobs(&self, run: RunId, rows: &[JobRow], last: bool) -> Result<usize, StoreError>;

    /// Forgets runs that were begun before this time, evaluations that were used last before it and that no remaining
    /// run uses, and then attributes and derivations that nothing needs any more. What was used within a day stays,
    /// whatever the time says: somebody may be about to refer to it. In many transactions; after each the store is
    /// whole, and what was not done is done the next time.
    fn forget(&self, older_than: Time) -> Result<Forgotten, StoreError>;
}
