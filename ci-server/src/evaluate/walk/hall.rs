//! What the evaluators of one evaluation share: what is left to do, how far each is, where events go, and what was used
//! up of the limits. Pure but for the sink.

use std::collections::VecDeque;

use ci_model::attr::ErrorKind;
use ci_model::flow::EvaluationCost;
use nix_store::process::Usage;
use nix_types::AttrPath;

use crate::evaluate::place::Span;
use crate::evaluate::trail::{Heard, Trail};
use crate::evaluate::{Event, Limits, Sink, message, path_bytes};

/// Why all evaluators stop before everything was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// [`Limits::wall`].
    Wall,
    /// [`Limits::attrs_max`].
    Attrs,
    /// [`Limits::restarts_max`].
    Restarts,
}

/// So many attributes that a pass that writes nothing cannot evaluate are each evaluated again by one that does. When
/// there are more, all evaluators from then on write: each of these ends one that does not.
const UNWRITTEN_MAX: usize = 20;

/// What is left of a span, and how often an evaluator was lost with it before it came to anything.
pub(super) struct Work {
    pub(super) span: Span,
    pub(super) tries: u32,
    /// How often it was Nix' database that was busy.
    pub(super) busy: u32,
}

impl Work {
    fn new(span: Span, tries: u32) -> Self {
        Self { span, tries, busy: 0 }
    }
}

/// What the evaluators share.
pub(super) struct Hall<'s> {
    limits: Limits,
    split_min: u32,
    left: VecDeque<Work>,
    trails: Vec<Option<Trail>>,
    sink: Sink<'s>,
    /// What threw, with a message that nobody saw.
    pub(super) hidden: Vec<AttrPath>,
    /// What needs something in the store that a pass that writes nothing did not write.
    pub(super) unwritten: Vec<AttrPath>,
    pub(super) cost: EvaluationCost,
    pub(super) stop: Option<Stop>,
    begun: u64,
    restarts: u32,
}

impl<'s> Hall<'s> {
    pub(super) fn new(limits: &Limits, split_min: u32, sink: Sink<'s>) -> Self {
        Self {
            limits: limits.clone(),
            split_min,
            left: VecDeque::from([Work::new(Span::all(), 0)]),
            trails: (0..limits.workers.max(1)).map(|_| None).collect(),
            sink,
            hidden: Vec::new(),
            unwritten: Vec::new(),
            cost: EvaluationCost::default(),
            stop: None,
            begun: 0,
            restarts: 0,
        }
    }

    /// Do evaluators write from now on?
    pub(super) fn writes(&self) -> bool {
        self.unwritten.len() >= UNWRITTEN_MAX
    }

    /// It threw, and nobody saw the message.
    pub(super) fn hide(&mut self, path: AttrPath) {
        self.tell(Event::Held(path_bytes(&path)));
        self.hidden.push(path);
    }

    /// Another phase begins.
    pub(super) fn again(&mut self) {
        self.left.push_back(Work::new(Span::all(), 0));
    }

    pub(super) fn tell(&mut self, event: Event) {
        (self.sink)(event);
    }

    /// Is there something to do?
    pub(super) fn has_work(&self) -> bool {
        self.stop.is_none()
            && (!self.left.is_empty()
                || self.trails.iter().flatten().any(|trail| trail.middle(self.split_min).is_some()))
    }

    /// Something to do: what is left, or half of what somebody has.
    pub(super) fn take(&mut self, worker: usize) -> Option<Work> {
        if self.stop.is_some() {
            return None;
        }
        let split_min = self.split_min;
        let work = self.left.pop_front().or_else(|| {
            let span = self.trails.iter_mut().flatten().find_map(|trail| trail.split(split_min))?;
            Some(Work::new(span, 0))
        })?;
        self.trails[worker] = Some(Trail::new(work.span.clone()));
        Some(work)
    }

