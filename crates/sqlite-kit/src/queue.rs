//! Between the callers and the writer thread: three bounded lanes behind one lock. Callers put jobs in, the
//! thread takes them out in the order of the lanes, within one group's share of each lane.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::StoreError;
use crate::writer::Tx;

/// Jobs a lane holds. Beyond it callers hear [`crate::CallError::Backlog`] at once.
pub const BACKLOG_MAX: usize = 16_384;
/// Jobs of the urgent lane that one group takes.
pub const GROUP_URGENT_MAX: usize = 256;
/// Jobs of the normal lane that one group takes.
pub const GROUP_NORMAL_MAX: usize = 128;
/// Jobs of the bulk lane that one group takes. A bulk job is a chunk of at most 500 rows.
pub const GROUP_BULK_MAX: usize = 1;
/// After this long a group takes no second job from any lane and commits.
pub const GROUP_TIME_MAX: Duration = Duration::from_millis(25);

/// How long a job may wait for others. Every group takes at least one job of each lane that has any, so no
/// lane starves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for an acknowledgement.
    Urgent,
    /// The daemon's own steps.
    Normal,
    /// Loads and clean-up, in chunks of at most 500 rows.
    Bulk,
}

impl Lane {
    /// All lanes, first served first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Normal, Lane::Bulk];

    /// The name in metrics and errors.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Normal => "normal",
            Lane::Bulk => "bulk",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Lane::Urgent => 0,
            Lane::Normal => 1,
            Lane::Bulk => 2,
        }
    }

    fn group_max(self) -> usize {
        match self {
            Lane::Urgent => GROUP_URGENT_MAX,
            Lane::Normal => GROUP_NORMAL_MAX,
            Lane::Bulk => GROUP_BULK_MAX,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One caller's work with its way back. Run at most once, settled exactly once, in this order.
pub(crate) trait Job: Send {
    /// Does the work. `true` keeps its rows, `false` rolls them back.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Tells the caller, once the group's fate is known.
    fn settle(self: Box<Self>, group: Result<(), StoreError>);
}

/// Why a job was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Backlog,
    Stopped,
}

/// How a wait for jobs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Jobs,
    Idle,
    /// Nothing is here and nothing will come.
    Closed,
}

pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    arrived: Condvar,
}

struct Lanes {
    jobs: [VecDeque<Box<dyn Job>>; 3],
    closed: bool,
}

impl Lanes {
    fn waiting(&self) -> usize {
        self.jobs.iter().map(VecDeque::len).sum()
    }
}

impl Queue {
    pub(crate) fn new() -> Queue {
        let jobs = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
        Queue { lanes: Mutex::new(Lanes { jobs, closed: false }), arrived: Condvar::new() }
    }

    pub(crate) fn push(&self, lane: Lane, job: Box<dyn Job>) -> Result<(), Refused> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(Refused::Stopped);
        }
        let jobs = &mut lanes.jobs[lane.index()];
        if jobs.len() >= BACKLOG_MAX {
            return Err(Refused::Backlog);
        }
        jobs.push_back(job);
        drop(lanes);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for a job; `Idle` when none came for `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Waited {
        let lanes = self.lock();
        let nothing = |lanes: &mut Lanes| lanes.waiting() == 0 && !lanes.closed;
        let lanes = self.arrived.wait_timeout_while(lanes, patience, nothing);
        let (lanes, _) = lanes.unwrap_or_else(PoisonError::into_inner);
        match (lanes.waiting(), lanes.closed) {
            (0, true) => Waited::Closed,
            (0, false) => Waited::Idle,
            _ => Waited::Jobs,
        }
    }

    /// Waits until `jobs` are here, but not longer than `patience`.
    pub(crate) fn gather(&self, jobs: usize, patience: Duration) {
        let lanes = self.lock();
        let _ = self // how it ended does not matter: the group takes what is here
            .arrived
            .wait_timeout_while(lanes, patience, |lanes| lanes.waiting() < jobs && !lanes.closed);
    }

    /// Nothing is taken in from now on; what is here will still be done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Closes and gives up what is here; for a writer thread that died.
    pub(crate) fn abandon(&self) {
        let mut lanes = self.lock();
        lanes.closed = true;
        for jobs in &mut lanes.jobs {
            jobs.clear();
        }
    }

    /// Jobs waiting in each lane.
    pub(crate) fn backlog(&self) -> [usize; 3] {
        let lanes = self.lock();
        [lanes.jobs[0].len(), lanes.jobs[1].len(), lanes.jobs[2].len()]
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // No code that can panic runs under the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one group may still take.
pub(crate) struct Share {
    left: [usize; 3],
    until: Instant,
}

impl Share {
    pub(crate) fn new(now: Instant) -> Share {
        Share { left: Lane::ALL.map(Lane::group_max), until: now + GROUP_TIME_MAX }
    }

    /// The next job of the group, if its share of the lanes, and the time, allow one.
    pub(crate) fn take(&mut self, queue: &Queue) -> Option<Box<dyn Job>> {
        let late = Instant::now() >= self.until;
        let mut lanes = queue.lock();
        for lane in Lane::ALL {
            let left = &mut self.left[lane.index()];
            let first = *left == lane.group_max();
            let may = *left > 0 && (first || !late);
            if may && let Some(job) = lanes.jobs[lane.index()].pop_front() {
                *left -= 1;
                return Some(job);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Job for Nothing {
        fn run(&mut self, _: &Tx<'_>) -> bool {
            true
        }

        fn settle(self: Box<Self>, _: Result<(), StoreError>) {}
    }

    fn queue_with(jobs: usize) -> Queue {
        let queue = Queue::new();
        for lane in Lane::ALL {
            for _ in 0..jobs {
                queue.push(lane, Box::new(Nothing)).unwrap();
            }
        }
        queue
    }

    #[test]
    fn a_group_takes_its_share_of_each_lane_and_no_more() {
        let queue = queue_with(1000);
        let mut share =
            Share { until: Instant::now() + Duration::from_secs(60), ..Share::new(Instant::now()) };
        while share.take(&queue).is_some() {}
        let left = [1000 - GROUP_URGENT_MAX, 1000 - GROUP_NORMAL_MAX, 1000 - GROUP_BULK_MAX];
        assert_eq!(queue.backlog(), left);
    }

    #[test]
    fn a_group_out_of_time_still_takes_one_of_each_lane() {
        let queue = queue_with(1000);
        let mut share = Share { until: Instant::now(), ..Share::new(Instant::now()) };
        while share.take(&queue).is_some() {}
        assert_eq!(queue.backlog(), [999, 999, 999]);
    }

    #[test]
    fn gathering_ends_with_its_patience_and_with_the_jobs() {
        let queue = queue_with(1);
        let start = Instant::now();
        queue.gather(4, Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
        queue.gather(3, Duration::from_secs(3600)); // they are here: a wait would never end
    }
}
