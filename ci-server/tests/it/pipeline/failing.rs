//! A store whose disk is full in chosen commands, and only there: the errors are SQLite's own.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ci_model::attr::{Attr, AttrError};
use ci_model::change::Comparison;
use ci_model::drv::DrvRecord;
use ci_model::flow::{Evaluation, EvaluationCost, Trigger};
use ci_model::outcome::Side;
use ci_model::{CommitId, RepositoryName};
use ci_server::store::{
    EvaluationId, EvaluationKey, EvaluationToken, Forgotten, GraphSize, JobRow, LoadedDrv, OldState,
    RepositoryId, RunEnd, RunId, RunKey, SqlitePlace, SqliteStore, Store, StoreError, StoredDrv, StoredRun,
};
use nix_types::DrvPath;
use service_kit::clock::{Clock, Time};
use test_kit::vfs::{Fault, Shim};

/// A command that fails: the first, the second, …, or each of them.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) command: &'static str,
    pub(crate) nth: Option<usize>,
}

pub(crate) struct Failing {
    inner: SqliteStore,
    shim: Shim,
    strikes: Vec<Strike>,
    /// How often each command was given; held while one is carried out, so that no other one meets the full disk.
    given: Mutex<HashMap<&'static str, usize>>,
    struck: Mutex<usize>,
}

impl Failing {
    /// A disk; one for each name in a process.
    pub(crate) fn shim(name: &str) -> Shim {
        Shim::install(name)
    }

    pub(crate) fn open(database: &Path, shim: Shim, strikes: Vec<Strike>) -> Self {
        let vfs = Some(shim.name().to_owned());
        let place = SqlitePlace { path: database.to_owned(), clock: Clock::system(), vfs };
        let inner = SqliteStore::open(&place).unwrap();
        Self { inner, shim, strikes, given: Mutex::default(), struck: Mutex::default() }
    }

    /// How many commands failed.
    pub(crate) fn struck(&self) -> usize {
        *self.struck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at<T>(
        &self,
        command: &'static str,
        give: impl FnOnce(&SqliteStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let count = given.entry(command).or_default();
        *count += 1;
        let strikes = |of: &Strike| of.command == command && of.nth.is_none_or(|nth| nth == *count);
        if !self.strikes.iter().any(strikes) {
            return give(&self.inner);
        }
        self.shim.fail(Fault::Full, 0);
        let done = give(&self.inner);
        assert!(self.shim.heal() > 0 && done.is_err(), "{command} meets the full disk");
        *self.struck.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        done
    }
}

impl Store for Failing {
    fn repository(&self, name: &RepositoryName) -> Result<RepositoryId, StoreError> {
        self.at("repository", |store| store.repository(name))
    }

    fn first_seen(&self, repository: &RepositoryName, commit: &CommitId) -> Result<Option<Time>, StoreError> {
        self.inner.first_seen(repository, commit)
    }

    fn begin_run(&self, key: &RunKey, trigger: &Trigger) -> Result<RunId, StoreError> {
        self.at("begin_run", |store| store.begin_run(key, trigger))
    }

    fn use_evaluation(&self, run: RunId, side: Side, evaluation: EvaluationId) -> Result<(), StoreError> {
        self.at("use_evaluation", |store| store.use_evaluation(run, side, evaluation))
    }

    fn record_comparison(&self, run: RunId, comparison: &Comparison) -> Result<(), StoreError> {
        self.at("record_comparison", |store| store.record_comparison(run, comparison))
    }

    fn close_run(&self, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        self.at("close_run", |store| store.close_run(run, end))
    }

    fn run(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        self.inner.run(run)
    }

    fn comparison(&self, run: RunId) -> Result<Option<Comparison>, StoreError> {
        self.inner.comparison(run)
    }

    fn job_rows(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        self.inner.job_rows(run)
    }

    fn evaluation(&self, key: &EvaluationKey) -> Result<Option<(EvaluationId, Evaluation)>, StoreError> {
        self.inner.evaluation(key)
    }

    fn begin_evaluation(&self, key: &EvaluationKey) -> Result<EvaluationToken, StoreError> {
        self.at("begin_evaluation", |store| store.begin_evaluation(key))
    }

    fn add_attrs(
        &self,
        token: EvaluationToken,
        chunk: u32,
        attrs: &[Attr],
        errors: &[AttrError],
    ) -> Result<(), StoreError> {
        self.at("add_attrs", |store| store.add_attrs(token, chunk, attrs, errors))
    }

    fn close_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError> {
        self.at("close_evaluation", |store| store.close_evaluation(token, cost))
    }

    fn replace_evaluation(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
    ) -> Result<EvaluationId, StoreError> {
        self.at("replace_evaluation", |store| store.replace_evaluation(token, cost))
    }

    fn drop_evaluation(&self, token: EvaluationToken) -> Result<(), StoreError> {
        self.at("drop_evaluation", |store| store.drop_evaluation(token))
    }

    fn add_drvs(&self, drvs: &[DrvRecord]) -> Result<usize, StoreError> {
        self.at("add_drvs", |store| store.add_drvs(drvs))
    }

    fn known_drvs(&self, drvs: &[DrvPath]) -> Result<HashSet<DrvPath>, StoreError> {
        self.inner.known_drvs(drvs)
    }

    fn drv(&self, drv: &DrvPath) -> Result<Option<StoredDrv>, StoreError> {
        self.inner.drv(drv)
    }

    fn load_graph(&self, each: &mut dyn FnMut(&LoadedDrv<'_>)) -> Result<GraphSize, StoreError> {
        self.inner.load_graph(each)
    }

    fn take_over_states(&self, states: &[OldState]) -> Result<usize, StoreError> {
        self.at("take_over_states", |store| store.take_over_states(states))
    }

    fn take_over_jobs(&self, run: RunId, rows: &[JobRow], last: bool) -> Result<usize, StoreError> {
        self.at("take_over_jobs", |store| store.take_over_jobs(run, rows, last))
    }

    fn forget(&self, older_than: Time) -> Result<Forgotten, StoreError> {
        self.at("forget", |store| store.forget(older_than))
    }
}
