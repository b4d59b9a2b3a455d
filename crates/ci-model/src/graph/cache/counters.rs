//! What the cache counts, as values. What happened comes in; every documented metric comes out with its name, labels and
//! value, for whoever writes them in the form of some collector.

use std::time::Duration;

use super::Tier;
use crate::flow::BuildState;

/// Bounds of the buckets of reload times, in seconds.
pub const HISTOGRAM_BOUNDS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Bounds of the buckets of how many need a node.
pub const REF_COUNT_BOUNDS: [f64; 8] = [0.0, 1.0, 2.0, 5.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// What a node was looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To be read.
    Get,
    /// To be pinned.
    Pin,
    /// To see whether something can be built.
    BuildableCheck,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Get, Self::Pin, Self::BuildableCheck];

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Pin => "pin",
            Self::BuildableCheck => "buildable_check",
        }
    }
}

/// A metric with one set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// The label it has, if any, and that label's value.
    pub label: Option<(&'static str, &'static str)>,
    /// Its value.
    pub value: Value,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// It goes up and down.
    Gauge(f64),
    /// It only goes up.
    Counter(u64),
    /// It only goes up, in buckets.
    Histogram(Histogram),
}

/// How often what was measured was how large.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Upper bounds of buckets, ascending; above the last there is one more.
    pub bounds: &'static [f64],
    /// How often it was in each, that one alone; one longer than the bounds.
    pub counts: Vec<u64>,
    /// All that was measured together.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    fn observe(&mut self, value: f64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }

    /// How often something was measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What happened since the start.
#[derive(Debug)]
pub(super) struct Counters {
    hits: [u64; Operation::ALL.len()],
    misses: [u64; Operation::ALL.len()],
    evictions: [u64; Tier::ALL.len()],
    reloads: u64,
    reload_seconds: Histogram,
    /// Of what was evicted: how many needed it. Without and with any.
    ref_counts: [Histogram; 2],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hits: Default::default(),
            misses: Default::default(),
            evictions: Default::default(),
            reloads: 0,
            reload_seconds: Histogram::new(&HISTOGRAM_BOUNDS),
            ref_counts: [Histogram::new(&REF_COUNT_BOUNDS), Histogram::new(&REF_COUNT_BOUNDS)],
        }
    }
}

/// What is so now.
pub(super) struct Gauges<'c> {
    pub(super) states: &'c [usize; BuildState::ALL.len()],
    pub(super) memory_bytes: usize,
    pub(super) candidates: [usize; Tier::ALL.len()],
    pub(super) pinned: usize,
    pub(super) len: usize,
    pub(super) capacity: usize,
}

impl Counters {
    pub(super) fn hit(&mut self, operation: Operation) {
        self.hits[operation as usize] += 1;
    }

    pub(super) fn miss(&mut self, operation: Operation) {
        self.misses[operation as usize] += 1;
    }

    pub(super) fn reloaded(&mut self, took: Duration) {
        self.reloads += 1;
        self.reload_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn evicted(&mut self, tier: Tier, dependants: usize) {
        self.evictions[tier as usize] += 1;
        self.ref_counts[usize::from(dependants > 0)].observe(dependants as f64);
    }

    pub(super) fn metrics(&self, now: &Gauges<'_>) -> Vec<Metric> {
        let plain = |name, value| Metric { name, label: None, value };
        let gauge = |name, value: usize| plain(name, Value::Gauge(value as f64));
        let mut metrics = vec![
            gauge("eka_ci_graph_memory_bytes_estimate", now.memory_bytes),
            plain("eka_ci_graph_cache_reloads_total", Value::Counter(self.reloads)),
            plain(
                "eka_ci_graph_cache_reload_duration_seconds",
                Value::Histogram(self.reload_seconds.clone()),
            ),
            gauge("eka_ci_graph_pinned_nodes_total", now.pinned),
            gauge("eka_ci_graph_cache_capacity", now.capacity),
            gauge("eka_ci_graph_cache_size", now.len),
            plain("eka_ci_graph_cache_utilization", Value::Gauge(now.len as f64 / now.capacity as f64)),
        ];
        let mut labelled = |name, label, of: &'static str, value| {
            metrics.push(Metric { name, label: Some((label, of)), value });
        };
        for (state, count) in BuildState::ALL.into_iter().zip(now.states) {
            labelled("eka_ci_graph_nodes_total", "state", state_label(state), Value::Gauge(*count as f64));
        }
        for operation in Operation::ALL {
            let of = |counts: &[u64]| Value::Counter(counts[operation as usize]);
            labelled("eka_ci_graph_cache_hits_total", "operation", operation.label(), of(&self.hits));
            labelled("eka_ci_graph_cache_misses_total", "operation", operation.label(), of(&self.misses));
        }
        for tier in Tier::ALL {
            let candidates = Value::Gauge(now.candidates[tier as usize] as f64);
            labelled("eka_ci_graph_eviction_candidates_total", "tier", tier.label(), candidates);
            let evictions = Value::Counter(self.evictions[tier as usize]);
            labelled("eka_ci_graph_evictions_total", "tier", tier.label(), evictions);
        }
        for (has, histogram) in ["false", "true"].into_iter().zip(&self.ref_counts) {
            let value = Value::Histogram(histogram.clone());
            labelled("eka_ci_graph_ref_count_histogram", "has_dependents", has, value);
        }
        metrics
    }
}

/// A state's name in metrics.
#[must_use]
pub fn state_label(state: BuildState) -> &'static str {
    match state {
        BuildState::Queued => "queued",
        BuildState::Buildable => "buildable",
        BuildState::FailedRetry => "failed_retry",
        BuildState::Building => "building",
        BuildState::Success => "success",
        BuildState::Blocked => "blocked",
        BuildState::Failure => "failure",
        BuildState::TransitiveFailure => "transitive_failure",
        BuildState::Unsatisfiable => "unsatisfiable",
        BuildState::SchedulerDeath => "scheduler_death",
        BuildState::ProcessDeath => "process_death",
        BuildState::Cancelled => "cancelled",
        BuildState::OutOfMemory => "out_of_memory",
        BuildState::TimedOut => "timed_out",
    }
}
