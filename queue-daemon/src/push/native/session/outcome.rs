//! What came of the paths of a batch: what is reported, and what fails with what.

use nix_store::PathInfo;
use nix_types::{NarInfo, Signature, StorePath};
use serde_json::json;

use super::super::sort::Todo;
use super::{Session, Settled};
use crate::delivery::FaultClass;
use crate::push::Fault;

/// So many failures with nothing that got through, and the rest is left for later.
const FRUITLESS_MAX: usize = 8;

impl Session<'_> {
    /// Notes what came of a group.
    pub(super) fn settled(&mut self, settled: Settled) -> Result<(), Fault> {
        // What ends the batch does not undo what is there.
        let mut ended = Ok(());
        for (place, result) in settled.published {
            ended = ended.and(self.published(place, result));
        }
        for (place, noted) in settled.waited {
            let one = match noted {
                Ok(()) => {
                    self.waited(place);
                    Ok(())
                }
                Err(fault) => self.failed(place, fault),
            };
            ended = ended.and(one);
        }
        self.plan.give_back();
        ended
    }

    /// All that a path needs is there, as it is itself.
    pub(super) fn waited(&mut self, place: usize) {
        self.plan.published(place);
        let node = &self.nodes[place];
        let (info, todo) = (node.info, node.todo.clone());
        match todo {
            Todo::Wait(Some(narinfo)) => self.delivered(info, &narinfo, None),
            Todo::Wait(None) | Todo::Nothing(_) | Todo::Send | Todo::Sign(_) => {
                self.pushed.present.push(info.path.clone());
            }
        }
    }

    fn published(&mut self, place: usize, result: Result<NarInfo, Fault>) -> Result<(), Fault> {
        match result {
            Ok(_) if self.plan.has_failed(place) => Ok(()), // with something it needs
            Ok(narinfo) => {
                self.plan.published(place);
                // Its tree of files may be large.
                let uploaded = self.nodes[place].uploaded.take();
                if let Some(flight) = self.nodes[place].flight.take() {
                    flight.arrived(&narinfo, uploaded.as_ref().map(|uploaded| uploaded.key.as_str()));
                }
                let bytes = uploaded.map_or(0, |uploaded| uploaded.bytes);
                self.delivered(self.nodes[place].info, &narinfo, Some(bytes));
                Ok(())
            }
            Err(fault) => self.failed(place, fault),
        }
    }

    /// The destination has the path: bytes that left for it, or `None` when it was there.
    pub(super) fn delivered(&mut self, info: &PathInfo, narinfo: &NarInfo, bytes: Option<u64>) {
        self.fruitful |= bytes.is_some();
        self.pushed.present.push(info.path.clone());
        match self.leased.get(info.path.as_str()) {
            Some(place) => match bytes {
                Some(bytes) => self.reports.delivered(*place, self.receipt(narinfo, false), bytes),
                None => self.reports.was_there(*place, self.receipt(narinfo, true)),
            },
            None => self.pushed.bytes += bytes.unwrap_or(0),
        }
    }

    fn receipt(&self, narinfo: &NarInfo, was_there: bool) -> serde_json::Value {
        let signed_by: Vec<&str> = narinfo.signatures.iter().map(Signature::name).collect();
        json!({
            "kind": "nix-copy", "to": self.engine.shown, "asked": "narinfo", "was_there": was_there,
            "url": narinfo.url, "nar_hash": narinfo.nar_hash.to_string(), "file_bytes": narinfo.file_size,
            "signed_by": signed_by,
        })
    }

    /// A path failed, and with it what needs it.
    pub(super) fn failed(&mut self, place: usize, fault: Fault) -> Result<(), Fault> {
        if ends_the_batch(&fault) {
            return Err(fault);
        }
        let with_it = self.plan.failed(place);
        let path = &self.nodes[place].info.path;
        for other in with_it {
            let fault = needs(path, &fault);
            self.nodes[other].flight = None;
            self.report_failure(&self.nodes[other].info.path, fault);
        }
        self.report_failure(path, fault.clone());
        self.nodes[place].flight = None;
        if let Fault::Failed { class, .. } = &fault {
            match class {
                FaultClass::Corrupt => self.engine.memory.count_corrupt(),
                FaultClass::Local => {} // the destination was not asked
                FaultClass::Unreachable | FaultClass::Stuck | FaultClass::Failed | FaultClass::Refused => {
                    self.fruitless += 1;
                }
            }
        }
        if self.fruitless >= FRUITLESS_MAX && !self.fruitful {
            return Err(Fault::Cancelled); // the breaker has heard of these; the rest keeps its place in line
        }
        Ok(())
    }

    pub(super) fn report_failure(&self, path: &StorePath, fault: Fault) {
        if let Some(place) = self.leased.get(path.as_str()) {
            self.reports.failed(*place, fault);
        }
    }
}

/// Whether it is not about a path, but about the destination or this daemon.
pub(in crate::push) fn ends_the_batch(fault: &Fault) -> bool {
    matches!(fault, Fault::Cancelled) || fault.is_unreachable()
}

/// Why a path that needs another cannot be sent.
pub(in crate::push) fn needs(path: &StorePath, fault: &Fault) -> Fault {
    match fault {
        Fault::Failed { class, why, output } => Fault::Failed {
            class: *class,
            why: format!("it needs {path}, which could not be sent: {why}"),
            output: output.clone(),
        },
        Fault::Gone(path) => Fault::Gone(path.clone()),
        Fault::Cancelled => Fault::Cancelled,
    }
}
