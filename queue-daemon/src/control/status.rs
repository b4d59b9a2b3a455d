//! What `status` and Prometheus show: one reading of the table beside what only the running daemon knows. Blocks: it
//! reads the table and the spool folder.

use std::collections::BTreeMap;

use super::protocol::{DestinationStatus, Status};
use super::server::{Control, Trouble};
use crate::backup;
use crate::delivery::StateName;
use crate::metrics::Reading;
use crate::store::RowError;
use crate::store::inspect::{self, DestinationCounts};

impl Control {
    pub(crate) fn status(&self) -> Result<Status, Trouble> {
        let queue = &self.queue;
        let counts = self.counts()?;
        let shown = |(name, counts): (&String, &DestinationCounts)| {
            (name.clone(), self.destination_status(name, counts))
        };
        let destinations: BTreeMap<String, DestinationStatus> = counts.iter().map(shown).collect();
        Ok(Status {
            oldest_queued_seconds: destinations.values().filter_map(|one| one.oldest_queued_seconds).max(),
            bytes_pushed: counts.values().map(|counts| counts.bytes_pushed).sum(),
            destinations,
            spool_files: self.spool.files(),
            gc_roots: queue.roots.count(),
            draining: queue.intake_is_closed(),
            uptime_seconds: queue.clock.mono().since(queue.started).as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// How one destination stands.
    pub(super) fn destination_status(&self, name: &str, counts: &DestinationCounts) -> DestinationStatus {
        let (now, breaker) = (self.queue.clock.now(), self.breaker_word(name));
        let mut by_state = counts.by_state.clone();
        for state in StateName::ALL {
            by_state.0.entry(state.as_str().to_owned()).or_insert(0);
        }
        DestinationStatus {
            by_state,
            breaker: breaker.map(str::to_owned),
            paused: counts.paused,
            configured: breaker.is_some(),
            oldest_queued_seconds: counts.oldest_queued.map(|oldest| now.since(oldest).as_secs()),
            bytes_pushed: counts.bytes_pushed,
        }
    }

    pub(crate) fn metrics_text(&self) -> Result<String, Trouble> {
        let queue = &self.queue;
        let now = queue.clock.now();
        let rows: Vec<_> = self
            .counts()?
            .into_iter()
            .map(|(name, counts)| {
                let breaker = self.breaker_word(&name);
                let oldest = counts.oldest_queued.map_or(0, |oldest| now.since(oldest).as_secs());
                (name, counts, breaker, oldest)
            })
            .collect();
        let last_backup = queue.reader.with(|conn| Ok::<_, RowError>(backup::last_taken(conn)?))?;
        Ok(queue.metrics.text(&Reading {
            destinations: &rows,
            spool_files: self.spool.files(),
            gc_roots: queue.roots.count(),
            uptime: queue.clock.mono().since(queue.started),
            writer: queue.db.stats(),
            state_free: backup::free_bytes(&queue.config.queue.state_dir).ok(),
            database: backup::database_bytes(&queue.config.queue.state_dir),
            last_backup,
        }))
    }

    /// Destinations that left the configuration are shown only while they have deliveries.
    pub(super) fn counts(&self) -> Result<BTreeMap<String, DestinationCounts>, Trouble> {
        let mut counts = self.queue.reader.with(inspect::counts)?;
        counts.retain(|name, counts| self.breaker_word(name).is_some() || counts.by_state.total() > 0);
        Ok(counts)
    }

    fn breaker_word(&self, name: &str) -> Option<&'static str> {
        self.lanes.iter().find(|lane| lane.config.id.as_str() == name).map(|lane| lane.breaker_word())
    }
}
