//! Every statement the daemon runs on `queue.db`, one named function each, beside the stage it serves.
//!
//! In flow a transaction (or a reading connection) and typed values; out flow typed rows. Nothing here decides:
//! states change only through `delivery::step`, which `machine` loads and stores rows for.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod cache;
pub(crate) mod inspect;
pub(crate) mod intake;
pub(crate) mod lease;
pub(crate) mod machine;
pub(crate) mod schema;
pub(crate) mod verify;

use std::collections::HashMap;

use rusqlite::Connection;

use crate::model::DestinationId;

/// A statement failed, or a row holds what this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// SQLite refused the statement.
    #[error("queue.db refused a statement")]
    Sql(#[from] rusqlite::Error),
    /// The database itself could not be read.
    #[error(transparent)]
    Database(#[from] sqlite_kit::Error),
    /// The writer could not do it.
    #[error(transparent)]
    Writer(Box<sqlite_kit::CallError<RowError>>),
    /// A row that this version cannot read.
    #[error("queue.db: delivery {delivery} holds {what}, which this version cannot read")]
    Unreadable {
        /// The delivery's row id.
        delivery: i64,
        /// What was found.
        what: String,
    },
}

/// The database's own trouble as a row error.
pub(crate) fn flatten(error: sqlite_kit::CallError<RowError>) -> RowError {
    match error {
        sqlite_kit::CallError::Job(error) => error,
        other => RowError::Writer(Box::new(other)),
    }
}

/// Row ids of the configured destinations.
#[derive(Debug, Clone, Default)]
pub(crate) struct DestinationRows(HashMap<DestinationId, i64>);

impl DestinationRows {
    /// Whether any destination was ever configured.
    pub(crate) fn there_are(conn: &Connection) -> Result<bool, RowError> {
        Ok(conn.query_row("SELECT EXISTS (SELECT 1 FROM destination)", [], |row| row.get(0))?)
    }

    /// Makes the missing rows; those of destinations that left the configuration stay, with their deliveries.
    pub(crate) fn ensure(tx: &Connection, ids: &[DestinationId]) -> Result<Self, RowError> {
        let mut rows = HashMap::new();
        for id in ids {
            tx.execute("INSERT INTO destination (name) VALUES (?1) ON CONFLICT DO NOTHING", [id.as_str()])?;
            let row =
                tx.query_row("SELECT id FROM destination WHERE name = ?1", [id.as_str()], |row| row.get(0))?;
            rows.insert(id.clone(), row);
        }
        Ok(Self(rows))
    }

    /// The row of a configured destination.
    pub(crate) fn row(&self, id: &DestinationId) -> Option<i64> {
        self.0.get(id).copied()
    }
}

/// Milliseconds as SQLite keeps them.
pub(crate) fn ms(time: service_kit::clock::Time) -> i64 {
    time.as_ms()
}

/// A stored count or size, as it is: never negative.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
