//! Keeps queued paths from the garbage collector.
//!
//! In flow the paths that are being taken in and those whose deliveries have ended; out flow roots that Nix
//! honours, and a word to a collection that is under way. A path is held before its validity is asked and before the
//! table knows it, and let go when neither an intake under way nor the table needs it. The roots are an index: `rebuild`
//! makes them agree with the table.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix_store::collector::{Collector, NotTold};
use nix_store::gcroots::{GcRoots, LeftRoots, RootsError};
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
    /// Of the kind that is not in use, until they are removed.
    left: Mutex<Option<LeftRoots>>,
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
    /// Wraps an opened roots folder, the collector that honours what is in it, and what the first rebuild is to remove
    /// of the other kind.
    #[must_use]
    pub fn new(roots: GcRoots, left: Option<LeftRoots>, collector: Collector, reader: Reader) -> Self {
        let left = Mutex::new(left);
        Self { roots, collector, reader, left, held: Mutex::default(), count: Mutex::default() }
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
        self.let_go(path).map(drop)
    }

    /// The same; true when there was a root and it is removed.
    fn let_go(&self, path: &StorePath) -> Result<bool, KeepError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hold) = held.get_mut(path) {
            hold.ask_again = true;
            return Ok(false);
        }
        if self.ask(|conn| lease::is_needed(conn, path.as_str()))? {
            return Ok(false);
        }
        let was_there = self.roots.remove(path)?;
        self.counted().removed(path, was_there);
        Ok(was_there)
    }

    /// Makes a root that was missing when it was looked for. Its delivery may have ended meanwhile: the table is asked
    /// again under the lock, where nobody can let the path go. True when the root is new.
    fn give_back(&self, path: &StorePath) -> Result<bool, KeepError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains_key(path) || !self.ask(|conn| lease::is_needed(conn, path.as_str()))? {
            return Ok(false);
        }
        Ok(self.add(path)?)
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
                    rebuilt.added += u64::from(self.give_back(&path)?);
                }
            }
        }
        for path in present {
            rebuilt.removed += u64::from(self.let_go(&path)?);
        }
        self.remove_left();
        Ok(rebuilt)
    }

    /// Everything that is needed has a root: those of the other kind go. Tried once in the life of a daemon.
    fn remove_left(&self) {
        let Some(left) = self.left.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let folder = left.folder().display();
        match left.remove() {
            Ok(0) => {}
            Ok(removed) => tracing::info!(
                "{removed} GC roots in {folder} were removed: an earlier start made them, of the kind that is not in use now"
            ),
            Err(error) => tracing::warn!(
                "GC roots in {folder} keep paths that nobody needs: an earlier start made them, of the kind that is not \
                 in use now, and they cannot be removed; remove the folder as root: {}",
                service_kit::telemetry::chain(&error)
            ),
        }
    }

    /// The roots there are. The listing is made while intakes go on, and counted without any.
    fn list(&self) -> Result<Vec<StorePath>, RootsError> {
        self.counted().listing_begins();
        let listed = self.roots.list();
        let _held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.counted().listing_ends(listed.as_deref().ok());
        listed
    }

    /// Makes a root, for who has `held`. True when there was none.
    fn add(&self, path: &StorePath) -> Result<bool, RootsError> {
        let new = self.roots.add(path)?;
        self.counted().made(path, new);
        Ok(new)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix_store::StoreDirs;
    use nix_store::gcroots::Roots;
    use sqlite_kit::{Durability, Lane, Options, Writer, WriterThread};

    use super::*;
    use crate::delivery::StateName;
    use crate::store::schema::{APPLICATION_ID, MIGRATIONS};

    struct Stage {
        folder: tempfile::TempDir,
        db: Writer,
        _thread: WriterThread,
        keeper: RootKeeper,
    }

    fn path(n: u32) -> StorePath {
        StorePath::parse_str(&format!("/nix/store/{n:032}-x")).unwrap()
    }

    fn stage() -> Stage {
        let folder = tempfile::tempdir().unwrap();
        let dirs = StoreDirs::new("/nix/store", folder.path().join("var")).unwrap();
        std::fs::create_dir_all(dirs.gcroots()).unwrap();
        let options = Options {
            path: folder.path().join("queue.db"),
            durability: Durability::Off,
            vfs: None,
            application_id: APPLICATION_ID,
        };
        let (db, _thread) = Writer::open(&options, MIGRATIONS).unwrap();
        let reader = Reader::open(&options, MIGRATIONS).unwrap();
        let roots = GcRoots::Direct(Roots::open(&dirs, Path::new("/own")).unwrap());
        let keeper = RootKeeper::new(roots, None, Collector::new(&dirs), reader);
        Stage { folder, db, _thread, keeper }
    }

    impl Stage {
        /// A delivery of the path in this state.
        fn row(&self, path: &StorePath, state: StateName) {
            let path = path.to_string();
            let sql = "INSERT INTO destination (id, name) VALUES (1, 'main') ON CONFLICT DO NOTHING";
            let row = "INSERT INTO delivery (path, destination, state, priority, uid, nar_bytes, queued_ms, changed_ms)
                       VALUES (?1, 1, ?2, 0, 0, 0, 0, 0)
                       ON CONFLICT DO UPDATE SET state = excluded.state";
            let insert = move |tx: &sqlite_kit::Tx<'_>| {
                tx.execute(sql, [])?;
                tx.execute(row, rusqlite::params![path, state.code()])?;
                Ok::<_, RowError>(())
            };
            self.db.call_blocking(Lane::Urgent, insert).unwrap();
        }

        fn kept(&self) -> Vec<StorePath> {
            self.keeper.roots.list().unwrap()
        }
    }

    #[test]
    fn a_rebuild_adds_what_is_owed_and_removes_what_is_over() {
        let stage = stage();
        stage.row(&path(1), StateName::Queued);
        stage.row(&path(2), StateName::Done);
        stage.keeper.roots.add(&path(2)).unwrap();
        assert_eq!(stage.keeper.rebuild().unwrap(), Rebuilt { added: 1, removed: 1 });
        assert_eq!((stage.kept(), stage.keeper.count()), (vec![path(1)], Some(1)));
        assert_eq!(stage.keeper.rebuild().unwrap(), Rebuilt::default(), "again changes nothing");
        assert!(stage.folder.path().exists());
    }

    /// Between the reading of a chunk and the lock.
    #[test]
    fn a_path_that_was_delivered_meanwhile_gets_no_root_back() {
        let stage = stage();
        stage.row(&path(1), StateName::Queued);
        stage.row(&path(1), StateName::Done);
        assert!(!stage.keeper.give_back(&path(1)).unwrap());
        assert_eq!(stage.kept(), []);
        stage.row(&path(1), StateName::Waiting);
        assert!(stage.keeper.give_back(&path(1)).unwrap());
        assert!(!stage.keeper.give_back(&path(1)).unwrap(), "it is there");
        assert_eq!(stage.kept(), [path(1)]);
    }

    /// What an intake holds is no left-over, and not counted as removed.
    #[test]
    fn a_rebuild_leaves_what_is_held_alone() {
        let stage = stage();
        stage.keeper.hold(&path(1)).unwrap();
        assert_eq!(stage.keeper.rebuild().unwrap(), Rebuilt::default());
        assert_eq!(stage.kept(), [path(1)]);
        stage.keeper.unhold(&path(1)).unwrap();
        assert_eq!(stage.kept(), []);
    }
}
