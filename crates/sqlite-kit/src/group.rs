//! The writer thread's side: jobs from the queue become one transaction, one flush, and then their answers.
//! Each job has its own savepoint, so one that says no takes back only its own rows. When the transaction
//! itself fails, every job of the group hears so and the thread goes on with the next.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, StoreError, StoreKind, chain};
use crate::open::Options;
use crate::queue::{Job, Share, Waited};
use crate::writer::{Shared, Tx};

/// Pages added to the log from which an idle writer checkpoints.
const CHECKPOINT_PAGES: u64 = 1000;
/// Pages added to the log from which a busy writer checkpoints too.
const CHECKPOINT_PAGES_BUSY: u64 = 4 * CHECKPOINT_PAGES;
/// Without jobs for this long the writer is idle. Longer than callers take to come back with the next.
const IDLE_AFTER: Duration = Duration::from_millis(20);
/// How long an idle writer with nothing to checkpoint sleeps; it is woken by jobs.
const IDLE_SLEEP: Duration = Duration::from_secs(3600);
/// From this flush time on it pays to wait a moment for the callers just answered to come again.
const GATHER_FROM: Duration = Duration::from_millis(1);
/// The moment: this share of the last flush, and never more than [`GATHER_MAX`]. It is over as soon as all are here; a
/// quarter was too short for sixteen callers, who then took turns after all.
const GATHER_SHARE: u32 = 2;
const GATHER_MAX: Duration = Duration::from_millis(4);

pub(crate) struct Loop {
    conn: Option<Connection>,
    path: Arc<Path>,
    shared: Arc<Shared>,
    /// Set by SQLite at each commit.
    log_pages: Arc<AtomicU64>,
    /// Pages that were in the log at the last checkpoint, while the log has not been begun anew since.
    checkpointed_pages: u64,
    /// Jobs of the last group and those that were waiting when its flush ended.
    expected: usize,
    last_flush: Duration,
    failures: u64,
    checkpoint_failed: bool,
}

