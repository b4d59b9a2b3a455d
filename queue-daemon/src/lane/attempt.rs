//! One attempt at a batch: push, hear, settle; split what fails, so that no path holds another.
//!
//! In flows a leased batch; out flow settlements for every delivery in it, whatever happens. A batch that fails as a
//! whole is halved until the path at fault stands alone; both halves are tried before either is halved again. Once a
//! part of it got through, paths that fail are at fault themselves, however many they are. While nothing of it gets
//! through, each failed part counts as one failure of the destination, and after as many as the breaker allows paths
//! are tried one by one: a destination that refuses everything is not asked twice for each path. When it falls into
//! doubt, what has not been tried goes back to the queue untouched.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix_types::StorePath;
use service_kit::shutdown::Stop;

use super::Lane;
use super::hear::Heard;
use super::settle::Outcome;
use crate::delivery::{Event, FaultClass};
use crate::push::{Fault, Leased};
use crate::store::lease::Settlement;

/// What an attempt knows of its destination.
#[derive(Debug)]
pub(super) struct Standing {
    /// It is in doubt, and this attempt finds out.
    probe: bool,
    /// It took another part of the same batch.
    works: AtomicBool,
}

impl Standing {
    pub(super) fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    pub(super) fn set_works(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }
}

impl Lane {
    pub(super) async fn attempt(&self, batch: Vec<Leased>, probe: bool, stop: &Stop) {
        let mut parts = VecDeque::from([batch]);
        let (mut first, mut answered, mut fruitless) = (true, false, 0);
        let standing = Standing { probe, works: AtomicBool::new(false) };
        while let Some(mut part) = parts.pop_front() {
            // A probe is there to ask. All others, also what was leased while the last failure was noted, are not.
            let may_ask = (probe && first) || standing.works() || !self.breaker().is_open();
            if stop.is_requested() || !may_ask {
                self.give_back(&part).await;
                continue;
            }
            first = false;
            if !standing.works() && fruitless >= self.config.breaker.failures && part.len() > 1 {
                parts.push_front(part.split_off(1));
            }
            let part = self.without_vanished(part).await;
            if part.is_empty() {
                continue;
            }
            let Some(Heard { fault, rest, answer }) = self.push_and_hear(part, &standing, stop).await else {
                continue;
            };
            answered |= answer;
            if let Some(fault) = fault {
                if fault.is_unreachable() {
                    standing.set_works(false);
                }
                fruitless += u32::from(!standing.works());
                parts.extend(self.failed(rest, fault, &standing).await);
            }
        }
        // A probe without a result (its path vanished, or we stop) answers nothing. One with a result has been
        // noted, and writing that down may have taken so long that the next one is under way.
        if probe && !answered {
            self.breaker().probe_unused(self.queue.clock.now());
        }
    }

    /// Settles what is no longer in the store; gives the rest. A store that cannot be asked now hides nothing: the
    /// engine meets the same trouble.
    async fn without_vanished(&self, part: Vec<Leased>) -> Vec<Leased> {
        let store = Arc::clone(&self.queue.store);
        let looked = tokio::task::spawn_blocking(move || {
            let is_gone = |leased: &Leased| matches!(store.is_valid(&leased.path), Ok(false));
            part.into_iter().partition::<Vec<Leased>, _>(is_gone)
        });
        let (gone, rest) = looked.await.expect("asking the store does not panic: it returns its errors");
        self.settle_as(&gone, &Event::Vanished).await;
        rest
    }

    /// The same event for all of a part.
    pub(super) async fn settle_as(&self, part: &[Leased], event: &Event) {
        let settle = |leased: &Leased| {
            let settlement = Settlement { delivery: leased.delivery, event: event.clone(), output: None };
            Outcome::of(leased, settlement)
        };
        self.settle(part.iter().map(settle).collect()).await;
    }

    pub(super) async fn give_back(&self, part: &[Leased]) {
        self.settle_as(part, &Event::LeaseReturned).await;
    }

