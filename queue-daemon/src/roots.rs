//! Keeps queued paths from the garbage collector.
//!
//! In flow the paths that are being taken in and those whose deliveries have ended; out flow roots that Nix
//! honours, and a word to a collection that is under way. A path is held before its validity is asked and before the
//! table knows it, and let go when neither an intake under way nor the table needs it. The roots are an index: `rebuild`
//! makes them agree with the table.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix_store::collector::{Collector, NotTold};
use nix_store::gcroots::{GcRoots, RootsError};
use nix_types::StorePath;
use rusqlite::Connection;
use sqlite_kit::Reader;

use crate::store::{RowError, admin, lease};

mod count;

use count::Count;

/// Rows read at a time while rebuilding.
const CHUNK_PATHS: u32 = 2_000;

/// The roots of the queue.
pub struct RootKeeper {
    roots: GcRoots,
    collector: Collector,
    reader: Reader,
    /// Intakes under way, by path: the table does not know these yet.
    held: Mutex<HashMap<StorePath, Hold>>,
    /// Changed only by who has `held`.
    count: Mutex<Count>,
}

/// Intakes under way that hold a path.
#[derive(Debug, Default)]
struct Hold {
    count: u32,
    /// A delivery of it has ended meanwhile: ask again when the last intake lets go.
    ask_again: bool,
}

/// The table could not be asked, or a root not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A root.
    #[error(transparent)]
    Root(#[from] RootsError),
    /// The table.
    #[error("ask the queue which paths are still needed")]
    Table(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Roots made.
    pub added: u64,
    /// Roots removed.
    pub removed: u64,
}

impl RootKeeper {
    /// Wraps an opened roots folder, and the collector that honours what is in it.
    #[must_use]
    pub fn new(roots: GcRoots, collector: Collector, reader: Reader) -> Self {
        Self { roots, collector, reader, held: Mutex::default(), count: Mutex::default() }
    }

    /// Makes the root of a path that is being taken in.
    ///
    /// # Errors
    /// When the root cannot be made; the path is then not held.
    pub fn hold(&self, path: &StorePath) -> Result<(), KeepError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.add(path)?;
        held.entry(path.clone()).or_default().count += 1;
        Ok(())
    }

    /// Tells a garbage collection that is under way of paths that are held: it read the roots before these were made.
    ///
    /// # Errors
    /// When there is one and it does not take them; they may be deleted although they are held.
    pub fn tell_collector(&self, held: &[StorePath]) -> Result<(), NotTold> {
        self.collector.keep(held)
    }

    /// The intake of a held path has ended: from now on the table decides.
    ///
    /// # Errors
    /// When the table cannot be asked or the root not be removed; `rebuild` mends it.
    pub fn unhold(&self, path: &StorePath) -> Result<(), KeepError> {
        drop_hold(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner), path);
        self.release(path)
    }

    /// The intake of held paths has ended and the table owes them: their roots stay. Returns those that were
    /// delivered before this call, which the caller must `release`.
    #[must_use]
    pub(crate) fn unhold_owed(&self, paths: Vec<StorePath>) -> Vec<StorePath> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        paths.into_iter().filter(|path| drop_hold(&mut held, path)).collect()
    }

    /// Removes the root if nothing needs it. The lock is kept over the question and the removal, so that no
    /// intake can begin in between.
    ///
    /// # Errors
    /// When the table cannot be asked or the root not be removed; `rebuild` mends it.
    pub fn release(&self, path: &StorePath) -> Result<(), KeepError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hold) = held.get_mut(path) {
            hold.ask_again = true;
            return Ok(());
        }
        if self.ask(|conn| lease::is_needed(conn, path.as_str()))? {
            return Ok(());
        }
        let was_there = self.roots.remove(path)?;
        self.counted().removed(path, was_there);
        Ok(())
    }

    /// Number of roots; `None` until they have been listed once, which `rebuild` does. Asks no disk.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.counted().get()
    }

    /// Makes the roots agree with the table: adds the missing, removes the left-over.
    ///
    /// # Errors
    /// At the first root or question that fails.
    pub fn rebuild(&self) -> Result<Rebuilt, KeepError> {
        let mut rebuilt = Rebuilt::default();
        let mut present: HashSet<StorePath> = self.list()?.into_iter().collect();
        let mut after = String::new();
        loop {
            let chunk = self.ask(|conn| admin::needed_paths(conn, &after, CHUNK_PATHS))?;
            let Some(last) = chunk.last() else { break };
            after.clone_from(last);
            for path in chunk.iter().filter_map(|text| StorePath::parse(text.as_bytes()).ok()) {
                if !present.remove(&path) {
                    let _held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                    self.add(&path)?;
                    rebuilt.added += 1;
                }
            }
        }
        for path in present {
            self.release(&path)?;
            rebuilt.removed += 1;
        }
        Ok(rebuilt)
    }

    /// The roots there are. The listing is made while intakes go on, and counted without any.
    fn list(&self) -> Result<Vec<StorePath>, RootsError> {
        self.counted().listing_begins();
        let listed = self.roots.list();
        let _held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.counted().listing_ends(listed.as_deref().ok());
        listed
    }

    /// Makes a root, for who has `held`.
    fn add(&self, path: &StorePath) -> Result<(), RootsError> {
        let new = self.roots.add(path)?;
        self.counted().made(path, new);
        Ok(())
    }

    fn counted(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, RowError>) -> Result<T, KeepError> {
        self.reader.with(question).map_err(|error| KeepError::Table(Box::new(error)))
    }
}

/// True when that was the last hold and a delivery has ended meanwhile.
fn drop_hold(held: &mut HashMap<StorePath, Hold>, path: &StorePath) -> bool {
    let Some(hold) = held.get_mut(path) else { return false };
    hold.count -= 1;
    if hold.count > 0 {
        return false;
    }
    held.remove(path).is_some_and(|hold| hold.ask_again)
}

/// Releases paths off the async threads: roots are disk work. A failure leaves a root that `rebuild` removes.
pub(crate) async fn release_all(roots: &std::sync::Arc<RootKeeper>, paths: Vec<StorePath>) {
    if paths.is_empty() {
        return;
    }
    let roots = std::sync::Arc::clone(roots);
    let work = move || {
        for path in paths {
            if let Err(error) = roots.release(&path) {
                let why = service_kit::telemetry::chain(&error);
                tracing::warn!(store.path = %path, "GC root of {path} not removed: {why}");
            }
        }
    };
    tokio::task::spawn_blocking(work).await.expect("releasing roots does not panic: it logs its errors");
}
