//! What is remembered of a destination: which paths and archives it had, and which cache it was.
//!
//! In flow what was seen there; out flows what need not be asked or sent again. Everything has an end, and all of it
//! is forgotten when the destination turns out to be another one. Nothing here is needed to be right, only to be fast.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix_types::{Sha256, StorePath};
use service_kit::clock::Time;
use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;

use crate::config::CacheConfig;
use crate::queue::Queue;
use crate::store::RowError;
use crate::store::cache::{self, Remembered};

/// An archive that has so many bytes is written down at once.
const EXPENSIVE_BYTES: u64 = 1 << 20;
/// Others wait until there are so many.
const UNWRITTEN_MAX: usize = 256;

/// The memory of one destination.
pub(in crate::push) struct Memory {
    queue: Arc<Queue>,
    row: i64,
    ttl: std::time::Duration,
    /// Archives that were sent and are not written down yet.
    unwritten: Mutex<Vec<(String, Archive)>>,
}

/// An archive that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) file_hash: Sha256,
    pub(super) file_size: u64,
}

impl Memory {
    pub(in crate::push) fn new(queue: Arc<Queue>, cache: &CacheConfig) -> Self {
        let row =
            queue.rows.row(&cache.id).expect("every configured destination has a row: the start made it");
        Self { queue, row, ttl: cache.presence_ttl, unwritten: Mutex::default() }
    }

    /// What is remembered of each path.
    pub(in crate::push) async fn of_paths(&self, paths: Vec<StorePath>) -> Vec<Remembered> {
        let (queue, row, now) = (Arc::clone(&self.queue), self.row, self.queue.clock.now());
        let count = paths.len();
        let asked = tokio::task::spawn_blocking(move || {
            queue.reader.with(|conn| {
                paths.iter().map(|path| cache::remembered(conn, row, path.as_str(), now)).collect()
            })
        });
        let found: Result<Vec<Remembered>, RowError> =
            asked.await.expect("a look into the table does not panic");
        found.unwrap_or_else(|error| {
            tracing::debug!("presence unknown, the destination is asked: {}", chain(&error));
            vec![Remembered::Nothing; count]
        })
    }

    /// The archives of these keys, those that were sent.
    pub(super) async fn archives(&self, keys: Vec<String>) -> Vec<Option<Archive>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let (queue, row, now) = (Arc::clone(&self.queue), self.row, self.queue.clock.now());
        let count = keys.len();
        let asked = tokio::task::spawn_blocking(move || {
            queue.reader.with(|conn| {
                keys.iter()
                    .map(|key| cache::archive(conn, row, key, now))
                    .collect::<Result<Vec<_>, RowError>>()
            })
        });
        let found = asked.await.expect("a look into the table does not panic");
        // Unknown is as good as never sent.
        let found = found.unwrap_or_else(|_| vec![None; count]);
        let archive = |(hash, file_size): (String, u64)| {
            Some(Archive { file_hash: Sha256::parse(&hash).ok()?, file_size })
        };
        found.into_iter().map(|found| found.and_then(archive)).collect()
    }

    /// Remembers an archive that was sent: at once what was expensive, the rest when there are some or with
    /// [`Memory::flush_archives`]. Nobody waits for it.
    pub(super) fn keep_archive(&self, key: String, archive: Archive) {
        let expensive = archive.file_size >= EXPENSIVE_BYTES;
        let mut unwritten = self.unwritten();
        unwritten.push((key, archive));
        if expensive || unwritten.len() >= UNWRITTEN_MAX {
            drop(unwritten);
            self.flush_archives();
        }
    }

    /// Writes down what is remembered in memory alone.
    pub(super) fn flush_archives(&self) {
        let archives = std::mem::take(&mut *self.unwritten());
        if archives.is_empty() {
            return;
        }
        let (row, until) = (self.row, self.until());
        self.queue.db.post(DbLane::Bulk, "archives that were sent", move |tx| {
            for (key, archive) in &archives {
                cache::keep_archive(tx, row, key, &archive.file_hash.to_string(), archive.file_size, until)?;
            }
            Ok::<(), RowError>(())
        });
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<(String, Archive)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mark of the cache that was there when it was last looked at.
    pub(in crate::push) async fn mark(&self) -> Option<String> {
        let (queue, row) = (Arc::clone(&self.queue), self.row);
        let asked = tokio::task::spawn_blocking(move || queue.reader.with(|conn| cache::mark(conn, row)));
        asked.await.expect("a look into the table does not panic").ok().flatten()
    }

    /// Another cache is there now: everything else about the old one is forgotten.
    pub(in crate::push) async fn now_it_is(
        &self,
        mark: Option<String>,
        forget: bool,
    ) -> Result<(), RowError> {
        let (row, now) = (self.row, self.queue.clock.now());
        let written = self.queue.db.call(DbLane::Normal, move |tx| {
            if forget {
                cache::forget(tx, row, now)?;
            }
            cache::set_mark(tx, row, mark.as_deref())
        });
        written.await.map_err(crate::store::flatten)
    }

    /// Counts a path that is not what Nix registered.
    pub(in crate::push) fn count_corrupt(&self) {
        self.queue.metrics.corrupt();
    }

    fn until(&self) -> Time {
        self.queue.clock.now() + self.ttl
    }
}
