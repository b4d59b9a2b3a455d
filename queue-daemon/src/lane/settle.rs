//! Writes what became of deliveries, and then tells the rest: roots, metrics, waiters.
//!
//! In flow outcomes; out flow committed states. A result that cannot be written (the disk is full) is kept and
//! written later: the bytes have been sent, and forgetting that would send them again.

use std::time::Duration;

use nix_types::StorePath;
use service_kit::clock::Time;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane};

use super::Lane;
use crate::delivery::{Event, LeaseToken, StateName};
use crate::push::Leased;
use crate::store::RowError;
use crate::store::cache;
use crate::store::lease::{self, Settlement};
use crate::store::machine::Applied;

/// The pause before a result that could not be written is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Paths remembered as present in one transaction.
const PRESENT_CHUNK: usize = 500;

/// What became of one delivery.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    settlement: Settlement,
    path: StorePath,
    /// Bytes that left for it.
    bytes: u64,
    /// The size of its NAR.
    nar_bytes: u64,
    queued: Time,
}

impl Outcome {
    pub(super) fn of(leased: &Leased, settlement: Settlement) -> Self {
        let (path, nar_bytes, queued) = (leased.path.clone(), leased.nar_bytes, leased.queued);
        Self { settlement, path, bytes: 0, nar_bytes, queued }
    }

    /// The same, with the bytes that left.
    pub(super) fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }
}

impl Lane {
    /// Writes the step between two flushes: nobody waits for it, and a crash only loses the word.
    pub(super) fn mark(&self, part: &[Leased], event: fn(LeaseToken) -> Event) {
        let steps: Vec<(i64, Event)> =
            part.iter().map(|leased| (leased.delivery, event(leased.token))).collect();
        let (now, policy, mut rng) = (self.queue.clock.now(), self.config.policy, self.queue.rng());
        self.queue.db.post(DbLane::Normal, "progress of a batch", move |tx| {
            for (delivery, event) in steps {
                crate::store::machine::apply(tx, delivery, event, now, &policy, &mut rng)?;
            }
            Ok::<(), RowError>(())
        });
    }

    /// Writes outcomes until they are on disk, then lets everybody know.
    pub(super) async fn settle(&self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        let applied = loop {
            match self.write(&outcomes).await {
                Ok(applied) => break applied,
                Err(CallError::Stopped) => return, // the next start returns the leases and sends again
                Err(error) => {
                    let id = &self.config.id;
                    tracing::error!(destination = %id, "results of {id} cannot be written yet: {}", chain(&error));
                    if self.stops.attempts.is_requested() {
                        return; // stop_timeout is over; the next start returns the leases and sends again
                    }
                    self.queue.clock.sleep(WRITE_AGAIN).await;
                }
            }
        };
        self.tell(&outcomes, &applied);
        self.queue.say_changed();
        self.release_roots(&outcomes, &applied).await;
    }

    async fn write(&self, outcomes: &[Outcome]) -> Result<Vec<Applied>, CallError<RowError>> {
        let settlements: Vec<Settlement> =
            outcomes.iter().map(|outcome| outcome.settlement.clone()).collect();
        let bytes: u64 = outcomes.iter().map(|outcome| outcome.bytes).sum();
        let (row, policy) = (self.row, self.config.policy);
        let (now, mut rng) = (self.queue.clock.now(), self.queue.rng());
        self.queue
            .db
            .call(DbLane::Normal, move |tx| {
                let mut applied = Vec::with_capacity(settlements.len());
                for settlement in &settlements {
                    applied.push(lease::settle(tx, settlement, now, &policy, &mut rng)?);
                }
                if bytes > 0 {
                    lease::add_bytes(tx, row, bytes)?;
                }
                Ok(applied)
            })
            .await
    }

