//! What the daemon counts, as Prometheus text.
//!
//! In flow single events from every stage and, when somebody asks, a reading of the table; out flows the text.
//! Names begin with `eka_queue_`; `docs/operations.md` lists them. Label values are configured ids and our own
//! words, never outside text.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use service_kit::clock::Time;

use crate::delivery::{FaultClass, StateName};
use crate::model::{Answer, DestinationId};
use crate::store::inspect::DestinationCounts;

/// Upper bounds of the lag histogram, in seconds.
const LAG_SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 86_400.0];

/// The daemon's counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    attempts: IntCounterVec,
    outcomes: IntCounterVec,
    failures: IntCounterVec,
    bytes: IntCounterVec,
    skipped: IntCounterVec,
    lag: HistogramVec,
    refused_frames: IntCounter,
    refused_spool_files: IntCounter,
    corrupt: IntCounter,
    packs: IntCounterVec,
    deliveries: IntGaugeVec,
    oldest: IntGaugeVec,
    breaker: IntGaugeVec,
    paused: IntGaugeVec,
    spool_files: IntGauge,
    gc_roots: IntGauge,
    uptime: IntGauge,
    commits: IntGauge,
    jobs: IntGauge,
    writer_backlog: IntGauge,
    commits_failed: IntGauge,
    flush: Gauge,
    state_free: IntGauge,
    database: IntGauge,
    last_backup: Gauge,
}