    /// What to try next after a failed part: nothing, or its halves.
    async fn failed(&self, mut part: Vec<Leased>, fault: Fault, standing: &Standing) -> Vec<Vec<Leased>> {
        match fault {
            _ if part.is_empty() => {}
            Fault::Cancelled => self.give_back(&part).await,
            Fault::Gone(path) => return self.without_gone(part, &path, standing).await,
            // Halves would each wait as long again. Those held up by another's fault are tried alone next time.
            Fault::Failed { class: class @ (FaultClass::Unreachable | FaultClass::Stuck), why, output } => {
                let counted = part.len() == 1 && (standing.works() || !self.breaker().is_open());
                // One attempt failed, not one per path.
                self.note_failure_of(&part, class, &why, standing);
                let outcome = |leased| self.outcome_of(leased, class, counted, why.clone(), output.clone());
                self.settle(part.iter().map(outcome).collect()).await;
            }
            Fault::Failed { class, why, output } if part.len() == 1 || standing.probe => {
                let outcomes = part
                    .iter()
                    .map(|leased| self.fault_of(leased, class, why.clone(), output.clone(), standing.works()))
                    .collect();
                self.settle(outcomes).await;
            }
            Fault::Failed { class, why, .. } => {
                self.note_failure_of(&part, class, &why, standing);
                let rest = part.split_off(part.len() / 2);
                tracing::debug!(
                    destination = %self.config.id,
                    "splitting a batch of {} that failed at {}: {why}", part.len() + rest.len(), self.config.id
                );
                return vec![part, rest];
            }
        }
        Vec::new()
    }

    /// A path vanished: it is gone, and the others are tried again without it.
    async fn without_gone(
        &self,
        part: Vec<Leased>,
        path: &StorePath,
        standing: &Standing,
    ) -> Vec<Vec<Leased>> {
        let (gone, rest): (Vec<Leased>, Vec<Leased>) =
            part.into_iter().partition(|leased| leased.path == *path);
        if gone.is_empty() {
            // Not one of ours: a reference is missing, which no path of this part can be sent without.
            let fault = needs_what_is_gone(path);
            let standing = Standing { probe: false, works: AtomicBool::new(standing.works()) };
            return Box::pin(self.failed(rest, fault, &standing)).await;
        }
        self.settle_as(&gone, &Event::Vanished).await;
        if rest.is_empty() { Vec::new() } else { vec![rest] }
    }

    /// A failure of one delivery, held against it unless the destination is in doubt; it casts doubt on a destination
    /// unless that `works`.
    pub(super) fn fault_of(
        &self,
        leased: &Leased,
        class: FaultClass,
        why: String,
        output: String,
        works: bool,
    ) -> Outcome {
        let counted = works || !self.breaker().is_open();
        if !works {
            self.note_failure(leased.delivery, class, &why);
        }
        self.outcome_of(leased, class, counted, why, output)
    }

    fn outcome_of(
        &self,
        leased: &Leased,
        class: FaultClass,
        counted: bool,
        why: String,
        output: String,
    ) -> Outcome {
        let event = Event::Failed { token: leased.token, class, counted, why };
        let output = (!output.is_empty()).then_some(output);
        Outcome::of(leased, Settlement { delivery: leased.delivery, event, output })
    }

    /// A part failed as a whole: one failure, unless the destination works.
    fn note_failure_of(&self, part: &[Leased], class: FaultClass, why: &str, standing: &Standing) {
        if let Some(first) = part.first()
            && !standing.works()
        {
            self.note_failure(first.delivery, class, why);
        }
    }

    fn note_failure(&self, delivery: i64, class: FaultClass, why: &str) {
        let now = self.queue.clock.now();
        if self.breaker().failed(delivery, class, now) {
            let probe = self.config.breaker.probe;
            tracing::warn!(
                destination = %self.config.id,
                "destination {} is in doubt: one probe every {probe:?} until it answers; last: {why}", self.config.id
            );
        }
    }
}

/// A path of the closure is missing that is none of the batch.
pub(super) fn needs_what_is_gone(path: &StorePath) -> Fault {
    let why = format!("its closure needs {path}, which is no longer in the store");
    Fault::failed(FaultClass::Failed, why)
}