    /// Does a set of so many children make work for others?
    pub(super) fn is_large(&self, count: u32) -> bool {
        count / 2 >= self.split_min
    }

    /// Is there nothing to do, now and later?
    pub(super) fn is_done(&self) -> bool {
        self.stop.is_some() || (self.left.is_empty() && self.trails.iter().all(Option::is_none))
    }

    /// This one ended; what it has told.
    pub(super) fn leave(&mut self, worker: usize, usage: Usage) -> Option<Trail> {
        self.add_usage(usage);
        self.trails[worker].take()
    }

    pub(super) fn put(&mut self, span: Option<Span>, tries: u32) {
        self.left.extend(span.map(|span| Work::new(span, tries)));
    }

    /// The same once more, for nothing of it was looked at.
    pub(super) fn put_busy(&mut self, work: &Work) {
        self.left.push_back(Work { span: work.span.clone(), tries: work.tries, busy: work.busy + 1 });
    }

    /// A mark of this worker's evaluator.
    pub(super) fn hear<T>(&mut self, worker: usize, of: impl FnOnce(&mut Trail) -> T) -> Option<T> {
        self.trails[worker].as_mut().map(of)
    }

    /// Counts what a mark says.
    pub(super) fn count(&mut self, heard: &Heard) {
        match heard {
            Heard::Begins(names) => self.begun += u64::from(!names.is_empty()), // the root is no attribute
            Heard::Holds(count) => self.tell(Event::Known(u64::from(*count))),
            Heard::Noted | Heard::Result(_) | Heard::Beyond => {}
        }
        if self.begun > self.limits.attrs_max {
            self.stop = Some(Stop::Attrs);
        }
    }

    /// An evaluator was lost to what it looked at.
    pub(super) fn count_restart(&mut self) {
        self.restarts += 1;
        if self.restarts > self.limits.restarts_max {
            self.stop = Some(Stop::Restarts);
        }
    }

    fn add_usage(&mut self, usage: Usage) {
        let cpu_ms = u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX);
        self.cost.cpu_ms = self.cost.cpu_ms.saturating_add(cpu_ms);
        self.cost.memory_peak_bytes = self.cost.memory_peak_bytes.max(usage.memory_peak_bytes);
        self.cost.processes = self.cost.processes.saturating_add(1);
    }

    pub(super) fn add_cost(&mut self, other: &EvaluationCost) {
        self.cost.cpu_ms = self.cost.cpu_ms.saturating_add(other.cpu_ms);
        self.cost.memory_peak_bytes = self.cost.memory_peak_bytes.max(other.memory_peak_bytes);
        self.cost.processes = self.cost.processes.saturating_add(other.processes);
    }

    /// Says at the root that there may be more.
    pub(super) fn tell_stop(&mut self, stop: Stop) {
        let limits = &self.limits;
        let (kind, text) = match stop {
            Stop::Wall => return self.tell(Event::Error(Box::new(message::too_long(limits.wall)))),
            Stop::Attrs => (
                ErrorKind::TooLarge,
                format!("there are more than {} attributes; the others are missing", limits.attrs_max),
            ),
            Stop::Restarts => (
                ErrorKind::TooLarge,
                format!(
                    "more than {} attributes end the evaluator; what comes behind them is missing",
                    limits.restarts_max
                ),
            ),
        };
        let error = message::ours(AttrPath::root(), kind, &text);
        self.tell(Event::Error(Box::new(error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who bounds what is kept hears of it while it grows, not when all of it is told.
    #[test]
    fn what_is_hidden_counts_at_once() {
        let mut told = Vec::new();
        let mut sink = |event| told.push(event);
        let mut hall = Hall::new(&Limits::default(), 1, &mut sink);
        let path: AttrPath = "a.b".parse().unwrap();
        hall.hide(path.clone());
        drop(hall);
        assert_eq!(told, [Event::Held(path_bytes(&path))]);
    }
}
