//! Statements of `verify`: receipts to be compared with their destinations, and those that do not hold any more.

use nix_types::StorePath;
use rusqlite::{Connection, params};
use service_kit::backoff::Rng;
use service_kit::clock::Time;

use super::machine::{self, Applied};
use super::{RowError, ms};
use crate::delivery::{Event, Policy, StateName};

/// A delivery that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Its row.
    pub(crate) delivery: i64,
    /// The path.
    pub(crate) path: StorePath,
    /// When it became done, as stored.
    pub(crate) done_ms: i64,
}

/// The receipts of a destination after `after` and until `until`, the oldest first; of these paths, or of all when
/// none is named. At most `limit`.
pub(crate) fn receipts(
    conn: &Connection,
    destination: i64,
    paths: &[String],
    after: Option<&Receipt>,
    until: Time,
    limit: u32,
) -> Result<Vec<Receipt>, RowError> {
    let (after_ms, after_id) = after.map_or((i64::MIN, i64::MIN), |last| (last.done_ms, last.delivery));
    let named = (!paths.is_empty()).then(|| serde_json::Value::from(paths.to_vec()).to_string());
    let mut statement = conn.prepare_cached(
        "SELECT id, path, changed_ms FROM delivery
         WHERE state = 10 AND destination = ?1 AND (changed_ms, id) > (?2, ?3) AND changed_ms <= ?4
           AND (?5 IS NULL OR path IN (SELECT value FROM json_each(?5)))
         ORDER BY changed_ms, id LIMIT ?6",
    )?;
    let mut rows = statement.query(params![destination, after_ms, after_id, ms(until), named, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (delivery, path): (i64, String) = (row.get(0)?, row.get(1)?);
        let path =
            StorePath::parse(path.as_bytes()).map_err(|_| RowError::Unreadable { delivery, what: path })?;
        found.push(Receipt { delivery, path, done_ms: row.get(2)? });
    }
    Ok(found)
}

/// Queues deliveries again whose receipt does not hold, each with what is said of it. One that was requested or
/// dropped since its receipt was read is left alone. Returns how many moved.
pub(crate) fn requeue(
    tx: &Connection,
    lost: &[(Receipt, String)],
    now: Time,
    rng: &mut Rng,
) -> Result<u64, RowError> {
    let mut moved = 0;
    for (receipt, why) in lost {
        let is_the_same: bool = tx
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM delivery WHERE id = ?1 AND state = ?2 AND changed_ms = ?3)",
            )?
            .query_row(params![receipt.delivery, StateName::Done.code(), receipt.done_ms], |row| {
                row.get(0)
            })?;
        if !is_the_same {
            continue;
        }
        let policy = Policy::without_waits();
        let applied = machine::apply(tx, receipt.delivery, Event::Requested, now, &policy, rng)?;
        if matches!(applied, Applied::Moved(_)) {
            moved += 1;
            tx.prepare_cached(
                "UPDATE delivery SET queued_ms = ?2, last_error = ?3, last_class = NULL, last_output = NULL
                 WHERE id = ?1",
            )?
            .execute(params![receipt.delivery, ms(now), why])?;
        }
    }
    Ok(moved)
}
