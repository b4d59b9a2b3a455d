//! Statements about what destinations have: paths that are there or were lost, archives that were sent, and which cache
//! it was.

use std::time::Duration;

use nix_types::StorePath;
use rusqlite::{Connection, OptionalExtension, params};
use service_kit::clock::Time;

use super::{RowError, ms, unsigned};

/// How long it is remembered that a path was lost, should nobody send it.
const LOST_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is remembered of a path at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembered {
    /// Nothing.
    Nothing,
    /// The destination had it.
    There,
    /// It was found to have lost it: whatever it says now, it is sent again.
    Lost,
}

/// What is remembered of a path.
pub(crate) fn remembered(
    conn: &Connection,
    destination: i64,
    path: &str,
    now: Time,
) -> Result<Remembered, RowError> {
    let until: Option<i64> = conn
        .prepare_cached("SELECT until_ms FROM presence WHERE destination = ?1 AND path = ?2")?
        .query_row(params![destination, path], |row| row.get(0))
        .optional()?;
    Ok(match until {
        Some(until) if until > ms(now) => Remembered::There,
        Some(until) if until < -ms(now) => Remembered::Lost,
        Some(_) | None => Remembered::Nothing,
    })
}

/// True when the destination is remembered to have the path.
pub(crate) fn is_present(
    conn: &Connection,
    destination: i64,
    path: &str,
    now: Time,
) -> Result<bool, RowError> {
    Ok(remembered(conn, destination, path, now)? == Remembered::There)
}

/// Remembers that a destination was found at `now` to have lost these paths, for 30 days or until they are there again:
/// their rows have the end of that time with a minus.
pub(crate) fn remember_lost(
    tx: &Connection,
    destination: i64,
    paths: &[StorePath],
    now: Time,
) -> Result<(), RowError> {
    let mut insert = tx.prepare_cached(
        "INSERT OR REPLACE INTO presence (destination, path, until_ms) VALUES (?1, ?2, ?3)",
    )?;
    for path in paths {
        insert.execute(params![destination, path.as_str(), -ms(now + LOST_FOR)])?;
    }
    Ok(())
}

/// Remembers that a destination had these paths in an attempt that began at `begun`, until `until`. What was learnt since
/// holds: another cache in its place, and paths it was found to have lost.
pub(crate) fn remember_present(
    tx: &Connection,
    destination: i64,
    paths: &[StorePath],
    begun: Time,
    until: Time,
) -> Result<(), RowError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO presence (destination, path, until_ms)
         SELECT id, ?2, ?3 FROM destination WHERE id = ?1 AND since_ms <= ?4
         ON CONFLICT (destination, path) DO UPDATE SET until_ms = excluded.until_ms WHERE until_ms > ?5",
    )?;
    for path in paths {
        let lost_before = -ms(begun + LOST_FOR);
        insert.execute(params![destination, path.as_str(), ms(until), ms(begun), lost_before])?;
    }
    Ok(())
}

/// An archive that was sent to a destination under this key: its hash and its bytes.
pub(crate) fn archive(
    conn: &Connection,
    destination: i64,
    key: &str,
    now: Time,
) -> Result<Option<(String, u64)>, RowError> {
    Ok(conn
        .prepare_cached(
            "SELECT file_hash, file_bytes FROM archive WHERE destination = ?1 AND key = ?2 AND until_ms > ?3",
        )?
        .query_row(params![destination, key, ms(now)], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))
        .optional()?)
}

/// Remembers an archive, until `until`.
pub(crate) fn keep_archive(
    tx: &Connection,
    destination: i64,
    key: &str,
    file_hash: &str,
    file_bytes: u64,
    until: Time,
) -> Result<(), RowError> {
    let bytes = i64::try_from(file_bytes).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT OR REPLACE INTO archive (destination, key, file_hash, file_bytes, until_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![destination, key, file_hash, bytes, ms(until)])?;
    Ok(())
}

/// What the cache was known by when it was last looked at.
pub(crate) fn mark(conn: &Connection, destination: i64) -> Result<Option<String>, RowError> {
    Ok(conn
        .prepare_cached("SELECT cache_mark FROM destination WHERE id = ?1")?
        .query_row([destination], |row| row.get(0))?)
}

/// Remembers what the cache is known by.
pub(crate) fn set_mark(tx: &Connection, destination: i64, mark: Option<&str>) -> Result<(), RowError> {
    tx.execute("UPDATE destination SET cache_mark = ?2 WHERE id = ?1", params![destination, mark])?;
    Ok(())
}

/// Forgets what a destination had: another cache is there now. Receipts up to now count no more.
pub(crate) fn forget(tx: &Connection, destination: i64, now: Time) -> Result<(), RowError> {
    tx.execute("DELETE FROM presence WHERE destination = ?1", [destination])?;
    tx.execute("DELETE FROM archive WHERE destination = ?1", [destination])?;
    tx.execute("UPDATE destination SET since_ms = ?2 WHERE id = ?1", params![destination, ms(now)])?;
    Ok(())
}

/// Notes where a destination is; when that is another place than before, what it had is forgotten. True if so.
pub(crate) fn identify(
    tx: &Connection,
    destination: i64,
    identity: &str,
    now: Time,
) -> Result<bool, RowError> {
    let before: Option<String> =
        tx.query_row("SELECT identity FROM destination WHERE id = ?1", [destination], |row| row.get(0))?;
    if before.as_deref() == Some(identity) {
        return Ok(false);
    }
    // The first time there is nothing to forget, unless an older version remembered it without the place.
    forget(tx, destination, now)?;
    set_mark(tx, destination, None)?;
    tx.execute("UPDATE destination SET identity = ?2 WHERE id = ?1", params![destination, identity])?;
    Ok(before.is_some())
}

/// Forgets archives whose time is over, at most `limit`; returns how many.
pub(crate) fn expire_archives(tx: &Connection, now: Time, limit: u32) -> Result<usize, RowError> {
    Ok(tx.execute(
        "DELETE FROM archive WHERE (destination, key) IN (
           SELECT destination, key FROM archive WHERE until_ms <= ?1 LIMIT ?2)",
        params![ms(now), limit],
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::tables;

    #[test]
    fn what_an_attempt_saw_does_not_replace_what_was_learnt_since_it_began() {
        let conn = tables();
        let path =
            |name: &str| StorePath::parse_str(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let at = |second: i64| Time::from_ms(second * 1_000);
        let says = |name: &str| remembered(&conn, 1, path(name).as_str(), at(20)).unwrap();
        let saw = |name: &str, begun: i64| {
            remember_present(&conn, 1, &[path(name)], at(begun), at(1_000)).unwrap();
        };
        saw("a", 1);
        assert_eq!(says("a"), Remembered::There);
        // Lost while an attempt was under way that had seen it, and sent again by a later one.
        remember_lost(&conn, 1, &[path("a")], at(10)).unwrap();
        saw("a", 5);
        assert_eq!(says("a"), Remembered::Lost);
        saw("a", 11);
        assert_eq!(says("a"), Remembered::There);
        // Another cache came while an attempt was under way.
        forget(&conn, 1, at(15)).unwrap();
        saw("b", 12);
        assert_eq!(says("b"), Remembered::Nothing);
        saw("b", 16);
        assert_eq!(says("b"), Remembered::There);
    }
}
