//! The store as the Nix daemon tells of it over its socket: questions come in, path infos come out. For those who may
//! not read the database, or cannot: all it needs is the socket, and the store's folder for `.drv` files. One
//! conversation per question at a time; a few are kept and used again (the daemon begins each with a process of its
//! own, some milliseconds, and caches nothing in it). Each answer is of its own moment: what changes between two of
//! one closure or listing is seen half.

use std::sync::{Mutex, PoisonError};

use nix_types::{DrvPath, StorePath};

use crate::daemon::{Daemon, DaemonError};
use crate::dirs::StoreDirs;
use crate::store::{Cursor, Filter, Page, PathInfo, Realisation, Store, StoreError, ours};

mod closure;
mod listing;
mod outputs;

use listing::Listings;

/// Most conversations kept while nobody asks.
const IDLE_MAX: usize = 4;

/// The local store, asked through the daemon.
pub struct WorkerStore {
    dirs: StoreDirs,
    idle: Mutex<Vec<Daemon>>,
    listings: Mutex<Listings>,
}

impl WorkerStore {
    /// The store in these folders. Asks nothing yet: the daemon may still be absent.
    #[must_use]
    pub fn new(dirs: StoreDirs) -> Self {
        Self { dirs, idle: Mutex::default(), listings: Mutex::default() }
    }

    /// Where this store is.
    #[must_use]
    pub fn dirs(&self) -> &StoreDirs {
        &self.dirs
    }

    /// Runs a question on a conversation. One that was kept may have broken off meanwhile, so a question that breaks on
    /// it is asked once more on a new one.
    fn ask<T>(
        &self,
        mut question: impl FnMut(&mut Daemon) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut daemon) = kept {
            match question(&mut daemon) {
                Err(StoreError::Daemon { source: DaemonError::Broken { .. }, .. }) => {
                    // The others are as old.
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                answer => return answer.inspect(|_| self.keep(daemon)),
            }
        }
        let mut daemon = Daemon::connect(self.dirs.daemon_socket()).map_err(failed("a conversation"))?;
        // After an error it may be in the middle of an answer, so it is not used again.
        question(&mut daemon).inspect(|_| self.keep(daemon))
    }

    fn keep(&self, daemon: Daemon) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(daemon);
        }
    }
}

impl Store for WorkerStore {
    fn store_dir(&self) -> &str {
        self.dirs.store()
    }

    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|daemon| daemon.is_valid(path).map_err(failed("a path")))
    }

    fn valid_among(&self, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
        paths.iter().try_for_each(|path| ours(self.dirs.store(), path))?;
        let mut valid = self.ask(|daemon| daemon.valid_among(paths).map_err(failed("valid paths")))?;
        valid.sort_unstable();
        Ok(paths.iter().filter(|path| valid.binary_search(path).is_ok()).cloned().collect())
    }

    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|daemon| info_of(daemon, path))
    }

    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        roots.iter().try_for_each(|root| ours(self.dirs.store(), root))?;
        self.ask(|daemon| closure::of(daemon, roots))
    }

    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        ours(self.dirs.store(), drv.store_path())?;
        self.ask(|daemon| outputs::of(daemon, drv))
    }

    /// Only what the path's deriver tells: the daemon finds a realisation by its derivation alone. Empty when that is
    /// gone from the store.
    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|daemon| outputs::realisations(daemon, path))
    }

    /// May be repeated. The daemon takes them from every user who may talk to it, and checks nothing.
    fn add_signatures(&self, path: &StorePath, signatures: &[String]) -> Result<(), StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|daemon| {
            // Asked before: Nix 2.8 falls over signatures for a path that is not valid.
            if !daemon.is_valid(path).map_err(failed("a path"))? {
                return Err(StoreError::NotValid { path: path.clone() });
            }
            daemon.add_signatures(path, signatures).map_err(failed("new signatures"))
        })
    }

    /// The daemon knows seconds of registration and no order within one; there, what is referred to comes first. The
    /// first page takes the whole listing, one question per path, and keeps it for the pages behind it, so what is
    /// registered later is in the next listing.
    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        listing::page(&self.listings, filter, after, limit, || {
            self.ask(|daemon| listing::all(daemon, filter))
        })
    }
}

fn failed(what: &'static str) -> impl Fn(DaemonError) -> StoreError {
    move |source| StoreError::Daemon { what, source }
}

/// Path infos have one name in errors wherever they are asked for.
impl From<DaemonError> for StoreError {
    fn from(source: DaemonError) -> Self {
        Self::Daemon { what: "what it knows of paths", source }
    }
}

fn info_of(daemon: &mut Daemon, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
    let mut found = None;
    daemon.path_infos(std::slice::from_ref(path), |_, info| -> Result<(), StoreError> {
        found = info;
        Ok(())
    })?;
    Ok(found)
}
