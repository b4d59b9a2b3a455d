//! The lane of one destination: leases what is due and runs attempts, as many at once as the destination allows.
//!
//! In flow wake-ups and the table; out flow leased batches, each handed to `attempt`. A destination that is down,
//! paused or slow holds nobody else's lane. What it deliberately does not do: decide about states (`delivery`),
//! about doubt (`breaker`), or how bytes travel (`push`).

pub(crate) use closure::facts;

mod attempt;
mod closure;
mod hear;
mod settle;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_kit::clock::Mono;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::breaker::{Breaker, Permit};
use crate::config::CacheConfig;
use crate::push::{Leased, Push};
use crate::queue::Queue;
use crate::store::lease::{self, Appetite};

/// How long a lane sleeps when nobody wakes it.
const POLL: Duration = Duration::from_secs(5);
/// Waiting deliveries that one lease moves to `queued` at most.
const WAITS_MAX: u32 = 500;

/// One destination's lane.
pub struct Lane {
    queue: Arc<Queue>,
    /// Its configuration.
    pub config: CacheConfig,
    row: i64,
    push: Arc<dyn Push>,
    breaker: Mutex<Breaker>,
    closures: closure::InFlight,
    nudge: Notify,
    stops: LaneStops,
    /// When a batch that was not full was last started.
    gathering: Mutex<Option<Mono>>,
}

/// The two ways a lane is told to end.
#[derive(Debug, Clone)]
pub struct LaneStops {
    /// Lease nothing more.
    pub leasing: Stop,
    /// End attempts under way; their leases are returned.
    pub attempts: Stop,
}

impl Lane {
    /// A lane over the destination's row.
    #[must_use]
    pub fn new(
        queue: Arc<Queue>,
        config: CacheConfig,
        row: i64,
        push: Arc<dyn Push>,
        stops: LaneStops,
    ) -> Self {
        let breaker = Mutex::new(Breaker::new(config.breaker));
        Self {
            queue,
            config,
            row,
            push,
            breaker,
            closures: closure::InFlight::default(),
            nudge: Notify::new(),
            stops,
            gathering: Mutex::default(),
        }
    }

    /// Says that there may be something to do.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// The engine that brings paths there.
    pub(crate) fn engine(&self) -> &dyn Push {
        &*self.push
    }

    /// The destination's row.
    pub(crate) fn row(&self) -> i64 {
        self.row
    }

    /// The breaker's word, for status and metrics.
    #[must_use]
    pub fn breaker_word(&self) -> &'static str {
        self.breaker().as_str()
    }

    /// Runs until it is told to lease no more, then waits for the attempts under way.
    pub async fn run(self: Arc<Self>) {
        let stops = &self.stops;
        let slots = Arc::new(Semaphore::new(self.config.concurrency));
        while !stops.leasing.is_requested() {
            let pause = self.start_what_is_due(&slots).await;
            tokio::select! {
                () = stops.leasing.requested() => {}
                () = self.nudge.notified() => {}
                () = self.queue.clock.sleep(pause.min(POLL)) => {}
            }
        }
        let all = u32::try_from(self.config.concurrency).unwrap_or(u32::MAX);
        let _all_slots = slots.acquire_many(all).await; // attempts end by themselves or at stops.attempts
    }

    /// Leases and starts until nothing is due or no slot is free; returns how long it may sleep.
    async fn start_what_is_due(self: &Arc<Self>, slots: &Arc<Semaphore>) -> Duration {
        let stops = &self.stops;
        while !stops.leasing.is_requested() {
            if let Some(pause) = self.gathers(slots) {
                return pause;
            }
            // The end of an attempt nudges.
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { return POLL };
            match self.next_batch().await {
                Next::Start { batch, probe } => self.start(batch, probe, slot, stops.attempts.clone()),
                Next::Sleep(pause) => return pause,
            }
        }
        POLL
    }

    /// How long what is due waits for more of it: a moment, while a batch is under way that took all there was.
    fn gathers(&self, slots: &Semaphore) -> Option<Duration> {
        let rules = self.push.rules();
        let since = self.queue.clock.mono().since((*self.gathering())?);
        let alone = slots.available_permits() == self.config.concurrency;
        (!alone && since < rules.gather).then(|| rules.gather - since)
    }

    fn gathering(&self) -> MutexGuard<'_, Option<Mono>> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next_batch(&self) -> Next {
        let queue = &self.queue;
        let policy = self.config.policy;
        match queue.reader.with(|conn| lease::is_paused(conn, self.row)) {
            Ok(false) => {}
            Ok(true) => return Next::Sleep(POLL),
            Err(error) => return self.table_trouble(&error),
        }
        let (now, permit) = {
            let mut breaker = self.breaker();
            // Read under the lock: a failure noted a moment later must not look like a clock that jumped back.
            let now = queue.clock.now();
            (now, breaker.permit(now))
        };
        let probe = match permit {
            Permit::Normal => false,
            Permit::Probe => true,
            Permit::NotBefore(until) => return Next::Sleep(until.since(now)),
        };
        let look = queue.reader.with(|conn| {
            let work = lease::has_work(conn, self.row, probe, now, &policy)?;
            Ok((work, lease::next_due(conn, self.row)?))
        });
        let batch = match look {
            Ok((true, _)) => self.lease(probe).await,
            Ok((false, due)) => {
                self.breaker().probe_unused(now);
                return Next::Sleep(due.map_or(POLL, |due| due.since(now)));
            }
            Err(error) => Err(error),
        };
        match batch {
            Ok(batch) if batch.is_empty() => {
                self.breaker().probe_unused(now);
                Next::Sleep(Duration::from_millis(10)) // somebody else's transaction came between; look again
            }
            Ok(batch) => Next::Start { batch, probe },
            Err(error) => {
                self.breaker().probe_unused(now);
                self.table_trouble(&error)
            }
        }
    }

    async fn lease(&self, probe: bool) -> Result<Vec<Leased>, crate::store::RowError> {
        let (row, policy, rules) = (self.row, self.config.policy, self.push.rules());
        let (now, token, mut rng) = (self.queue.clock.now(), self.queue.next_token(), self.queue.rng());
        let appetite = if probe { Appetite::Probe } else { Appetite::Batch(rules) };
        let leased = self.queue.db.call(DbLane::Urgent, move |tx| {
            lease::end_waits(tx, row, now, WAITS_MAX, &policy, &mut rng)?;
            lease::lease(tx, row, appetite, token, now, &policy, &mut rng)
        });
        leased.await.map_err(crate::store::flatten)
    }

    /// The table cannot be asked now: say so, and look again soon.
    fn table_trouble(&self, error: &crate::store::RowError) -> Next {
        tracing::error!(destination = %self.config.id, "lane of {} cannot read or write the queue: {}", self.config.id, chain(error));
        Next::Sleep(Duration::from_secs(1))
    }

    fn start(self: &Arc<Self>, batch: Vec<Leased>, probe: bool, slot: OwnedSemaphorePermit, stop: Stop) {
        let lane = Arc::clone(self);
        let is_full = batch.len() >= self.push.rules().paths_max;
        *self.gathering() = (!is_full).then(|| self.queue.clock.mono());
        tokio::spawn(async move {
            lane.attempt(batch, probe, &stop).await;
            drop(slot);
            lane.nudge();
        });
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Start { batch: Vec<Leased>, probe: bool },
    Sleep(Duration),
}
