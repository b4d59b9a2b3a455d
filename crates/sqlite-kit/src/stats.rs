//! What the writer did so far, counted where it happens and read by whoever serves metrics. Counting is
//! relaxed: a reading is made of numbers that may be one job apart.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the flush histogram, in microseconds. What took longer is counted in the last bucket.
pub const FLUSH_BUCKETS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
const BUCKETS: usize = FLUSH_BUCKETS_MICROS.len() + 1;

/// A reading of the writer's counters; all but the backlog only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Groups committed.
    pub commits: u64,
    /// Groups that failed as a whole.
    pub commits_failed: u64,
    /// Jobs answered after their group committed, those which said no included.
    pub jobs: u64,
    /// Jobs which said no and were rolled back alone.
    pub jobs_failed: u64,
    /// Jobs refused because their lane was full.
    pub jobs_refused: u64,
    /// Most jobs in one group.
    pub group_jobs_max: u64,
    /// Jobs waiting now, by [`crate::Lane::ALL`].
    pub backlog: [usize; 3],
    /// Commits by how long COMMIT took: the i-th counts those up to [`FLUSH_BUCKETS_MICROS`]`[i]`, the last
    /// one the rest. Not cumulative.
    pub flushes: [u64; BUCKETS],
    /// Time spent in COMMIT altogether.
    pub flush_total: Duration,
    /// The last COMMIT.
    pub flush_last: Duration,
    /// Checkpoints that moved pages from the log into the database file.
    pub checkpoints: u64,
    /// Checkpoints that failed; they are tried again after later commits.
    pub checkpoints_failed: u64,
    /// Pages in the log after the last commit.
    pub log_pages: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    commits_failed: AtomicU64,
    jobs: AtomicU64,
    jobs_failed: AtomicU64,
    jobs_refused: AtomicU64,
    group_jobs_max: AtomicU64,
    flushes: [AtomicU64; BUCKETS],
    flush_total_micros: AtomicU64,
    flush_last_micros: AtomicU64,
    checkpoints: AtomicU64,
    checkpoints_failed: AtomicU64,
    log_pages: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self, backlog: [usize; 3]) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            commits: get(&self.commits),
            commits_failed: get(&self.commits_failed),
            jobs: get(&self.jobs),
            jobs_failed: get(&self.jobs_failed),
            jobs_refused: get(&self.jobs_refused),
            group_jobs_max: get(&self.group_jobs_max),
            backlog,
            flushes: std::array::from_fn(|i| get(&self.flushes[i])),
            flush_total: Duration::from_micros(get(&self.flush_total_micros)),
            flush_last: Duration::from_micros(get(&self.flush_last_micros)),
            checkpoints: get(&self.checkpoints),
            checkpoints_failed: get(&self.checkpoints_failed),
            log_pages: get(&self.log_pages),
        }
    }

    pub(crate) fn committed(&self, jobs: u64, failed: u64, flush: Duration) {
        let micros = u64::try_from(flush.as_micros()).unwrap_or(u64::MAX);
        let bucket = FLUSH_BUCKETS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS - 1);
        self.commits.fetch_add(1, Relaxed);
        self.jobs.fetch_add(jobs, Relaxed);
        self.jobs_failed.fetch_add(failed, Relaxed);
        self.group_jobs_max.fetch_max(jobs, Relaxed);
        self.flushes[bucket].fetch_add(1, Relaxed);
        self.flush_total_micros.fetch_add(micros, Relaxed);
        self.flush_last_micros.store(micros, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.commits_failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.jobs_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn checkpointed(&self, ok: bool) {
        let counter = if ok { &self.checkpoints } else { &self.checkpoints_failed };
        counter.fetch_add(1, Relaxed);
    }

    pub(crate) fn log_pages(&self, pages: u64) {
        self.log_pages.store(pages, Relaxed);
    }
}
