//! One attempt at a batch: send, verify, settle; split what fails, so that no path holds another.
//!
//! In flows a leased batch; out flow settlements for every delivery in it, whatever happens. A batch that fails is
//! halved until the path at fault stands alone; both halves are tried before either is halved again. Once a part of it
//! got through, paths that fail are at fault themselves, however many they are. When the destination itself falls into
//! doubt, what has not been tried goes back to the queue untouched.

use std::collections::VecDeque;

use nix_types::StorePath;
use service_kit::shutdown::Stop;

use super::Lane;
use super::settle::Outcome;
use crate::delivery::{Event, FaultClass};
use crate::push::{Fault, Leased, Verdict};
use crate::store::lease::Settlement;

/// What an attempt knows of its destination.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// It is in doubt, and this attempt finds out.
    probe: bool,
    /// It took another part of the same batch.
    works: bool,
}

impl Lane {
    pub(super) async fn attempt(&self, batch: Vec<Leased>, probe: bool, stop: &Stop) {
        let mut parts = VecDeque::from([batch]);
        let (mut first, mut answered) = (true, false);
        let mut standing = Standing { probe, works: false };
        while let Some(part) = parts.pop_front() {
            let in_doubt = !first && !standing.works && self.breaker().is_open();
            if stop.is_requested() || in_doubt {
                self.give_back(&part).await;
                continue;
            }
            first = false;
            let part = self.without_vanished(part).await;
            if part.is_empty() {
                continue;
            }
            let Some(guard) = self.enter_closure(&part, stop).await else {
                self.give_back(&part).await;
                continue;
            };
            let result = self.send_and_verify(&part, stop).await;
            let closure = guard.leave();
            answered |= matches!(result, Ok(_) | Err(Fault::Failed { .. }));
            match result {
                Ok(verdicts) => standing.works |= self.sent(&part, verdicts, &closure).await,
                Err(fault) => {
                    standing.works &= !fault.is_unreachable();
                    parts.extend(self.failed(part, fault, standing).await);
                }
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
        let store = &self.queue.store;
        let is_gone = |leased: &Leased| matches!(store.is_valid(&leased.path), Ok(false));
        let (gone, rest): (Vec<Leased>, Vec<Leased>) = part.into_iter().partition(is_gone);
        self.settle_as(&gone, &Event::Vanished).await;
        rest
    }

    /// The same event for all of a part.
    async fn settle_as(&self, part: &[Leased], event: &Event) {
        let settle = |leased: &Leased| {
            let settlement = Settlement { delivery: leased.delivery, event: event.clone(), output: None };
            Outcome::of(leased, settlement)
        };
        self.settle(part.iter().map(settle).collect()).await;
    }

    async fn give_back(&self, part: &[Leased]) {
        self.settle_as(part, &Event::LeaseReturned).await;
    }

    async fn send_and_verify(&self, part: &[Leased], stop: &Stop) -> Result<Vec<Verdict>, Fault> {
        self.mark(part, Event::Started);
        self.queue.metrics.attempt_started(&self.config.id);
        self.push.send(part, stop).await?;
        self.mark(part, Event::Sent);
        self.push.verify(part, stop).await
    }

    /// The part was sent; each path is done if the destination says it has it. True when it has them all.
    async fn sent(&self, part: &[Leased], verdicts: Vec<Verdict>, closure: &[StorePath]) -> bool {
        let all_there = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Present(_)));
        let mut outcomes = Vec::with_capacity(part.len());
        for (leased, verdict) in part.iter().zip(verdicts) {
            outcomes.push(match verdict {
                Verdict::Present(receipt) => self.delivered(leased, &receipt),
                Verdict::Missing(why) => self.fault_of(leased, FaultClass::Failed, why, String::new(), false),
            });
        }
        if all_there && self.breaker().succeeded() {
            tracing::info!(destination = %self.config.id, "destination {} is back", self.config.id);
            self.wake_after_outage().await;
        }
        self.settle(outcomes).await;
        if all_there {
            self.remember_present(closure).await;
        }
        all_there
    }

    /// What to try next after a failed part: nothing, or its halves.
    async fn failed(&self, mut part: Vec<Leased>, fault: Fault, standing: Standing) -> Vec<Vec<Leased>> {
        match fault {
            Fault::Cancelled => self.give_back(&part).await,
            Fault::Gone(path) => return self.without_gone(part, &path, standing).await,
            // Halves would each wait as long again. Those held up by another's fault are tried alone next time.
            Fault::Failed { class: class @ (FaultClass::Unreachable | FaultClass::Stuck), why, output } => {
                let counted = part.len() == 1 && (standing.works || !self.breaker().is_open());
                // One attempt failed, not one per path.
                if let Some(first) = part.first()
                    && !standing.works
                {
                    self.note_failure(first.delivery, class, &why);
                }
                let outcome = |leased| self.outcome_of(leased, class, counted, why.clone(), output.clone());
                self.settle(part.iter().map(outcome).collect()).await;
            }
            Fault::Failed { class, why, output } if part.len() == 1 || standing.probe => {
                let outcomes = part
                    .iter()
                    .map(|leased| self.fault_of(leased, class, why.clone(), output.clone(), standing.works))
                    .collect();
                self.settle(outcomes).await;
            }
            Fault::Failed { why, .. } => {
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
        standing: Standing,
    ) -> Vec<Vec<Leased>> {
        let (gone, rest): (Vec<Leased>, Vec<Leased>) =
            part.into_iter().partition(|leased| leased.path == *path);
        if gone.is_empty() {
            // Not one of ours: a reference is missing, which no path of this part can be sent without.
            let why = format!("its closure needs {path}, which is no longer in the store");
            let fault = Fault::Failed { class: FaultClass::Failed, why, output: String::new() };
            return Box::pin(self.failed(rest, fault, Standing { probe: false, ..standing })).await;
        }
        self.settle_as(&gone, &Event::Vanished).await;
        if rest.is_empty() { Vec::new() } else { vec![rest] }
    }

    fn delivered(&self, leased: &Leased, receipt: &serde_json::Value) -> Outcome {
        let event = Event::Verified(leased.token, receipt.to_string());
        Outcome::of(leased, Settlement { delivery: leased.delivery, event, output: None })
    }

    /// A failure of one delivery, held against it unless the destination is in doubt; it casts doubt on a destination
    /// unless that `works`.
    fn fault_of(
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
