//! Statements of the operator and of housekeeping: retry, drop, pause, retention, what still needs a GC root.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use service_kit::backoff::Rng;
use service_kit::clock::Time;

use super::inspect::{Selection, where_clause};
use super::machine::{self, Applied};
use super::{RowError, lease, ms};
use crate::delivery::{Event, Policy, StateName};

/// Rows that one transaction of housekeeping touches at most.
pub(crate) const CHUNK_ROWS: u32 = 500;

/// Asks again for the selected deliveries that are waiting, dead or gone; returns how many moved and the last row
/// looked at, from which to go on (`None` when all were).
pub(crate) fn retry(
    tx: &Connection,
    selection: &Selection,
    after: i64,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<(u64, Option<i64>), RowError> {
    let ids = selected(tx, selection, "d.state IN (4, 11, 12)", after)?;
    let mut moved = 0;
    for id in &ids {
        if let Applied::Moved(_) = machine::apply(tx, *id, Event::Requested, now, policy, rng)? {
            moved += 1;
        }
    }
    Ok((moved, ids.last().copied()))
}

/// Forgets the selected deliveries that no lane holds; returns how many, their paths, and where to go on.
pub(crate) fn drop_selected(
    tx: &Connection,
    selection: &Selection,
    after: i64,
) -> Result<(Vec<String>, Option<i64>), RowError> {
    let ids = selected(tx, selection, "d.state NOT IN (1, 2, 3)", after)?;
    let mut paths = Vec::with_capacity(ids.len());
    for id in &ids {
        paths.push(delete(tx, *id)?);
    }
    Ok((paths, ids.last().copied()))
}

fn selected(tx: &Connection, selection: &Selection, states: &str, after: i64) -> Result<Vec<i64>, RowError> {
    let (clause, mut values) = where_clause(selection);
    values.push(after.into());
    let sql = format!(
        "SELECT d.id FROM delivery d JOIN destination n ON n.id = d.destination
         WHERE {clause} AND {states} AND d.id > ? ORDER BY d.id LIMIT {CHUNK_ROWS}"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn delete(tx: &Connection, delivery: i64) -> Result<String, RowError> {
    Ok(tx
        .prepare_cached("DELETE FROM delivery WHERE id = ?1 RETURNING path")?
        .query_row([delivery], |row| row.get(0))?)
}

/// Pauses or resumes one destination, or all; returns how many there are of them.
pub(crate) fn set_paused(
    tx: &Connection,
    destination: Option<&str>,
    paused: bool,
) -> Result<usize, RowError> {
    Ok(tx.execute(
        "UPDATE destination SET paused = ?1 WHERE name = coalesce(?2, name)",
        params![paused, destination],
    )?)
}

/// Forgets finished deliveries older than their retention, at most a chunk; returns their paths, and whether there
/// may be more. Requests without
/// deliveries go with them once they are as old; so does presence that has run out.
pub(crate) fn expire(
    tx: &Connection,
    now: Time,
    done_before: Time,
    dead_before: Time,
) -> Result<(Vec<String>, bool), RowError> {
    let old = lease::ids(
        tx,
        "SELECT id FROM (
           SELECT id FROM delivery WHERE state IN (10, 12) AND changed_ms < ?1
           UNION ALL SELECT id FROM delivery WHERE state = 11 AND changed_ms < ?2)
         LIMIT ?3",
        &[&ms(done_before), &ms(dead_before), &CHUNK_ROWS],
    )?;
    let mut paths = Vec::with_capacity(old.len());
    for id in old {
        paths.push(delete(tx, id)?);
    }
    tx.execute(
        "DELETE FROM request WHERE id IN (
           SELECT r.id FROM request r WHERE r.received_ms < ?1 AND r.complete = 1
             AND NOT EXISTS (SELECT 1 FROM request_delivery l WHERE l.request = r.id)
           LIMIT ?2)",
        params![ms(done_before), CHUNK_ROWS],
    )?;
    let presence = tx.execute(
        "DELETE FROM presence WHERE (destination, path) IN (
           SELECT destination, path FROM presence WHERE abs(until_ms) <= ?1 LIMIT ?2)",
        params![ms(now), CHUNK_ROWS],
    )?;
    let archives = super::cache::expire_archives(tx, now, CHUNK_ROWS)?;
    let more = !paths.is_empty() || presence.max(archives) >= CHUNK_ROWS as usize;
    Ok((paths, more))
}

/// The paths after `after`, in order, that must be kept from the garbage collector; at most `limit`.
pub(crate) fn needed_paths(conn: &Connection, after: &str, limit: u32) -> Result<Vec<String>, RowError> {
    let mut statement = conn.prepare_cached(
        "SELECT DISTINCT path FROM delivery WHERE path > ?1 AND (state < 10 OR state = ?2) ORDER BY path LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after, StateName::Dead.code(), limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// True when a destination of this name has ever been configured.
pub(crate) fn destination_exists(conn: &Connection, name: &str) -> Result<bool, RowError> {
    Ok(conn.query_row("SELECT 1 FROM destination WHERE name = ?1", [name], |_| Ok(())).optional()?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::tables;

    #[test]
    fn what_is_over_is_found_by_an_index_and_forgotten_chunk_by_chunk() {
        let conn = tables();
        for (number, until) in (0..2_000).zip([-5, 5, -50, 50].into_iter().cycle()) {
            let insert = "INSERT INTO presence (destination, path, until_ms) VALUES (1, ?1, ?2)";
            conn.execute(insert, params![format!("p{number}"), until]).unwrap();
        }
        let plan =
            "EXPLAIN QUERY PLAN SELECT destination, path FROM presence WHERE abs(until_ms) <= 9 LIMIT 5";
        let plan: String = conn.query_row(plan, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("presence_by_end"), "{plan}");
        let at = Time::from_ms(9);
        let mut rounds = 0;
        while expire(&conn, at, Time::from_ms(0), Time::from_ms(0)).unwrap().1 {
            rounds += 1;
        }
        let left: i64 = conn.query_row("SELECT count(*) FROM presence", [], |row| row.get(0)).unwrap();
        assert_eq!((rounds, left), (2, 1_000));
    }
}
