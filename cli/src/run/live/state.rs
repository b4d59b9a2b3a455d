//! From what the pipeline says to what is known of the run: which stages are over and since when the others last, and how
//! far each evaluation is. Pure: the time is handed in.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ci_model::JobName;
use ci_model::flow::EvaluationCost;
use ci_model::outcome::{Progress, Side};

/// How far back a rate looks.
const RATE_SPAN: Duration = Duration::from_secs(3);
/// Looks that are kept for a rate, at most.
const LOOKS_MAX: usize = 64;

/// A stage, in the order in which they follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    CheckOut,
    Evaluate,
    Instantiate,
    Compare,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CheckOut => "check out",
            Self::Evaluate => "evaluate",
            Self::Instantiate => "instantiate",
            Self::Compare => "compare",
        }
    }
}

/// When a stage was first and last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Duration,
    /// `None` while it lasts.
    pub(super) to: Option<Duration>,
}

/// All that is known of a run.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stages: BTreeMap<Stage, Span>,
    pub(super) evaluations: BTreeMap<(JobName, Side), Evaluation>,
    /// Attributes instantiated, and of how many.
    pub(super) instantiated: Option<(usize, usize)>,
    /// It went well.
    pub(super) is_over: bool,
}

/// One job of one side.
#[derive(Debug, Default)]
pub(super) struct Evaluation {
    /// `None` until it is said.
    pub(super) attrs: Option<usize>,
    pub(super) errors: usize,
    pub(super) memory_bytes: u64,
    /// What it took, when it is over.
    pub(super) cost: Option<EvaluationCost>,
    looks: VecDeque<(Duration, usize)>,
}

impl State {
    pub(super) fn hear(&mut self, progress: &Progress, now: Duration) {
        match progress {
            Progress::CheckingOut => self.enter(Stage::CheckOut, now),
            Progress::Evaluating { job, side } => {
                self.enter(Stage::Evaluate, now);
                self.evaluations.entry((job.clone(), *side)).or_default().look(now);
            }
            Progress::Evaluated { job, side, attrs, errors, memory_bytes } => {
                self.enter(Stage::Evaluate, now);
                let of = self.evaluations.entry((job.clone(), *side)).or_default();
                (of.attrs, of.errors, of.memory_bytes) = (Some(*attrs), *errors, *memory_bytes);
                of.look(now);
            }
            Progress::EvaluationEnded { job, side, attrs, errors, cost } => {
                self.enter(Stage::Evaluate, now);
                let of = self.evaluations.entry((job.clone(), *side)).or_default();
                (of.attrs, of.errors, of.cost) = (Some(*attrs), *errors, Some(cost.clone()));
            }
            Progress::Instantiating { done, of } => {
                self.enter(Stage::Instantiate, now);
                self.instantiated = Some((*done, *of));
            }
            Progress::Comparing => self.enter(Stage::Compare, now),
        }
    }

    /// All of it is over, and went well.
    pub(super) fn finish(&mut self, now: Duration) {
        for span in self.stages.values_mut() {
            span.to.get_or_insert(now);
        }
        self.is_over = true;
    }

    /// A stage begins, or is heard of again; those before it are over.
    fn enter(&mut self, stage: Stage, now: Duration) {
        for (_, span) in self.stages.range_mut(..stage) {
            span.to.get_or_insert(now);
        }
        self.stages.entry(stage).or_insert(Span { from: now, to: None }).to = None;
    }
}

impl Evaluation {
    fn done(&self) -> usize {
        self.attrs.unwrap_or(0) + self.errors
    }

    fn look(&mut self, now: Duration) {
        self.looks.push_back((now, self.done()));
        let is_old = |looks: &VecDeque<(Duration, usize)>| {
            // One look older than the span is kept: rates begin there.
            looks.get(1).is_some_and(|(at, _)| *at + RATE_SPAN < now)
        };
        while self.looks.len() > LOOKS_MAX || is_old(&self.looks) {
            self.looks.pop_front();
        }
    }

    /// Attributes and errors over the last seconds, and how many milliseconds these were.
    pub(super) fn pace(&self, now: Duration) -> Option<(usize, u64)> {
        let (from, before) = self.looks.front()?;
        let span = u64::try_from(now.saturating_sub(*from).as_millis()).unwrap_or(u64::MAX);
        let number = (self.done()).saturating_sub(*before);
        (span > 0 && number > 0).then_some((number, span))
    }
}