impl Loop {
    pub(crate) fn new(mut conn: Connection, options: &Options, shared: Arc<Shared>) -> Result<Loop, Error> {
        let path: Arc<Path> = options.path.as_path().into();
        let log_pages = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&log_pages);
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            seen.store(pages.unsigned_abs().into(), Relaxed);
            Ok(())
        }))
        .map_err(|source| Error::Configure {
            path: options.path.clone(),
            setting: "wal hook",
            source,
        })?;
        Ok(Loop {
            conn: Some(conn),
            path,
            shared,
            log_pages,
            checkpointed_pages: 0,
            expected: 0,
            last_flush: Duration::ZERO,
            failures: 0,
            checkpoint_failed: false,
        })
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(&mut self) {
        loop {
            let due = self.pages_to_checkpoint() >= CHECKPOINT_PAGES;
            match self.shared.queue.wait(if due { IDLE_AFTER } else { IDLE_SLEEP }) {
                Waited::Jobs => {
                    self.gather();
                    self.group();
                    if self.pages_to_checkpoint() >= CHECKPOINT_PAGES_BUSY {
                        self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
                    }
                }
                Waited::Idle if due => self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)"),
                Waited::Idle => {}
                Waited::Closed => break,
            }
        }
        self.close();
    }

    /// Callers answered mostly come again at once. Starting with those who waited meanwhile would split all
    /// callers into two halves that take turns at the disk, each group half as large as it could be. So a slow
    /// disk is worth a short wait for the rest; a lone caller never waits.
    fn gather(&self) {
        if self.expected > 1 && self.last_flush >= GATHER_FROM {
            let patience = (self.last_flush / GATHER_SHARE).min(GATHER_MAX);
            self.shared.queue.gather(self.expected, patience);
        }
    }

    fn group(&mut self) {
        let mut group = Group { jobs: Vec::new(), failed: 0 };
        let outcome = self.carry_out(&mut group);
        match &outcome {
            Ok(flush) => {
                self.last_flush = *flush;
                self.shared.counters.committed(group.jobs.len() as u64, group.failed, *flush);
                self.shared.counters.log_pages(self.log_pages.load(Relaxed));
            }
            Err(_) => self.shared.counters.failed(),
        }
        self.expected = group.jobs.len() + self.shared.queue.backlog().iter().sum::<usize>();
        self.tell_health(outcome.as_ref().err(), group.jobs.len());
        let outcome = outcome.map(|_| ());
        for job in group.jobs {
            job.settle(outcome.clone());
        }
    }

    /// One transaction; gives how long its COMMIT took.
    fn carry_out(&self, group: &mut Group) -> Result<Duration, StoreError> {
        let mut share = Share::new(Instant::now());
        if let Err(error) = self.execute("begin", "BEGIN IMMEDIATE") {
            // Nobody may wait for ever behind a lock: a group's worth of jobs hears of it.
            while let Some(job) = share.take(&self.shared.queue) {
                group.jobs.push(job);
            }
            return Err(error);
        }
        let mut flush = self.fill(group, &mut share);
        if flush.is_ok() {
            let start = Instant::now();
            flush = self.execute("commit", "COMMIT").map(|()| start.elapsed());
        }
        if flush.is_err() {
            self.roll_back();
        }
        flush
    }

    fn fill(&self, group: &mut Group, share: &mut Share) -> Result<Duration, StoreError> {
        let tx = Tx::new(self.conn());
        while let Some(job) = share.take(&self.shared.queue) {
            group.jobs.push(job);
            let job = group.jobs.last_mut().expect("it was pushed a line above");
            self.execute("begin job", "SAVEPOINT job")?;
            let keep = job.run(&tx);
            if self.conn().is_autocommit() {
                // A full or failing disk made SQLite roll back the whole transaction under the job.
                return Err(self.error("run job", StoreKind::RolledBack, None));
            }
            if !keep {
                group.failed += 1;
                self.execute("roll back job", "ROLLBACK TO job")?;
            }
            self.execute("end job", "RELEASE job")?;
        }
        Ok(Duration::ZERO)
    }

    fn roll_back(&self) {
        if self.conn().is_autocommit() {
            return; // SQLite did it already
        }
        if let Err(error) = self.execute("roll back", "ROLLBACK") {
            tracing::error!("{}", chain(&error));
        }
    }

    /// Says once that the store fails and once that it works again; each caller hears its own failure.
    fn tell_health(&mut self, error: Option<&StoreError>, jobs: usize) {
        match error {
            Some(error) if self.failures == 0 => {
                tracing::error!(jobs, "{jobs} jobs not stored: {}", chain(error));
                self.failures = 1;
            }
            Some(_) => self.failures += 1,
            None if self.failures > 0 => {
                let failures = std::mem::take(&mut self.failures);
                tracing::info!(
                    failures,
                    "database {} stores again after {failures} failed groups",
                    self.path.display()
                );
            }
            None => {}
        }
    }

    /// Pages added since the last checkpoint. Counted from there, because a long reader keeps the log from
    /// being begun anew, and must not make every commit be followed by a checkpoint.
    fn pages_to_checkpoint(&mut self) -> u64 {
        let pages = self.log_pages.load(Relaxed);
        if pages < self.checkpointed_pages {
            self.checkpointed_pages = 0; // the log was begun anew
        }
        pages - self.checkpointed_pages
    }

    fn checkpoint(&mut self, sql: &str) {
        // Also when it fails: it is tried again after as many pages more, not after every commit.
        self.checkpointed_pages = self.log_pages.load(Relaxed);
        let done = self.conn().query_row(sql, [], |_| Ok(()));
        self.shared.counters.checkpointed(done.is_ok());
        match done {
            Ok(()) => self.checkpoint_failed = false,
            Err(source) if !self.checkpoint_failed => {
                let error = self.error("checkpoint", StoreKind::of(&source), Some(source));
                tracing::warn!("nothing is lost, it is tried again: {}", chain(&error));
                self.checkpoint_failed = true;
            }
            Err(_) => {} // said already
        }
    }

    fn close(&mut self) {
        self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
        let Some(conn) = self.conn.take() else { return };
        if let Err((_, source)) = conn.close() {
            let error = self.error("close", StoreKind::of(&source), Some(source));
            tracing::warn!("{}", chain(&error));
        }
    }

    fn conn(&self) -> &Connection {
        self.conn.as_ref().expect("the connection is taken by close() alone, which is last")
    }

    fn execute(&self, doing: &'static str, sql: &str) -> Result<(), StoreError> {
        let done = self.conn().prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        match done {
            Ok(_) => Ok(()),
            Err(source) => Err(self.error(doing, StoreKind::of(&source), Some(source))),
        }
    }

    fn error(&self, doing: &'static str, kind: StoreKind, source: Option<rusqlite::Error>) -> StoreError {
        StoreError { kind, path: Arc::clone(&self.path), doing, source: source.map(Arc::new) }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Also when a job panicked where panics unwind: callers must not wait for a thread that is gone.
        self.shared.queue.abandon();
    }
}

struct Group {
    jobs: Vec<Box<dyn Job>>,
    failed: u64,
}
