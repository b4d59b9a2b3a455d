//! The store in one file, for one machine. Commands come in; statements go to the writer's thread as one job each, and
//! to connections that only read. The text of a chunk is made ready by the caller, so that the writer's time is
//! SQLite's alone. Several processes may use one file: whatever is remembered here is forgotten when another wrote.

mod codec;
mod drvs;
mod evaluations;
mod forget;
mod graph;
mod older;
mod openings;
#[cfg(test)]
mod plans;
mod runs;
mod schema;
mod values;
mod words;

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ci_model::attr::{Attr, AttrError};
use ci_model::change::Comparison;
use ci_model::drv::DrvRecord;
use ci_model::flow::{Evaluation, EvaluationCost, Trigger};
use ci_model::outcome::Side;
use ci_model::{CommitId, RepositoryName};
use nix_types::DrvPath;
use service_kit::clock::{Clock, Time};
use service_kit::telemetry::chain;
use sqlite_kit::rusqlite::{self, Connection};
use sqlite_kit::{CallError, Durability, Lane, Options, Reader, StoreKind, Tx, Writer, WriterThread};

use super::{
    CHUNK_MAX, Class, EvaluationId, EvaluationKey, EvaluationToken, Fault, Forgotten, GraphSize, JobRow,
    LoadedDrv, OldState, Refusal, RepositoryId, RunEnd, RunId, RunKey, Store, StoreError, StoredDrv,
    StoredRun,
};
use evaluations::OfTwo;

const MS_PER_DAY: i64 = 86_400_000;

/// Where a store lies, and by which clock.
#[derive(Debug, Clone)]
pub struct SqlitePlace {
    /// The file; it is made when it is not there, its folder is not.
    pub path: PathBuf,
    /// What time it is.
    pub clock: Clock,
    /// Name of a registered SQLite VFS; `None` is the system's own. Tests inject faults here.
    pub vfs: Option<String>,
}

/// The store in one file.
#[derive(Debug)]
pub struct SqliteStore {
    place: Arc<str>,
    clock: Clock,
    session: i64,
    writer: Writer,
    reader: Reader,
    words: words::Words,
    ids: Arc<drvs::Ids>,
    openings: openings::Openings,
    /// Last, so that it ends when nothing can ask it any more.
    _thread: WriterThread,
}

/// Why a job on the database came to nothing.
#[derive(Debug)]
pub(crate) enum JobError {
    Sql(rusqlite::Error),
    Kit(sqlite_kit::Error),
    Refused(Refusal),
    Unreadable(String),
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<sqlite_kit::Error> for JobError {
    fn from(error: sqlite_kit::Error) -> Self {
        Self::Kit(error)
    }
}

impl From<Refusal> for JobError {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

impl SqliteStore {
    /// Opens the store, or makes it, brings its tables up to date, and ends runs whose process is gone.
    ///
    /// # Errors
    /// When the file cannot be opened, is not ours, is damaged, or is of a later version.
    pub fn open(place: &SqlitePlace) -> Result<Self, StoreError> {
        let options = Options {
            path: place.path.clone(),
            durability: Durability::Full,
            vfs: place.vfs.clone(),
            application_id: schema::APPLICATION_ID,
        };
        let failed = |error: sqlite_kit::Error| opening(&place.path, error);
        let (writer, thread) = Writer::open(&options, schema::MIGRATIONS).map_err(failed)?;
        let reader = Reader::open(&options, schema::MIGRATIONS).map_err(failed)?;
        let session = RandomState::new().build_hasher().finish().cast_signed();
        let store = Self {
            place: format!("database {}", place.path.display()).into(),
            clock: place.clock.clone(),
            session,
            writer,
            reader,
            words: words::Words::default(),
            ids: Arc::default(),
            openings: openings::Openings::new(&place.path, session),
            _thread: thread,
        };
        // On a thread of its own: who opens a store may be driving an async runtime, where waiting is forbidden.
        let ended = std::thread::scope(|scope| scope.spawn(|| store.end_lost()).join());
        if let Err(error) = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            // They stay open until then, which holds nobody up.
            tracing::warn!("{}; the next start tries again", chain(&error));
        }
        Ok(store)
    }

    /// Carries out a job in a transaction; it is on disk when this returns.
    fn write<T: Send + 'static>(
        &self,
        doing: &str,
        lane: Lane,
        job: impl FnOnce(&Tx<'_>) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.writer.call_blocking(lane, job).map_err(|error| match error {
            CallError::Job(error) => self.failed(doing, error),
            CallError::Store(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let error = StoreError::new(doing, &*self.place, fault(error.kind));
                cause.into_iter().fold(error, StoreError::because)
            }
            CallError::Backlog { .. } => StoreError::new(doing, &*self.place, Fault::Busy),
            CallError::Stopped => StoreError::new(doing, &*self.place, Fault::Stopped),
        })
    }

    /// Reads from one moment's view.
    fn read<T>(
        &self,
        doing: &str,
        read: impl FnOnce(&Connection) -> Result<T, JobError>,
    ) -> Result<T, StoreError> {
        self.reader.with(read).map_err(|error| self.failed(doing, error))
    }

    fn failed(&self, doing: &str, error: JobError) -> StoreError {
        let new = |fault| StoreError::new(doing, &*self.place, fault);
        match error {
            JobError::Sql(error) => new(fault(StoreKind::of(&error))).because(error),
            JobError::Kit(error) => new(Fault::Open(class_of(&error))).because(error),
            JobError::Refused(why) => new(Fault::Refused(why)),
            JobError::Unreadable(what) => new(Fault::Damaged(what)),
        }
    }

    /// What cannot be written as JSON, which nothing of ours is.
    fn unwritable(&self, doing: &str, source: serde_json::Error) -> StoreError {
        StoreError::new(doing, &*self.place, Fault::Ours).because(source)
    }

    fn refused<T>(&self, doing: &str, why: Refusal) -> Result<T, StoreError> {
        Err(self.failed(doing, why.into()))
    }

    /// Refuses a chunk that is too large.
    fn check_chunk(&self, doing: &str, rows: usize) -> Result<(), StoreError> {
        if rows > CHUNK_MAX { self.refused(doing, Refusal::ChunkTooLarge(rows)) } else { Ok(()) }
    }

    fn today(&self) -> i64 {
        self.clock.now().as_ms() / MS_PER_DAY
    }
}

