//! The door to our SQLite databases. In flows a path, a durability and a list of migrations; out flow a
//! [`Writer`] (one thread, group commit, three lanes) and a [`Reader`] (snapshots, never writes).
//!
//! The promise everything else rests on: [`Writer::call`] answers only after the COMMIT which holds the
//! job's rows has returned, and with [`Durability::Full`] that COMMIT has flushed them to the disk. So an
//! answer may be passed on to the outside as "will survive a power cut".
//!
//! Left out on purpose: tables, queries and row types. They live beside the stage that owns them.

mod backup;
mod error;
mod group;
mod id;
mod migrate;
mod open;
mod queue;
mod reader;
mod stats;
mod writer;

pub use backup::{Copied, check, copy};
pub use error::{CallError, Error, StoreError, StoreKind};
pub use migrate::Migration;
pub use open::{Durability, Options, open_foreign_read_only};
pub use queue::{BACKLOG_MAX, GROUP_BULK_MAX, GROUP_NORMAL_MAX, GROUP_TIME_MAX, GROUP_URGENT_MAX, Lane};
pub use reader::{READERS_MAX, Reader};
pub use rusqlite;
pub use stats::{FLUSH_BUCKETS_MICROS, Stats};
pub use writer::{Tx, Writer, WriterThread};
