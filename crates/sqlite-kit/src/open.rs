//! From [`Options`] to a connection on which every setting that durability rests on is in force and was
//! read back. Foreign files are recognised before anything is written to them.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::Error;

/// 3.51.3 is the first release in which resetting the log cannot corrupt the database.
const SQLITE_NEEDED: i32 = 3_051_003;
/// How long a connection waits for a lock that somebody else holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two looks at a lock for which SQLite does not wait itself.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The log file is cut back to this after a checkpoint has emptied it. Above what a busy writer lets it grow
/// to: flushing into a file that is long enough already takes half as long as making it longer.
const LOG_BYTES_MAX: i64 = 32 * 1024 * 1024;
const CACHE_KIB: i64 = 2048;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 128;
/// What a new file may be used for: by its owner alone.
const MODE: u32 = 0o600;

/// Which database, and what an answer of its writer means.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file. Its folder must exist; `-wal` and `-shm` files appear beside it. A new one is readable by its
    /// owner alone, whatever the umask; SQLite gives the files beside it the same mode.
    pub path: PathBuf,
    /// What survives what.
    pub durability: Durability,
    /// Name of a registered SQLite VFS; `None` is the system's own. Tests inject faults here.
    pub vfs: Option<String>,
    /// Written into a new file, required of an existing one.
    pub application_id: u32,
}

/// What an acknowledged job survives. All three survive the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut loses nothing acknowledged: each COMMIT flushes.
    Full,
    /// A power cut may lose the last acknowledged jobs, the file stays sound.
    Normal,
    /// A power cut may lose anything and damage the file. For measurements and throw-away data.
    Off,
}

impl Durability {
    fn synchronous(self) -> i64 {
        match self {
            Durability::Off => 0,
            Durability::Normal => 1,
            Durability::Full => 2,
        }
    }
}

/// A connection that may write, with its schema version checked to be at most `schema`.
pub(crate) fn open_writer(options: &Options, schema: u32) -> Result<Connection, Error> {
    make(&options.path).map_err(|source| Error::Create { path: options.path.clone(), source })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let conn = connect(&options.path, options.vfs.as_deref(), flags)?;
    let found = identify(&conn, options)?;
    if found > schema {
        return Err(Error::SchemaNewer { path: options.path.clone(), found, ours: schema });
    }
    let set = Setter { conn: &conn, path: &options.path };
    set.log()?;
    set.pragma("synchronous", options.durability.synchronous(), &options.durability.synchronous())?;
    // Checkpoints are the writer thread's, after it has answered; see `group`.
    set.pragma("wal_autocheckpoint", 0, &0)?;
    set.pragma("journal_size_limit", LOG_BYTES_MAX, &LOG_BYTES_MAX)?;
    set.common()?;
    Ok(conn)
}

