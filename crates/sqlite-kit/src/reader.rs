//! Reading beside the writer: a few connections that cannot write, each use of which sees one snapshot of
//! what is committed. Blocking; async callers go through `spawn_blocking`.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::Connection;

use crate::error::Error;
use crate::migrate::{self, Migration};
use crate::open::{self, Options};

/// Connections one [`Reader`] opens. Further readers wait their turn.
pub const READERS_MAX: usize = 4;

/// Gives snapshots for reading. Clones share the connections.
#[derive(Clone)]
pub struct Reader {
    pool: Arc<Pool>,
}

struct Pool {
    options: Options,
    schema: u32,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    idle: Vec<Connection>,
    open: usize,
}

impl Reader {
    /// Opens a first connection; the database must exist and be migrated to exactly `migrations`.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Panics
    /// When `migrations` are not numbered 1, 2, 3, …
    pub fn open(options: &Options, migrations: &[Migration]) -> Result<Reader, Error> {
        let schema = migrate::target(migrations);
        let first = open::open_reader(options, schema)?;
        let state = Mutex::new(State { idle: vec![first], open: 1 });
        let pool = Pool { options: options.clone(), schema, state, returned: Condvar::new() };
        Ok(Reader { pool: Arc::new(pool) })
    }

    /// Runs `read` on one snapshot: rows committed meanwhile are not seen. A long `read` keeps the log from
    /// being reset, so gather rows and leave.
    ///
    /// # Errors
    /// What `read` says, and [`Error::Read`] when no snapshot could be had.
    pub fn with<T, E: From<Error>>(&self, read: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let conn = self.pool.take()?;
        let tx = conn.get().unchecked_transaction().map_err(|source| self.pool.error(source))?;
        read(&tx)
    }

    /// A connection of its own for VACUUM INTO, which `query_only` forbids and a snapshot cannot hold.
    pub(crate) fn copier(&self) -> Result<Connection, Error> {
        open::open_copier(&self.pool.options, self.pool.schema)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.pool.options
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.pool.options.path).finish_non_exhaustive()
    }
}

impl Pool {
    fn take(&self) -> Result<Lent<'_>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(conn) = state.idle.pop() {
                return Ok(Lent { pool: self, conn: Some(conn) });
            }
            if state.open < READERS_MAX {
                state.open += 1;
                break;
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let mut lent = Lent { pool: self, conn: None };
        lent.conn = Some(open::open_reader(&self.options, self.schema)?);
        Ok(lent)
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        Error::Read { path: self.options.path.clone(), source }
    }
}

/// A connection out of the pool, or the right to have one; goes back when dropped.
struct Lent<'pool> {
    pool: &'pool Pool,
    conn: Option<Connection>,
}

impl Lent<'_> {
    fn get(&self) -> &Connection {
        self.conn.as_ref().expect("take() gives it out with a connection")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        match self.conn.take() {
            Some(conn) => state.idle.push(conn),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}
