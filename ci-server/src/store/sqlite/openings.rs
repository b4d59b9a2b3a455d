//! Which openings of the store are alive, in this process and in others. Each that begins runs or evaluations holds the
//! lock of a file of its own, beside the database, until it is closed or its process ends, however it ends; so a run or an
//! evaluation that is open belongs to somebody who is at work on it, or it is lost.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use service_kit::lock::is_at;
use sqlite_kit::Lane;
use sqlite_kit::rusqlite::params;

use super::SqliteStore;
use super::runs::LOST;
use super::schema::{DROPPED, OPEN};
use crate::store::{Fault, StoreError};

const DOING: &str = "end what a process that is gone was at work on";
/// What the folder of locks is called, behind the name of the database.
const FOLDER: &str = "-openings";

/// Those that have begun a run and have not ended it.
pub(super) const AT_WORK: &str = "SELECT DISTINCT session FROM run WHERE how IS NULL";
/// Those that have begun an evaluation and have not closed it.
const EVALUATE: &str = "SELECT DISTINCT session FROM evaluation WHERE state = ?1";

/// The locks of all openings of a database, and this one's.
#[derive(Debug)]
pub(super) struct Openings {
    folder: PathBuf,
    own: i64,
    /// Held once a run or an evaluation has been begun.
    lock: Mutex<Option<File>>,
}

impl Openings {
    pub(super) fn new(database: &Path, own: i64) -> Self {
        let mut folder = database.as_os_str().to_owned();
        folder.push(FOLDER);
        Self { folder: folder.into(), own, lock: Mutex::default() }
    }

    fn path(&self, opening: i64) -> PathBuf {
        self.folder.join(format!("{:016x}", opening.cast_unsigned()))
    }

    /// Says to everybody that this opening is at work, from now on.
    fn show(&self) -> io::Result<()> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.path(self.own);
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            file.lock()?; // somebody may be looking whether it is held
            if is_at(&file, &path) {
                *held = Some(file);
                return Ok(());
            }
        }
    }

    /// Is an opening that has begun something still there? Of one that is not, nothing is left afterwards.
    fn is_alive(&self, opening: i64) -> io::Result<bool> {
        if opening == self.own {
            return Ok(true);
        }
        let path = self.path(opening);
        loop {
            let file = match OpenOptions::new().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                opened => opened?,
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(true),
                Err(TryLockError::Error(error)) => return Err(error),
                // Else somebody else removed it, and there may be another one.
                Ok(()) if is_at(&file, &path) => return fs::remove_file(&path).map(|()| false),
                Ok(()) => {}
            }
        }
    }

    /// Every opening that has left its file, alive or not.
    fn all(&self) -> io::Result<Vec<i64>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        let numbers = names.iter().filter_map(|name| u64::from_str_radix(name.to_str()?, 16).ok());
        Ok(numbers.map(u64::cast_signed).collect())
    }
}

impl Drop for Openings {
    fn drop(&mut self) {
        let held = self.lock.get_mut().unwrap_or_else(PoisonError::into_inner);
        if held.is_some()
            && let Err(error) = fs::remove_file(self.path(self.own))
        {
            // The next opening removes it, once the lock is gone.
            tracing::debug!(path = %self.folder.display(), "a lock stays in {}: {error}", self.folder.display());
        }
    }
}

impl SqliteStore {
    /// Before the first run or evaluation is begun: who looks at it finds that somebody is at work.
    pub(super) fn show_that_we_work(&self, doing: &str) -> Result<(), StoreError> {
        self.openings.show().map_err(|error| self.disk(doing, error))
    }

    /// Ends open runs of openings that are gone, drops their open evaluations, and removes what these have left.
    pub(super) fn end_lost(&self) -> Result<(), StoreError> {
        let at_work: BTreeSet<i64> = self.read(DOING, |conn| {
            let (mut runs, mut evaluations) = (conn.prepare_cached(AT_WORK)?, conn.prepare_cached(EVALUATE)?);
            let runs = runs.query_map([], |row| row.get(0))?;
            Ok(runs
                .chain(evaluations.query_map(params![OPEN], |row| row.get(0))?)
                .collect::<Result<_, _>>()?)
        })?;
        for opening in at_work {
            if self.openings.is_alive(opening).map_err(|error| self.disk(DOING, error))? {
                continue;
            }
            let now = self.clock.now().as_ms();
            self.write(DOING, Lane::Normal, move |tx| {
                // One that was begun again meanwhile is another opening's.
                let sql = "UPDATE run SET how = ?2, closed_ms = ?3 WHERE session = ?1 AND how IS NULL";
                tx.prepare_cached(sql)?.execute(params![opening, LOST, now])?;
                let sql = "UPDATE evaluation SET state = ?2 WHERE session = ?1 AND state = ?3";
                tx.prepare_cached(sql)?.execute(params![opening, DROPPED, OPEN])?;
                Ok(())
            })?;
        }
        // Those that were killed with nothing open.
        for opening in self.openings.all().map_err(|error| self.disk(DOING, error))? {
            self.openings.is_alive(opening).map_err(|error| self.disk(DOING, error))?;
        }
        Ok(())
    }

    fn disk(&self, doing: &str, error: io::Error) -> StoreError {
        let fault = if error.kind() == io::ErrorKind::StorageFull { Fault::Full } else { Fault::Disk };
        StoreError::new(doing, &*self.place, fault).because(error)
    }
}
