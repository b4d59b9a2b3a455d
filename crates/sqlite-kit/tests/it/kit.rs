//! What the tests share: a database with one table, jobs on it, and a gate that holds the writer thread.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use sqlite_kit::rusqlite::{self, Connection};
use sqlite_kit::{CallError, Durability, Lane, Migration, Options, Reader, Tx, Writer, WriterThread};
use tempfile::TempDir;

pub(crate) const ID: u32 = 0x6b69_7401;
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "items",
    sql: "CREATE TABLE item (n INTEGER PRIMARY KEY, pad BLOB NOT NULL) STRICT;",
}];

pub(crate) type Answer = Result<(), CallError<rusqlite::Error>>;

/// An open database in a folder of its own.
pub(crate) struct Db {
    pub(crate) options: Options,
    pub(crate) writer: Writer,
    pub(crate) thread: WriterThread,
    pub(crate) dir: TempDir,
}

pub(crate) fn options(dir: &Path) -> Options {
    Options { path: dir.join("db"), durability: Durability::Full, vfs: None, application_id: ID }
}

impl Db {
    pub(crate) fn new() -> Db {
        Db::on(None)
    }

    pub(crate) fn on(vfs: Option<&str>) -> Db {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { vfs: vfs.map(str::to_string), ..options(dir.path()) };
        let (writer, thread) = Writer::open(&options, MIGRATIONS).unwrap();
        Db { options, writer, thread, dir }
    }

    pub(crate) fn insert(&self, n: i64) -> Answer {
        self.writer.call_blocking(Lane::Urgent, move |tx| insert(tx, n))
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.options, MIGRATIONS).unwrap()
    }

    pub(crate) fn items(&self) -> Vec<i64> {
        items(&self.reader())
    }

    pub(crate) fn file(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("db{suffix}"))
    }
}

pub(crate) fn insert(tx: &Tx<'_>, n: i64) -> rusqlite::Result<()> {
    insert_padded(tx, n, 10)
}

pub(crate) fn insert_padded(tx: &Tx<'_>, n: i64, bytes: u32) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO item VALUES (?1, zeroblob(?2))")?.execute((n, bytes)).map(drop)
}

pub(crate) fn numbers(conn: &Connection) -> rusqlite::Result<Vec<i64>> {
    conn.prepare("SELECT n FROM item ORDER BY n")?.query_map([], |row| row.get(0))?.collect()
}

pub(crate) fn items(reader: &Reader) -> Vec<i64> {
    reader.with(|conn| Ok::<_, sqlite_kit::Error>(numbers(conn).unwrap())).unwrap()
}

/// A job of the bulk lane that holds the writer thread until it is opened. Bulk, so that the shares of the
/// other lanes are still whole afterwards.
pub(crate) struct Gate {
    open: mpsc::Sender<()>,
    entered: mpsc::Receiver<()>,
}

impl Gate {
    /// Queues it and waits until it holds the thread.
    pub(crate) fn close(writer: &Writer) -> Gate {
        let gate = Gate::queue(writer);
        gate.holds();
        gate
    }

    pub(crate) fn queue(writer: &Writer) -> Gate {
        let (open, opened) = mpsc::channel();
        let (enter, entered) = mpsc::channel();
        writer.post(Lane::Bulk, "gate", move |_| {
            enter.send(()).unwrap();
            let _ = opened.recv(); // opened, or the test failed and dropped the gate
            Ok::<_, rusqlite::Error>(())
        });
        Gate { open, entered }
    }

    pub(crate) fn holds(&self) {
        self.entered.recv_timeout(SOON).unwrap();
    }

    pub(crate) fn open(self) {
        self.open.send(()).unwrap();
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}
