//! The path of Nix' database comes in, a connection that can only read, and knows all it needs, comes out. A user who
//! may not write the database's folder can open it only while somebody else has it open: a daemon's worker does, so
//! one is asked in for that moment; the open connection then keeps it readable.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::daemon::Daemon;
use crate::dirs::StoreDirs;
use crate::store::StoreError;

/// How long a question waits for a lock of Nix.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read, by table.
const NEEDED: [(&str, &[&str]); 3] = [
    (
        "ValidPaths",
        &["id", "path", "hash", "registrationTime", "deriver", "narSize", "ultimate", "sigs", "ca"],
    ),
    ("Refs", &["referrer", "reference"]),
    ("DerivationOutputs", &["drv", "id", "path"]),
];

pub(super) fn open(dirs: &StoreDirs, database: &Path) -> Result<Connection, StoreError> {
    let opened = connect(database).and_then(|connection| missing(&connection).map(|lack| (connection, lack)));
    let (connection, lack) = match opened {
        Err(error) if is_closed_to_us(&error) => {
            // Held until the connection has read something, from then on it holds the database open itself.
            let keeper = Daemon::connect(dirs.daemon_socket()).map_err(|daemon| StoreError::Open {
                database: database.to_owned(),
                source: Box::new(daemon),
            })?;
            let connection = connect(database).map_err(|source| failed(database, source))?;
            let lack = missing(&connection).map_err(|source| failed(database, source))?;
            drop(keeper);
            (connection, lack)
        }
        other => other.map_err(|source| failed(database, source))?,
    };
    match lack {
        Some(missing) => Err(StoreError::Schema { database: database.to_owned(), missing }),
        None => Ok(connection),
    }
}

fn failed(database: &Path, source: rusqlite::Error) -> StoreError {
    if source.sqlite_error_code() == Some(ErrorCode::NotADatabase) {
        let missing = "form of a database".to_owned();
        return StoreError::Schema { database: database.to_owned(), missing };
    }
    StoreError::Open { database: database.to_owned(), source: Box::new(source) }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a foreign database that is only read: our own pragmas must not touch it"
)]
fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// The first table or column that is not there. Reads the database, so a failure to open it shows here at the latest.
fn missing(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    for (table, needed) in NEEDED {
        let there: Vec<String> =
            columns.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        if there.is_empty() {
            return Ok(Some(format!("table {table}")));
        }
        let lacks = |column: &&&str| !there.iter().any(|name| name.eq_ignore_ascii_case(column));
        if let Some(column) = needed.iter().find(lacks) {
            return Ok(Some(format!("column {table}.{column}")));
        }
    }
    Ok(None)
}

/// Is it the error of somebody who may read the database, but not make the files beside it?
fn is_closed_to_us(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}
