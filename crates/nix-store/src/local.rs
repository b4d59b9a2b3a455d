//! The local store, asked the way that is open: questions come in and go to the database where it may be read, else to
//! the daemon. Which one is found out by asking, and again when the one in use no longer serves; so it does not matter
//! which of the two appears first, or whether this program starts before Nix was ever used.

use std::sync::atomic::{AtomicU32, Ordering};

use nix_types::{DrvPath, StorePath};

use crate::daemon::DaemonError;
use crate::dirs::StoreDirs;
use crate::sqlite::SqliteStore;
use crate::store::{Cursor, Filter, Page, PathInfo, Realisation, Store, StoreError};
use crate::worker::WorkerStore;

/// How many questions the daemon answers before the database is tried again.
const BY_DAEMON: u32 = 1000;

/// The local store.
pub struct LocalStore {
    database: SqliteStore,
    daemon: WorkerStore,
    /// How many questions the daemon still is asked first, because the database could not be opened.
    by_daemon: AtomicU32,
}

impl LocalStore {
    /// The store in these folders. Asks nothing yet: neither the database nor the daemon need be there.
    #[must_use]
    pub fn new(dirs: StoreDirs) -> Self {
        let database = SqliteStore::new(dirs.clone());
        Self { database, daemon: WorkerStore::new(dirs), by_daemon: AtomicU32::new(0) }
    }

    /// Where this store is.
    #[must_use]
    pub fn dirs(&self) -> &StoreDirs {
        self.database.dirs()
    }

    fn ask<T>(&self, question: impl Fn(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.by_daemon.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            match question(&self.daemon) {
                Err(error) if is_no_daemon(&error) => {}
                answer => return answer,
            }
        }
        let refused = match question(&self.database) {
            Err(error) if is_no_database(&error) => error,
            answer => {
                self.by_daemon.store(0, Ordering::Relaxed);
                return answer;
            }
        };
        match question(&self.daemon) {
            // What is wrong with the database is what somebody can mend.
            Err(error) if is_no_daemon(&error) => Err(refused),
            answer => {
                // A database that is only not there yet is looked for each time, which costs nothing.
                let questions = if matches!(refused, StoreError::NoDatabase { .. }) { 0 } else { BY_DAEMON };
                self.by_daemon.store(questions, Ordering::Relaxed);
                answer
            }
        }
    }
}

fn is_no_database(error: &StoreError) -> bool {
    matches!(error, StoreError::NoDatabase { .. } | StoreError::Open { .. } | StoreError::Schema { .. })
}

fn is_no_daemon(error: &StoreError) -> bool {
    let StoreError::Daemon { source, .. } = error else { return false };
    matches!(source, DaemonError::Connect { .. } | DaemonError::Protocol { .. })
}

impl Store for LocalStore {
    fn store_dir(&self) -> &str {
        self.database.store_dir()
    }

    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        self.ask(|store| store.is_valid(path))
    }

    fn valid_among(&self, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
        self.ask(|store| store.valid_among(paths))
    }

    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
        self.ask(|store| store.path_info(path))
    }

    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        self.ask(|store| store.closure(roots))
    }

    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        self.ask(|store| store.outputs_of(drv))
    }

    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        self.ask(|store| store.realisations_of(path))
    }

    /// Always through the daemon, for nobody else may write the database.
    fn add_signatures(&self, path: &StorePath, signatures: &[String]) -> Result<(), StoreError> {
        self.daemon.add_signatures(path, signatures)
    }

    /// A listing is finished where it was begun: its places mean nothing elsewhere.
    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        if after == Cursor::default() {
            self.ask(|store| store.valid_page(filter, after, limit))
        } else if after.is_of_daemon() {
            self.daemon.valid_page(filter, after, limit)
        } else {
            self.database.valid_page(filter, after, limit)
        }
    }
}