/// Makes the file, empty, before SQLite would with the umask's mode, and flushes its name. One that is there is left as
/// it is: its mode is somebody's decision.
fn make(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    file.set_permissions(Permissions::from_mode(MODE))?; // the umask may have taken some of it
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A connection that cannot write, on a database whose schema is exactly `schema`.
pub(crate) fn open_reader(options: &Options, schema: u32) -> Result<Connection, Error> {
    let conn = connect(&options.path, options.vfs.as_deref(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = identify(&conn, options)?;
    if found != schema {
        let path = options.path.clone();
        return Err(if found > schema {
            Error::SchemaNewer { path, found, ours: schema }
        } else {
            Error::SchemaOlder { path, found, ours: schema }
        });
    }
    let set = Setter { conn: &conn, path: &options.path };
    set.pragma("query_only", 1, &1)?;
    // The last connection to close would otherwise checkpoint; that is the writer's alone.
    set.config("no checkpoint on close", DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)?;
    set.common()?;
    Ok(conn)
}

/// A connection for reading everything and for VACUUM INTO, on a database of ours whose schema is at most `schema`. It
/// cannot write: it was opened read-only.
pub(crate) fn open_copier(options: &Options, schema: u32) -> Result<Connection, Error> {
    let conn = connect(&options.path, options.vfs.as_deref(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (path, found) = (options.path.clone(), identify(&conn, options)?);
    match found {
        0 => return Err(Error::Foreign { path, found: 0, ours: options.application_id }),
        newer if newer > schema => return Err(Error::SchemaNewer { path, found, ours: schema }),
        _ => {}
    }
    let set = Setter { conn: &conn, path: &options.path };
    set.config("no checkpoint on close", DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)?;
    set.common()?;
    Ok(conn)
}

/// Opens a database that is not ours, such as Nix's own, for reading only. It is not created, not migrated
/// and never written; its schema is the caller's to check.
///
/// # Errors
/// When the library is too old, or the file is absent, unreadable or not a database.
pub fn open_foreign_read_only(path: &Path) -> Result<Connection, Error> {
    let conn = connect(path, None, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|e| unreadable(path, e))?;
    let set = Setter { conn: &conn, path };
    set.pragma("query_only", 1, &1)?;
    set.config("no checkpoint on close", DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)?;
    set.common()?;
    Ok(conn)
}

pub(crate) fn connect(path: &Path, vfs: Option<&str>, flags: OpenFlags) -> Result<Connection, Error> {
    check_library(rusqlite::version_number())?;
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let failed = |source| Error::Open { path: path.to_path_buf(), source };
    #[expect(clippy::disallowed_methods, reason = "this is the one place that opens databases")]
    let conn = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    }
    .map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

fn check_library(have: i32) -> Result<(), Error> {
    if have < SQLITE_NEEDED { Err(Error::SqliteTooOld { have, need: SQLITE_NEEDED }) } else { Ok(()) }
}

/// Reads whose database this is, without changing it, and gives its schema version. A file without tables,
/// version and id is new, so ours.
fn identify(conn: &Connection, options: &Options) -> Result<u32, Error> {
    let sql = "SELECT (SELECT application_id FROM pragma_application_id),
                      (SELECT user_version FROM pragma_user_version),
                      (SELECT count(*) FROM sqlite_schema)";
    let (id, version, tables): (i32, i32, i64) = conn
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .map_err(|e| unreadable(&options.path, e))?;
    let (found, ours) = (id.cast_unsigned(), options.application_id);
    let new = found == 0 && version == 0 && tables == 0;
    if found != ours && !new {
        return Err(Error::Foreign { path: options.path.clone(), found, ours });
    }
    Ok(version.cast_unsigned())
}

fn unreadable(path: &Path, source: rusqlite::Error) -> Error {
    let path = path.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::NotADatabase { path },
        Some(ErrorCode::DatabaseCorrupt) => Error::Damaged { path, found: source.to_string() },
        _ => Error::Open { path, source },
    }
}

struct Setter<'a> {
    conn: &'a Connection,
    path: &'a Path,
}

impl Setter<'_> {
    /// Writes go to a log from now on. In a new database SQLite makes of a shared lock an exclusive one for this, and for
    /// that it waits for nobody: who makes the same database at the same time would be refused. Waits [`BUSY_TIMEOUT`], twice as
    /// long where SQLite does wait itself.
    fn log(&self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            match self.pragma("journal_mode", "WAL", &"wal".to_string()) {
                Err(Error::Configure { source, .. })
                    if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && begun.elapsed() < BUSY_TIMEOUT => {}
                done => return done,
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "SQLite itself waits like this for every other lock"
            )]
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// What writers and readers share.
    fn common(&self) -> Result<(), Error> {
        self.pragma("foreign_keys", 1, &1)?;
        self.pragma("cache_size", -CACHE_KIB, &-CACHE_KIB)?;
        self.pragma("temp_store", "MEMORY", &2)?;
        // A mapped page would bypass both SQLite's error handling and the fault shims of the tests.
        self.pragma("mmap_size", 0, &0)?;
        // Without it a cached statement is compiled anew whenever a parameter its plan looked at is bound again,
        // which is at each use.
        self.config("query planner stability", DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG)?;
        self.config("defensive", DbConfig::SQLITE_DBCONFIG_DEFENSIVE)
    }

    fn pragma<V, T>(&self, name: &'static str, value: V, wanted: &T) -> Result<(), Error>
    where
        V: rusqlite::ToSql,
        T: FromSql + PartialEq + ToString + Default,
    {
        let failed = |source| Error::Configure { path: self.path.to_path_buf(), setting: name, source };
        match self.conn.pragma_update(None, name, value) {
            Ok(()) | Err(rusqlite::Error::ExecuteReturnedResults) => {}
            Err(source) => return Err(failed(source)),
        }
        let got = match self.conn.pragma_query_value(None, name, |row| row.get::<_, T>(0)) {
            Ok(got) => got,
            // mmap_size has no row when the VFS does not map at all.
            Err(rusqlite::Error::QueryReturnedNoRows) => T::default(),
            Err(source) => return Err(failed(source)),
        };
        if got == *wanted {
            return Ok(());
        }
        Err(Error::NotInForce {
            path: self.path.to_path_buf(),
            setting: name,
            wanted: wanted.to_string(),
            got: got.to_string(),
        })
    }

    fn config(&self, setting: &'static str, config: DbConfig) -> Result<(), Error> {
        let path = self.path.to_path_buf();
        match self.conn.set_db_config(config, true) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::NotInForce { path, setting, wanted: "on".into(), got: "off".into() }),
            Err(source) => Err(Error::Configure { path, setting, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sound_release_is_the_lowest_accepted() {
        assert!(check_library(3_051_003).is_ok());
        assert!(check_library(3_054_001).is_ok());
        let refused = check_library(3_051_002).expect_err("3.51.2 can corrupt");
        let text = refused.to_string();
        assert!(text.contains("SQLite 3.51.2 is linked, but at least 3.51.3 is needed"), "{text}");
    }
}
