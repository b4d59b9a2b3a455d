//! The real store: questions come in, rows of Nix' own database come out as path infos. The database is only read,
//! through ordinary read-only connections that see what Nix committed a moment ago; it may be absent, be written to or
//! be replaced meanwhile. Garbage collection between two questions is for the caller to expect.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use nix_types::{DrvPath, StorePath};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::dirs::StoreDirs;
use crate::store::{Cursor, Filter, Page, PathInfo, Realisation, Store, StoreError, ours};

mod closure;
mod open;
mod outputs;
mod realisations;

/// Most connections kept open while nobody asks.
const IDLE_MAX: usize = 4;

/// The local store, read from its database.
pub struct SqliteStore {
    dirs: StoreDirs,
    database: PathBuf,
    idle: Mutex<Vec<Opened>>,
}

/// A connection, and which file it is of.
struct Opened {
    file: FileId,
    connection: Connection,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl SqliteStore {
    /// The store in these folders. Opens nothing yet: the database may still be absent.
    #[must_use]
    pub fn new(dirs: StoreDirs) -> Self {
        Self { database: dirs.database(), dirs, idle: Mutex::new(Vec::new()) }
    }

    /// Where this store is.
    #[must_use]
    pub fn dirs(&self) -> &StoreDirs {
        &self.dirs
    }

    /// Runs a question on a connection to the database that is there now.
    fn ask<T>(&self, question: impl FnOnce(&Database<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let file = self.file()?;
        let opened = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|opened| opened.file == file);
            idle.pop()
        };
        let opened = match opened {
            Some(opened) => opened,
            None => Opened { file, connection: open::open(&self.dirs, &self.database)? },
        };
        let answer = question(&Database { connection: &opened.connection, store: self })?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(opened);
        }
        Ok(answer)
    }

    fn file(&self) -> Result<FileId, StoreError> {
        match fs::metadata(&self.database) {
            Ok(data) => Ok(FileId { device: data.dev(), inode: data.ino() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::NoDatabase { database: self.database.clone() })
            }
            Err(error) => Err(StoreError::Open { database: self.database.clone(), source: Box::new(error) }),
        }
    }
}

impl Store for SqliteStore {
    fn store_dir(&self) -> &str {
        self.dirs.store()
    }

    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|database| Ok(database.id_of(path)?.is_some()))
    }

    fn valid_among(&self, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
        paths.iter().try_for_each(|path| ours(self.dirs.store(), path))?;
        self.ask(|database| {
            database.snapshot(|| {
                let mut valid = Vec::new();
                for path in paths {
                    valid.extend(database.id_of(path)?.map(|_| path.clone()));
                }
                Ok(valid)
            })
        })
    }

    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|database| {
            database.snapshot(|| match database.id_of(path)? {
                Some(id) => {
                    let references = database.references_of(id)?.into_iter().map(|(_, path)| path).collect();
                    database.info(id, references)
                }
                None => Ok(None),
            })
        })
    }

    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        roots.iter().try_for_each(|root| ours(self.dirs.store(), root))?;
        self.ask(|database| database.snapshot(|| closure::of(database, roots)))
    }

    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError> {
        ours(self.dirs.store(), drv.store_path())?;
        self.ask(|database| database.snapshot(|| outputs::of(database, drv)))
    }

    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError> {
        ours(self.dirs.store(), path)?;
        self.ask(|database| database.snapshot(|| database.realisations_of(path)))
    }

    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        self.ask(|database| database.page(filter, after, limit))
    }
}

/// A connection with what its errors name.
struct Database<'a> {
    connection: &'a Connection,
    store: &'a SqliteStore,
}

