//! What every stage of the daemon shares: the tables, the clock, the local store, the roots, and the wake-ups.
//!
//! Nothing flows through here. A wake-up is a hint; whoever hears it reads the table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix_store::Store;
use service_kit::backoff::Rng;
use service_kit::clock::{Clock, Mono};
use sqlite_kit::{Reader, Writer};
use tokio::sync::watch;

use crate::config::{CacheConfig, Config};
use crate::delivery::LeaseToken;
use crate::metrics::Metrics;
use crate::model::DestinationId;
use crate::progress::AllProgress;
use crate::roots::RootKeeper;
use crate::route::Door;
use crate::store::DestinationRows;

/// The shared parts of a running daemon.
pub struct Queue {
    /// The checked configuration.
    pub config: Config,
    /// The only writer.
    pub(crate) db: Writer,
    /// Readers.
    pub(crate) reader: Reader,
    /// The clock.
    pub clock: Clock,
    /// The local Nix store.
    pub(crate) store: Arc<dyn Store>,
    /// GC roots.
    pub(crate) roots: Arc<RootKeeper>,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Row ids of the destinations.
    pub(crate) rows: DestinationRows,
    /// What is on its way.
    pub(crate) progress: AllProgress,
    /// What routing knows of the destinations.
    pub(crate) doors: Vec<Door>,
    /// When the daemon started.
    pub(crate) started: Mono,
    tokens: AtomicU64,
    rng: Mutex<Rng>,
    changed: watch::Sender<u64>,
    intake_closed: std::sync::atomic::AtomicBool,
}

/// The parts a queue is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) db: Writer,
    pub(crate) reader: Reader,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) roots: Arc<RootKeeper>,
    pub(crate) rows: DestinationRows,
    pub(crate) doors: Vec<Door>,
    pub(crate) last_token: u64,
}

impl Queue {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, db, reader, clock, store, roots, rows, doors, last_token } = parts;
        let progress = AllProgress::new(config.caches.iter().map(|cache| cache.id.as_str()), &clock);
        Self {
            progress,
            config,
            db,
            reader,
            started: clock.mono(),
            clock,
            store,
            roots,
            metrics: Metrics::new(),
            rows,
            doors,
            tokens: AtomicU64::new(last_token),
            rng: Mutex::new(Rng::from_entropy()),
            changed: watch::Sender::new(0),
            intake_closed: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The configuration and the row of a destination.
    pub(crate) fn destination(&self, id: &DestinationId) -> Option<(&CacheConfig, i64)> {
        let config = self.config.caches.iter().find(|cache| cache.id == *id)?;
        Some((config, self.rows.row(id)?))
    }

    /// A token no lease has had.
    pub(crate) fn next_token(&self) -> LeaseToken {
        LeaseToken(self.tokens.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A generator for one transaction.
    pub(crate) fn rng(&self) -> Rng {
        Rng::seeded(self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64())
    }

    /// Says that some delivery has changed its state.
    pub(crate) fn say_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Hears that some delivery has changed its state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// From now on requests are answered `busy`, so that clients keep them in the spool.
    pub(crate) fn close_intake(&self) {
        self.intake_closed.store(true, Ordering::Relaxed);
    }

    /// Takes requests in again.
    pub(crate) fn open_intake(&self) {
        self.intake_closed.store(false, Ordering::Relaxed);
    }

    /// Whether the intake is closed.
    pub(crate) fn intake_is_closed(&self) -> bool {
        self.intake_closed.load(Ordering::Relaxed)
    }
}
