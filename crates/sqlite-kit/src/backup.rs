//! A consistent copy of a database in use, in one file, on the disk before it gets its name.
//!
//! In flows a database; out flows a file that was read through and found whole. The copy is what was committed at one
//! moment: writers go on beside it, and the log grows meanwhile. Leaves out where copies are kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::error::Error;
use crate::migrate::{self, Migration};
use crate::open::{self, Options};
use crate::reader::Reader;

/// A database tells who asked for what.
const MODE: u32 = 0o600;

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The version of its schema.
    pub schema: u32,
    /// Its size.
    pub bytes: u64,
}

impl Reader {
    /// Copies what is committed now into the file `target`, of mode 0600, replacing it when it exists. `stamp` may add
    /// to the copy, in one transaction. The copy has no `-wal` file, was checked page by page, and is flushed, with its
    /// name, when this returns. Writers go on meanwhile. Needs room for the copy beside `target`, where a file with
    /// `.partial` appended is used and removed.
    ///
    /// # Errors
    /// [`Error::Backup`], with `target` untouched.
    pub fn backup(
        &self,
        target: &Path,
        stamp: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Copied, Error> {
        into_place(&self.copier()?, &self.options().path, target, stamp)
    }
}

/// The same of a database that need not be in use: of the schema of `migrations`, or of an earlier one, which it keeps.
///
/// # Errors
/// What [`check`] says of a file that is not ours; [`Error::Backup`], with `target` untouched.
pub fn copy(
    source: &Options,
    migrations: &[Migration],
    target: &Path,
    stamp: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<Copied, Error> {
    let conn = open::open_copier(source, migrate::target(migrations))?;
    into_place(&conn, &source.path, target, stamp)
}

/// Reads a database of ours through, without changing it; `look` may ask it something. Gives the version of its schema
/// and the answer.
///
/// # Errors
/// [`Error::Damaged`], [`Error::NotADatabase`], [`Error::Foreign`], also of an empty one, [`Error::SchemaNewer`], and
/// what SQLite says.
pub fn check<T>(
    source: &Options,
    migrations: &[Migration],
    look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<(u32, T), Error> {
    let conn = open::open_copier(source, migrate::target(migrations))?;
    let read = |error| Error::Read { path: source.path.clone(), source: error };
    if let Some(found) = damage(&conn).map_err(read)? {
        return Err(Error::Damaged { path: source.path.clone(), found });
    }
    Ok((schema_of(&conn).map_err(read)?, look(&conn).map_err(read)?))
}

fn into_place(
    conn: &Connection,
    source: &Path,
    target: &Path,
    stamp: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<Copied, Error> {
    let partial = partial_name(target);
    let done = make(conn, &partial, target, stamp);
    if done.is_err() {
        let _ = fs::remove_file(&partial); // it may never have come to be; the first error says more
    }
    done.map_err(|(doing, cause)| Error::Backup {
        path: source.to_path_buf(),
        target: target.to_path_buf(),
        doing,
        source: cause,
    })
}

type Failed = (&'static str, Box<dyn std::error::Error + Send + Sync>);

fn make(
    conn: &Connection,
    partial: &Path,
    target: &Path,
    stamp: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> Result<Copied, Failed> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(("remove what an earlier try left", error.into()));
        }
        Ok(()) | Err(_) => {}
    }
    let name = partial.to_str().ok_or(("read the name", "it is not UTF-8".into()))?;
    // VACUUM takes an empty file as none, and leaves its mode.
    let made = OpenOptions::new().write(true).create_new(true).mode(MODE).open(partial);
    drop(made.map_err(|error| ("copy", error.into()))?);
    conn.execute("VACUUM INTO ?1", [name]).map_err(|error| ("copy", error.into()))?;
    let schema = finish(partial, stamp)?;
    let flush = |path: &Path| File::open(path).and_then(|file| file.sync_all().map(|()| file));
    let file = flush(partial).map_err(|error| ("flush the copy", error.into()))?;
    let bytes = file.metadata().map_err(|error| ("measure the copy", error.into()))?.len();
    fs::rename(partial, target).map_err(|error| ("name the copy", error.into()))?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    flush(folder.unwrap_or(Path::new("."))).map_err(|error| ("flush the folder", error.into()))?;
    Ok(Copied { schema, bytes })
}

/// Stamps the copy and reads it through; gives the version of its schema.
fn finish(partial: &Path, stamp: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<u32, Failed> {
    let mut conn = open::connect(partial, None, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| ("open the copy", error.into()))?;
    // It is flushed as a whole; a copy that is cut off is thrown away.
    let stamped =
        conn.execute_batch("PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY;").and_then(|()| {
            conn.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
            let tx = conn.transaction()?;
            stamp(&tx)?;
            tx.commit()
        });
    stamped.map_err(|error| ("stamp the copy", error.into()))?;
    match damage(&conn) {
        Ok(None) => schema_of(&conn).map_err(|error| ("read the copy", error.into())),
        Ok(Some(found)) => Err(("check the copy", found.into())),
        Err(error) => Err(("check the copy", error.into())),
    }
}

/// What SQLite finds first when it reads all pages, tables and indexes.
fn damage(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let found: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

fn schema_of(conn: &Connection) -> rusqlite::Result<u32> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".partial");
    name.into()
}
