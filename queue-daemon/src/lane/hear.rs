//! Runs the engine on a part of a batch and settles each path as soon as the engine reports on it.
//!
//! In flows a part; out flow settled deliveries, and what is left of it: the paths the engine said nothing of, with
//! the fault that ended it. Reports are settled beside the engine, in groups, so that a path that takes hours holds
//! no receipt of the others.

use nix_store::StoreError;
use service_kit::clock::Time;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Lane;
use super::attempt::{Standing, needs_what_is_gone};
use super::settle::Outcome;
use crate::delivery::{Event, FaultClass};
use crate::push::{Batch, Fault, Leased, Pushed, Report, Reports};
use crate::store::lease::Settlement;

/// Most reports that are settled in one transaction.
const SETTLE_MAX: usize = 500;

/// What came of a part.
pub(super) struct Heard {
    /// What ended it before all was said.
    pub(super) fault: Option<Fault>,
    /// What nothing was said of.
    pub(super) rest: Vec<Leased>,
    /// The breaker has heard of it, or will: something was said of the destination.
    pub(super) answer: bool,
}

impl Lane {
    /// Pushes a part and settles what the engine reports. `None` when it was given back, for we stop.
    pub(super) async fn push_and_hear(
        &self,
        part: Vec<Leased>,
        standing: &Standing,
        stop: &Stop,
    ) -> Option<Heard> {
        let entered = match self.enter_closure(&part, stop).await {
            Ok(Some(entered)) => entered,
            Ok(None) => {
                self.give_back(&part).await;
                return None;
            }
            Err(error) => {
                return Some(Heard { fault: Some(closure_fault(&error)), rest: part, answer: false });
            }
        };
        let begun = self.queue.clock.now();
        self.mark(&part, Event::Started);
        self.queue.metrics.attempt_started(&self.config.id);
        let (reports, inbox) = Reports::new();
        let batch = Batch { leased: &part, closure: entered.closure() };
        let engine = async {
            let result = self.push.push(batch, &reports, stop).await;
            drop(reports); // nothing more will be said: the other side ends
            result
        };
        let (result, heard) = tokio::join!(engine, self.settle_reports(&part, inbox, standing));
        drop(entered);
        let fault = match result {
            Ok(pushed) => {
                self.keep(pushed, begun).await;
                heard.rest_is_owed().then(|| {
                    let why = "the engine ended without a word on this path: a fault of this program";
                    Fault::failed(FaultClass::Failed, why)
                })
            }
            Err(fault) => Some(fault),
        };
        let owed = heard.rest_is_owed();
        let answer = heard.answer || (owed && matches!(fault, Some(Fault::Failed { .. })));
        let rest = part.into_iter().zip(heard.said).filter(|(_, said)| !said).map(|(leased, _)| leased);
        Some(Heard { fault, rest: rest.collect(), answer })
    }

    /// Settles reports in groups until the engine has ended.
    async fn settle_reports(
        &self,
        part: &[Leased],
        mut inbox: UnboundedReceiver<Report>,
        standing: &Standing,
    ) -> Said {
        let mut heard = Said { said: vec![false; part.len()], answer: false };
        let mut group = Vec::new();
        while inbox.recv_many(&mut group, SETTLE_MAX).await > 0 {
            // Before the failures of the same moment: they are then the paths' own.
            if group.iter().any(|report| matches!(report, Report::Delivered { was_there: false, .. })) {
                standing.set_works(true);
            }
            let answers = group.iter().any(|report| matches!(report, Report::Delivered { .. }));
            if answers && self.breaker().succeeded() {
                tracing::info!(destination = %self.config.id, "destination {} is back", self.config.id);
                self.wake_after_outage().await;
            }
            let mut outcomes = Vec::with_capacity(group.len());
            for report in group.drain(..) {
                match report {
                    Report::Sent => self.mark(part, Event::Sent),
                    Report::Delivered { place, receipt, bytes, was_there: _ } => {
                        if let Some(leased) = heard.take(part, place) {
                            heard.answer = true;
                            outcomes.push(self.delivered(leased, &receipt, bytes));
                        }
                    }
                    Report::Failed { place, fault } => {
                        if let Some(leased) = heard.take(part, place) {
                            heard.answer |= is_about_the_destination(&fault, leased);
                            outcomes.push(self.reported_fault(leased, fault, standing));
                        }
                    }
                }
            }
            self.settle(outcomes).await;
        }
        heard
    }

    fn delivered(&self, leased: &Leased, receipt: &serde_json::Value, bytes: u64) -> Outcome {
        let event = Event::Verified(leased.token, receipt.to_string());
        Outcome::of(leased, Settlement { delivery: leased.delivery, event, output: None }).with_bytes(bytes)
    }

    fn reported_fault(&self, leased: &Leased, fault: Fault, standing: &Standing) -> Outcome {
        let plain =
            |event| Outcome::of(leased, Settlement { delivery: leased.delivery, event, output: None });
        match fault {
            Fault::Cancelled => plain(Event::LeaseReturned),
            Fault::Gone(path) if path == leased.path => plain(Event::Vanished),
            Fault::Gone(path) => self.reported_fault(leased, needs_what_is_gone(&path), standing),
            Fault::Failed { class, why, output } => {
                self.fault_of(leased, class, why, output, standing.works())
            }
        }
    }

    /// Remembers what an attempt left behind beside its reports.
    async fn keep(&self, pushed: Pushed, begun: Time) {
        if pushed.bytes > 0 {
            let (row, bytes) = (self.row, pushed.bytes);
            self.queue.metrics.pushed(&self.config.id, bytes);
            self.queue.db.post(sqlite_kit::Lane::Normal, "bytes of a batch", move |tx| {
                crate::store::lease::add_bytes(tx, row, bytes)
            });
        }
        self.remember_present(&pushed.present, begun).await;
    }
}

/// Which paths of a part have been reported on.
struct Said {
    said: Vec<bool>,
    answer: bool,
}

impl Said {
    /// The path at a place that nothing was said of yet.
    fn take<'a>(&mut self, part: &'a [Leased], place: usize) -> Option<&'a Leased> {
        let said = self.said.get_mut(place)?;
        (!std::mem::replace(said, true)).then(|| &part[place])
    }

    fn rest_is_owed(&self) -> bool {
        self.said.iter().any(|said| !said)
    }
}

/// That a path has left the store, or that we stop, says nothing of a destination.
fn is_about_the_destination(fault: &Fault, leased: &Leased) -> bool {
    match fault {
        Fault::Failed { .. } => true,
        Fault::Gone(path) => *path != leased.path,
        Fault::Cancelled => false,
    }
}

/// The closure of a part is not known.
fn closure_fault(error: &StoreError) -> Fault {
    match error {
        StoreError::NotValid { path } => Fault::Gone(path.clone()),
        // Some path of the part is at fault, and halving finds it; its destination was not asked.
        StoreError::Malformed { .. }
        | StoreError::NotInThisStore { .. }
        | StoreError::ClosureTooLarge
        | StoreError::Derivation { .. }
        | StoreError::DrvHash { .. } => Fault::failed(FaultClass::Local, chain(error)),
        // The local store does not answer, or is none we know: no path is to blame.
        StoreError::NoDatabase { .. }
        | StoreError::Open { .. }
        | StoreError::Schema { .. }
        | StoreError::Query { .. }
        | StoreError::ReadDrv { .. }
        | StoreError::Daemon { .. }
        | StoreError::OnlyRead { .. }
        | StoreError::Down { .. } => Fault::failed(FaultClass::Unreachable, chain(error)),
    }
}