impl Database<'_> {
    fn failed(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
        move |source| StoreError::Query { what, database: self.store.database.clone(), source }
    }

    fn path(&self, text: &str) -> Result<StorePath, StoreError> {
        StorePath::parse_str(text)
            .map_err(|source| StoreError::Malformed { database: self.store.database.clone(), source })
    }

    /// Runs several questions on one state of the database.
    fn snapshot<T>(&self, questions: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = self.connection.unchecked_transaction().map_err(self.failed("a snapshot"))?;
        let answer = questions()?;
        begun.commit().map_err(self.failed("a snapshot"))?;
        Ok(answer)
    }

    fn id_of(&self, path: &StorePath) -> Result<Option<i64>, StoreError> {
        self.one("a path's id", "SELECT id FROM ValidPaths WHERE path = ?1", [path.as_str()], |row| {
            row.get(0)
        })
    }

    /// What a path refers to, with ids, sorted by path.
    fn references_of(&self, id: i64) -> Result<Vec<(i64, StorePath)>, StoreError> {
        let sql =
            "SELECT v.id, v.path FROM Refs r JOIN ValidPaths v ON v.id = r.reference WHERE r.referrer = ?1";
        let rows: Vec<(i64, String)> =
            self.all("references", sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut references = rows
            .iter()
            .map(|(id, text)| Ok((*id, self.path(text)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        references.sort_unstable_by(|one, other| one.1.cmp(&other.1));
        Ok(references)
    }

    fn info(&self, id: i64, references: Vec<StorePath>) -> Result<Option<PathInfo>, StoreError> {
        let sql = "SELECT path, hash, narSize, deriver, registrationTime, ultimate, sigs, ca \
                   FROM ValidPaths WHERE id = ?1";
        let Some(raw) = self.one("a path's record", sql, [id], Raw::read)? else { return Ok(None) };
        Ok(Some(PathInfo {
            path: self.path(&raw.path)?,
            nar_hash: raw.hash,
            nar_size: raw.nar_size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            references,
            deriver: raw.deriver.and_then(|text| StorePath::parse_str(&text).ok()),
            registration_time: u64::try_from(raw.registration_time).unwrap_or(0),
            ultimate: raw.ultimate == Some(1),
            signatures: raw.sigs.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            ca: raw.ca.filter(|ca| !ca.is_empty()),
        }))
    }

    fn page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError> {
        let sql = "SELECT id, path FROM ValidPaths WHERE id > ?1 AND (?2 = 0 OR ultimate = 1) \
                   AND registrationTime >= ?3 ORDER BY id LIMIT ?4";
        let since =
            filter.registered_since.map_or(i64::MIN, |since| i64::try_from(since).unwrap_or(i64::MAX));
        let limit = limit.max(1);
        let wanted = params![after.0, filter.ultimate_only, since, i64::try_from(limit).unwrap_or(i64::MAX)];
        let rows: Vec<(i64, String)> =
            self.all("valid paths", sql, wanted, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let full = rows.len() == limit;
        let next = rows.last().map(|(id, _)| Cursor(*id)).filter(|_| full);
        let paths = rows.iter().map(|(_, text)| self.path(text)).collect::<Result<_, _>>()?;
        Ok(Page { paths, next })
    }

    fn one<T>(
        &self,
        what: &'static str,
        sql: &str,
        wanted: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed(what))?;
        statement.query_row(wanted, read).optional().map_err(self.failed(what))
    }

    fn all<T>(
        &self,
        what: &'static str,
        sql: &str,
        wanted: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.failed(what))?;
        let rows = statement.query_map(wanted, read).map_err(self.failed(what))?;
        rows.collect::<Result<_, _>>().map_err(self.failed(what))
    }
}

/// A row of `ValidPaths`.
struct Raw {
    path: String,
    hash: String,
    nar_size: Option<i64>,
    deriver: Option<String>,
    registration_time: i64,
    ultimate: Option<i64>,
    sigs: Option<String>,
    ca: Option<String>,
}

impl Raw {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            path: row.get(0)?,
            hash: row.get(1)?,
            nar_size: row.get(2)?,
            deriver: row.get(3)?,
            registration_time: row.get(4)?,
            ultimate: row.get(5)?,
            sigs: row.get(6)?,
            ca: row.get(7)?,
        })
    }
}