/// A reading that only the moment of asking can give.
pub(crate) struct Reading<'a> {
    /// Counts, breaker word, by destination.
    pub(crate) destinations: &'a [(String, DestinationCounts, Option<&'static str>, u64)],
    /// Files in the spool.
    pub(crate) spool_files: u64,
    /// GC roots, once they have been counted.
    pub(crate) gc_roots: Option<u64>,
    /// Since the daemon started.
    pub(crate) uptime: Duration,
    /// The writer's counters.
    pub(crate) writer: sqlite_kit::Stats,
    /// Free on the disk of the state folder, in bytes; where that can be told.
    pub(crate) state_free: Option<u64>,
    /// The database with its log, in bytes.
    pub(crate) database: u64,
    /// When the last backup was taken that somebody keeps.
    pub(crate) last_backup: Option<Time>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges = |name, help, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let counter = |name, help| registered(&registry, IntCounter::new(name, help));
        let gauge = |name, help| registered(&registry, IntGauge::new(name, help));
        let lag = HistogramOpts::new("eka_queue_lag_seconds", "From enqueue to receipt.");
        let lag = HistogramVec::new(lag.buckets(LAG_SECONDS.to_vec()), &["destination"]);
        let lag = registered(&registry, lag);
        Self {
            requests: counters("eka_queue_requests_total", "Requests by answer.", &["answer"]),
            attempts: counters("eka_queue_attempts_total", "Attempts started.", &["destination"]),
            outcomes: counters(
                "eka_queue_outcomes_total",
                "Deliveries by the state an attempt left them in.",
                &["destination", "state"],
            ),
            failures: counters(
                "eka_queue_failures_total",
                "Deliveries that an attempt failed for, by class.",
                &["destination", "class"],
            ),
            bytes: counters(
                "eka_queue_pushed_bytes_total",
                "Bytes sent for delivered paths; NAR bytes where they cannot be counted.",
                &["destination"],
            ),
            skipped: counters("eka_queue_skipped_total", "Paths a filter kept out.", &["destination"]),
            lag,
            refused_frames: counter("eka_queue_refused_frames_total", "Frames that were refused."),
            refused_spool_files: counter(
                "eka_queue_refused_spool_files_total",
                "Spool files that were set aside.",
            ),
            corrupt: counter(
                "eka_queue_corrupt_paths_total",
                "Paths that are not what Nix registered, and were not sent.",
            ),
            packs: counters("eka_queue_packs_total", "Archives packed.", &["codec"]),
            deliveries: gauges("eka_queue_deliveries", "Deliveries by state.", &["destination", "state"]),
            oldest: gauges(
                "eka_queue_oldest_seconds",
                "Age of the oldest delivery that is still owed.",
                &["destination"],
            ),
            breaker: gauges(
                "eka_queue_breaker_open",
                "1 while the destination is in doubt.",
                &["destination"],
            ),
            paused: gauges("eka_queue_paused", "1 while the destination is paused.", &["destination"]),
            spool_files: gauge("eka_queue_spool_files", "Files in the spool."),
            gc_roots: gauge("eka_queue_gc_roots", "GC roots the queue holds."),
            uptime: gauge("eka_queue_uptime_seconds", "Since the daemon started."),
            commits: gauge("eka_queue_writer_commits", "Transactions committed since the start."),
            jobs: gauge("eka_queue_writer_jobs", "Jobs those transactions carried."),
            writer_backlog: gauge("eka_queue_writer_backlog", "Jobs waiting for the writer."),
            commits_failed: gauge(
                "eka_queue_writer_commits_failed",
                "Transactions that failed as a whole since the start.",
            ),
            flush: registered(
                &registry,
                Gauge::new(
                    "eka_queue_writer_flush_seconds",
                    "Time the writer has spent in commits since the start.",
                ),
            ),
            state_free: gauge("eka_queue_state_free_bytes", "Free on the disk of the state folder."),
            database: gauge("eka_queue_database_bytes", "Size of the database with its log."),
            last_backup: registered(
                &registry,
                Gauge::new(
                    "eka_queue_last_backup_timestamp_seconds",
                    "When the last backup was taken, since 1970; 0 when there was none.",
                ),
            ),
            registry,
        }
    }

    pub(crate) fn answered(&self, answer: &Answer) {
        let word = match answer {
            Answer::Queued { .. } => "queued",
            Answer::Partly { .. } => "partly",
            Answer::Refused { .. } => "refused",
            Answer::Busy { .. } => "busy",
        };
        self.requests.with_label_values(&[word]).inc();
    }

    pub(crate) fn attempt_started(&self, id: &DestinationId) {
        self.attempts.with_label_values(&[id.as_str()]).inc();
    }

    pub(crate) fn settled(&self, id: &DestinationId, state: StateName, lag: Duration, bytes: u64) {
        self.outcomes.with_label_values(&[id.as_str(), state.as_str()]).inc();
        if state == StateName::Done {
            self.lag.with_label_values(&[id.as_str()]).observe(lag.as_secs_f64());
            self.bytes.with_label_values(&[id.as_str()]).inc_by(bytes);
        }
    }

    pub(crate) fn failed(&self, id: &DestinationId, class: FaultClass) {
        self.failures.with_label_values(&[id.as_str(), class.as_str()]).inc();
    }

    pub(crate) fn pushed(&self, id: &DestinationId, bytes: u64) {
        self.bytes.with_label_values(&[id.as_str()]).inc_by(bytes);
    }

    pub(crate) fn corrupt(&self) {
        self.corrupt.inc();
    }

    /// The counter of archives that are packed, by codec.
    pub(crate) fn packs(&self) -> IntCounterVec {
        self.packs.clone()
    }

    pub(crate) fn skipped(&self, id: &DestinationId) {
        self.skipped.with_label_values(&[id.as_str()]).inc();
    }

    pub(crate) fn refused_frame(&self) {
        self.refused_frames.inc();
    }

    pub(crate) fn refused_spool_file(&self) {
        self.refused_spool_files.inc();
    }

    /// The text Prometheus reads.
    pub(crate) fn text(&self, reading: &Reading<'_>) -> String {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, counts, breaker, oldest_seconds) in reading.destinations {
            for state in StateName::ALL {
                self.deliveries
                    .with_label_values(&[name.as_str(), state.as_str()])
                    .set(whole(counts.by_state.of(state)));
            }
            self.oldest.with_label_values(&[name]).set(whole(*oldest_seconds));
            self.paused.with_label_values(&[name]).set(i64::from(counts.paused));
            self.breaker
                .with_label_values(&[name])
                .set(i64::from(breaker.is_some_and(|word| word != "closed")));
        }
        self.spool_files.set(whole(reading.spool_files));
        if let Some(roots) = reading.gc_roots {
            self.gc_roots.set(whole(roots));
        }
        self.uptime.set(whole(reading.uptime.as_secs()));
        self.commits.set(whole(reading.writer.commits));
        self.jobs.set(whole(reading.writer.jobs));
        self.writer_backlog.set(whole(reading.writer.backlog.iter().sum::<usize>() as u64));
        self.commits_failed.set(whole(reading.writer.commits_failed));
        self.flush.set(reading.writer.flush_total.as_secs_f64());
        if let Some(free) = reading.state_free {
            self.state_free.set(whole(free));
        }
        self.database.set(whole(reading.database));
        self.last_backup
            .set(reading.last_backup.map_or(0.0, |taken| taken.since(Time::default()).as_secs_f64()));
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("writing into memory does not fail");
        String::from_utf8(text).expect("Prometheus text is UTF-8: names, help and labels are")
    }
}

/// A metric that the registry knows.
fn registered<M: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<M>) -> M {
    let made = made.expect("metric names are ours and valid");
    registry.register(Box::new(made.clone())).expect("each metric is registered once");
    made
}