    fn tell(&self, outcomes: &[Outcome], applied: &[Applied]) {
        let (id, now) = (&self.config.id, self.queue.clock.now());
        for (outcome, applied) in outcomes.iter().zip(applied) {
            let path = &outcome.path;
            match applied {
                Applied::Moved(state) => {
                    self.queue.metrics.settled(id, *state, now.since(outcome.queued), outcome.bytes);
                    if let Event::Failed { class, .. } = &outcome.settlement.event {
                        self.queue.metrics.failed(id, *class);
                    }
                    if let (StateName::Done, Some(progress)) = (state, self.queue.progress.of(id.as_str())) {
                        progress.done(outcome.nar_bytes);
                    }
                    self.log(outcome, *state);
                }
                Applied::Refused(refused) => {
                    tracing::warn!(destination = %id, store.path = %path, "late result for {path} at {id} refused: {refused}");
                }
                Applied::Missing => {
                    tracing::info!(destination = %id, store.path = %path, "{path} for {id} was dropped meanwhile");
                }
            }
        }
    }

    fn log(&self, outcome: &Outcome, state: StateName) {
        let (id, path) = (&self.config.id, &outcome.path);
        let why = match &outcome.settlement.event {
            Event::Failed { why, .. } => why.as_str(),
            _ => "",
        };
        match state {
            StateName::Done => {
                tracing::info!(destination = %id, store.path = %path, "delivered {path} to {id}");
            }
            StateName::Dead => {
                tracing::error!(destination = %id, store.path = %path, "gave up {path} for {id}: {why}");
            }
            StateName::Waiting => {
                tracing::warn!(destination = %id, store.path = %path, "will retry {path} to {id}: {why}");
            }
            StateName::Gone => {
                tracing::warn!(destination = %id, store.path = %path, "{path} vanished from the store before it reached {id}");
            }
            StateName::Queued | StateName::Leased | StateName::Pushing | StateName::Verifying => {
                tracing::debug!(destination = %id, store.path = %path, "{path} for {id} is back in the queue");
            }
        }
    }

    async fn release_roots(&self, outcomes: &[Outcome], applied: &[Applied]) {
        let ended = |applied: &Applied| match applied {
            Applied::Moved(state) => matches!(state, StateName::Done | StateName::Gone),
            Applied::Missing => true,
            Applied::Refused(_) => false,
        };
        let paths: Vec<StorePath> = outcomes
            .iter()
            .zip(applied)
            .filter(|(_, applied)| ended(applied))
            .map(|(outcome, _)| outcome.path.clone())
            .collect();
        crate::roots::release_all(&self.queue.roots, paths).await;
    }

    /// Remembers a closure the destination had in an attempt that began then. Only saves work later, so nobody waits for it.
    pub(super) async fn remember_present(&self, closure: &[StorePath], begun: Time) {
        let (row, until) = (self.row, self.queue.clock.now() + self.config.presence_ttl);
        for chunk in closure.chunks(PRESENT_CHUNK) {
            let chunk = chunk.to_vec();
            let written = self
                .queue
                .db
                .call(DbLane::Bulk, move |tx| cache::remember_present(tx, row, &chunk, begun, until))
                .await;
            if let Err(error) = written {
                tracing::debug!("presence not remembered: {}", chain(&error)); // asked again next time
                return;
            }
        }
    }

    /// The destination is back: what waited only for that is due now.
    pub(super) async fn wake_after_outage(&self) {
        loop {
            let (row, policy) = (self.row, self.config.policy);
            let (now, mut rng) = (self.queue.clock.now(), self.queue.rng());
            let woken = self
                .queue
                .db
                .call(DbLane::Bulk, move |tx| {
                    lease::end_outage_waits(tx, row, now, super::WAITS_MAX, &policy, &mut rng)
                })
                .await;
            match woken {
                Ok(0) => break,
                Ok(_) => self.nudge(),
                Err(error) => {
                    // They are due by themselves after their back-off.
                    tracing::warn!("waiting deliveries of {} not woken: {}", self.config.id, chain(&error));
                    break;
                }
            }
        }
    }
}
