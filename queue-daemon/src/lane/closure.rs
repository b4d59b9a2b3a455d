//! Keeps two batches of one destination from sending the same path at once.
//!
//! In flows a batch; out flows a guard over the paths of its closure that the destination is not known to have.
//! A batch whose unsent paths meet those of one under way waits for that one: afterwards they are there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use nix_store::{PathInfo, StoreError};
use nix_types::StorePath;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use tokio::sync::Notify;

use super::Lane;
use crate::filter::PathFacts;
use crate::push::Leased;
use crate::store::cache;

/// Unsent paths of the batches under way.
#[derive(Default)]
pub(super) struct InFlight {
    paths: Mutex<HashSet<StorePath>>,
    freed: Notify,
}

/// A batch's hold on its unsent paths.
pub(super) struct Guard<'a> {
    in_flight: &'a InFlight,
    unsent: Vec<StorePath>,
    closure: Vec<PathInfo>,
}

impl InFlight {
    fn try_enter(&self, unsent: &[StorePath]) -> bool {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let free = unsent.iter().all(|path| !paths.contains(path));
        if free {
            paths.extend(unsent.iter().cloned());
        }
        free
    }
}

impl Guard<'_> {
    /// The closure of the batch, references first; empty when the engine does not ask for it.
    pub(super) fn closure(&self) -> &[PathInfo] {
        &self.closure
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut paths = self.in_flight.paths.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &self.unsent {
            paths.remove(path);
        }
        drop(paths);
        self.in_flight.freed.notify_waiters();
    }
}

impl Lane {
    /// Works out the closure, and for an engine that sends it as a whole waits until no batch under way shares an
    /// unsent path; `None` when told to stop first.
    pub(super) async fn enter_closure(
        &self,
        part: &[Leased],
        stop: &Stop,
    ) -> Result<Option<Guard<'_>>, StoreError> {
        let in_flight = &self.closures;
        let rules = self.push.rules();
        let alone = |closure| Ok(Some(Guard { in_flight, unsent: Vec::new(), closure }));
        if !rules.closure {
            return alone(Vec::new());
        }
        let infos = match self.closure_of(part).await {
            Ok(infos) => infos,
            Err(error) if rules.exclusive => {
                // Sending twice is waste, not loss; the engine meets the same trouble and reports it.
                tracing::warn!(destination = %self.config.id, "closure for {} unknown: {}", self.config.id, chain(&error));
                return alone(Vec::new());
            }
            Err(error) => return Err(error),
        };
        self.warn_of_needed_but_filtered(part, &infos);
        if !rules.exclusive {
            return alone(infos);
        }
        let unsent = self.not_present(&infos);
        loop {
            let freed = in_flight.freed.notified();
            tokio::pin!(freed);
            // Registered before the look, so that a guard dropped in between is heard.
            freed.as_mut().enable();
            if in_flight.try_enter(&unsent) {
                return Ok(Some(Guard { in_flight, unsent, closure: infos }));
            }
            if stop.or(freed).await.is_none() {
                return Ok(None);
            }
        }
    }

    async fn closure_of(&self, part: &[Leased]) -> Result<Vec<PathInfo>, StoreError> {
        let store = Arc::clone(&self.queue.store);
        let paths: Vec<StorePath> = part.iter().map(|leased| leased.path.clone()).collect();
        tokio::task::spawn_blocking(move || store.closure(&paths))
            .await
            .expect("the closure query does not panic: it returns its errors")
    }

    fn not_present(&self, infos: &[PathInfo]) -> Vec<StorePath> {
        let now = self.queue.clock.now();
        let look = self.queue.reader.with(|conn| {
            let mut unsent = Vec::new();
            for info in infos {
                if !cache::is_present(conn, self.row, info.path.as_str(), now)? {
                    unsent.push(info.path.clone());
                }
            }
            Ok::<_, crate::store::RowError>(unsent)
        });
        // Without an answer everything counts as unsent.
        look.unwrap_or_else(|_| infos.iter().map(|info| info.path.clone()).collect())
    }

    /// A filter chooses what is queued, not what a closure needs: a cache with holes helps nobody.
    fn warn_of_needed_but_filtered(&self, part: &[Leased], infos: &[PathInfo]) {
        if self.config.filter.is_empty() {
            return;
        }
        for info in infos.iter().filter(|info| part.iter().all(|leased| leased.path != info.path)) {
            if let Some(why) = self.config.filter.skips(&facts(info)) {
                let (path, id) = (&info.path, &self.config.id);
                tracing::warn!(destination = %id, store.path = %path, "{path} is sent to {id} although {why}: a pushed closure needs it");
            }
        }
    }
}

/// What a filter looks at, of one path.
pub(crate) fn facts(info: &PathInfo) -> PathFacts<'_> {
    PathFacts {
        name: info.path.name(),
        nar_bytes: info.nar_size,
        content_address: info.ca.as_deref(),
        signatures: &info.signatures,
    }
}