/// A number of rows as SQLite takes it.
fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn opening(path: &Path, error: sqlite_kit::Error) -> StoreError {
    let place = format!("database {}", path.display());
    StoreError::new("open the CI's store", place, Fault::Open(class_of(&error))).because(error)
}

fn class_of(error: &sqlite_kit::Error) -> Class {
    let of = |source: &rusqlite::Error| match StoreKind::of(source) {
        StoreKind::Full => Class::DiskFull,
        StoreKind::Busy => Class::Retry,
        StoreKind::Corrupt => Class::Damaged,
        StoreKind::Io | StoreKind::RolledBack | StoreKind::Other => Class::Operator,
    };
    match error {
        sqlite_kit::Error::NotADatabase { .. } | sqlite_kit::Error::Damaged { .. } => Class::Damaged,
        sqlite_kit::Error::Create { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Class::DiskFull
        }
        sqlite_kit::Error::Open { source, .. }
        | sqlite_kit::Error::Migrate { source, .. }
        | sqlite_kit::Error::Configure { source, .. }
        | sqlite_kit::Error::Read { source, .. } => of(source),
        _ => Class::Operator,
    }
}

fn fault(kind: StoreKind) -> Fault {
    match kind {
        StoreKind::Full => Fault::Full,
        StoreKind::Io | StoreKind::RolledBack => Fault::Disk,
        StoreKind::Busy => Fault::Busy,
        StoreKind::Corrupt => Fault::Damaged("SQLite says so".into()),
        StoreKind::Other => Fault::Ours,
    }
}

impl Store for SqliteStore {
    fn repository(&self, name: &RepositoryName) -> Result<RepositoryId, StoreError> {
        self.repository_row(name)
    }

    fn first_seen(&self, repository: &RepositoryName, commit: &CommitId) -> Result<Option<Time>, StoreError> {
        self.first_seen_at(repository, commit)
    }

    fn begin_run(&self, key: &RunKey, trigger: &Trigger) -> Result<RunId, StoreError> {
        self.begin(key, trigger)
    }

    fn use_evaluation(&self, run: RunId, side: Side, evaluation: EvaluationId) -> Result<(), StoreError> {
        self.link(run, side, evaluation)
    }

    fn record_comparison(&self, run: RunId, comparison: &Comparison) -> Result<(), StoreError> {
        self.record(run, comparison)
    }

    fn close_run(&self, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        self.close(run, end)
    }

    fn run(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        self.stored_run(run)
    }

    fn comparison(&self, run: RunId) -> Result<Option<Comparison>, StoreError> {
        self.stored_comparison(run)
    }

    fn job_rows(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        self.stored_job_rows(run)
    }

    fn evaluation(&self, key: &EvaluationKey) -> Result<Option<(EvaluationId, Evaluation)>, StoreError> {
        self.whole_evaluation(key)
    }

    fn begin_evaluation(&self, key: &EvaluationKey) -> Result<EvaluationToken, StoreError> {
        self.open_evaluation(key)
    }

    fn add_attrs(
        &self,
        token: EvaluationToken,
        chunk: u32,
        attrs: &[Attr],
        errors: &[AttrError],
    ) -> Result<(), StoreError> {
        self.add_chunk(token, chunk, attrs, errors)
    }

    fn close_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError> {
        self.make_whole(token, cost, OfTwo::First)
    }

    fn replace_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError> {
        self.make_whole(token, cost, OfTwo::Last)
    }

    fn drop_evaluation(&self, token: EvaluationToken) -> Result<(), StoreError> {
        self.give_up(token)
    }

    fn add_drvs(&self, drvs: &[DrvRecord]) -> Result<usize, StoreError> {
        self.insert_drvs(drvs)
    }

    fn known_drvs(&self, drvs: &[DrvPath]) -> Result<HashSet<DrvPath>, StoreError> {
        self.known(drvs)
    }

    fn drv(&self, drv: &DrvPath) -> Result<Option<StoredDrv>, StoreError> {
        self.stored_drv(drv)
    }

    fn load_graph(&self, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, StoreError> {
        self.load(each)
    }

    fn take_over_states(&self, states: &[OldState]) -> Result<usize, StoreError> {
        self.add_states(states)
    }

    fn take_over_jobs(&self, run: RunId, rows: &[JobRow], last: bool) -> Result<usize, StoreError> {
        self.add_jobs(run, rows, last)
    }

    fn forget(&self, older_than: Time) -> Result<Forgotten, StoreError> {
        self.forget_all(older_than)
    }
}
