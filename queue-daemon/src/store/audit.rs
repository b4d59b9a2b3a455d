//! Statements of the audit log: one row for each privileged act, written in the act's transaction and never changed.
//! Each row's hash covers all before it (`service_kit::audit`). Also the few marks by which a start tells that something is
//! not as it was at the last one.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, ToSql, params};
use service_kit::audit::{Entry, Hash, Head, Row};
use sha2::{Digest, Sha256};

use super::RowError;
use crate::audit::Recorded;

/// Writes an entry behind the last row.
pub(crate) fn append(tx: &Connection, entry: Entry) -> Result<Recorded, RowError> {
    let head = head(tx)?.with(&entry);
    let Entry { at_ms, act, uid, user, pid, detail } = &entry;
    tx.prepare_cached(
        "INSERT INTO audit (seq, at_ms, act, uid, user, pid, detail, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![stored(head.seq), at_ms, act, uid, user, pid, detail, &head.hash.0[..]])?;
    Ok(Recorded { head, entry })
}

/// The end of the log.
pub(crate) fn head(conn: &Connection) -> Result<Head, RowError> {
    let last = conn
        .prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    // One of another length was never ours. The log goes on behind it all the same: `--verify` names that row.
    let hash = |bytes: Vec<u8>| bytes.try_into().unwrap_or_else(|bytes| Sha256::digest(bytes).into());
    Ok(last.map_or(Head::BEGIN, |(seq, bytes)| Head { seq: super::unsigned(seq), hash: Hash(hash(bytes)) }))
}

fn stored(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Rows that are looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Written at this time or later, in wall-clock milliseconds since 1970.
    pub(crate) since_ms: Option<i64>,
    /// Of this act.
    pub(crate) act: Option<String>,
}

/// A row as it was found: its number in the table, and the rest where it can be read.
pub(crate) type Found = (i64, Option<Row>);

/// The wanted rows after number `after`, in order, at most `limit`. A row that no daemon can have written is given with
/// its number alone.
pub(crate) fn rows(
    conn: &Connection,
    wanted: &Wanted,
    after: Option<i64>,
    limit: u32,
) -> Result<Vec<Found>, RowError> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, at_ms, act, uid, user, pid, detail, hash FROM audit
         WHERE (?1 IS NULL OR seq > ?1) AND (?2 IS NULL OR at_ms >= ?2) AND (?3 IS NULL OR act = ?3)
         ORDER BY seq LIMIT ?4",
    )?;
    let mut rows = statement.query(params![after, wanted.since_ms, wanted.act, limit])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push((row.get(0)?, read(row)));
    }
    Ok(found)
}

/// The number in front of the newest `count` wanted rows; `None` when there are no more than these.
pub(crate) fn before_newest(conn: &Connection, wanted: &Wanted, count: u64) -> Result<Option<i64>, RowError> {
    Ok(conn
        .prepare_cached(
            "SELECT seq FROM audit WHERE (?1 IS NULL OR at_ms >= ?1) AND (?2 IS NULL OR act = ?2)
             ORDER BY seq DESC LIMIT 1 OFFSET ?3",
        )?
        .query_row(params![wanted.since_ms, wanted.act, stored(count)], |row| row.get(0))
        .optional()?)
}

/// Exactly what a daemon writes, or nothing.
fn read(row: &SqlRow<'_>) -> Option<Row> {
    let number = |at: usize| match row.get_ref(at) {
        Ok(ValueRef::Integer(number)) => Some(number),
        Ok(_) | Err(_) => None,
    };
    let text = |at: usize| match row.get_ref(at) {
        Ok(ValueRef::Text(bytes)) => String::from_utf8(bytes.to_vec()).ok(),
        Ok(_) | Err(_) => None,
    };
    let hash = match row.get_ref(7) {
        Ok(ValueRef::Blob(bytes)) => bytes.try_into().ok()?,
        Ok(_) | Err(_) => return None,
    };
    let id = |at: usize| u32::try_from(number(at)?).ok();
    let head = Head { seq: u64::try_from(number(0)?).ok()?, hash: Hash(hash) };
    let entry = Entry {
        at_ms: number(1)?,
        act: text(2)?,
        uid: id(3)?,
        user: text(4)?,
        pid: id(5)?,
        detail: text(6)?,
    };
    Some(Row { head, entry })
}

/// What was marked under a name.
pub(crate) fn mark(conn: &Connection, name: &str) -> Result<Option<String>, RowError> {
    let mark = "SELECT value FROM meta WHERE key = ?1";
    Ok(conn.prepare_cached(mark)?.query_row([name], |row| row.get(0)).optional()?)
}

/// Marks a value under a name; true when it is another than before.
pub(crate) fn set_mark(tx: &Connection, name: &str, value: &str) -> Result<bool, RowError> {
    let set = "INSERT INTO meta (key, value) VALUES (?1, ?2)
               ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value <> ?2";
    let values: [&dyn ToSql; 2] = [&name, &value];
    Ok(tx.prepare_cached(set)?.execute(values)? > 0)
}
