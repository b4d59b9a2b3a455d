//! Statements of the lanes: what is due, leases, results.

use nix_types::{DrvPath, StorePath};
use rusqlite::{Connection, OptionalExtension, params};
use service_kit::backoff::Rng;
use service_kit::clock::Time;

use super::machine::{self, Applied, Trace};
use super::{RowError, ms, unsigned};
use crate::delivery::{Event, FaultClass, LeaseToken, Policy, StateName};
use crate::push::Rules;

/// One delivery in a lane's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The row of the delivery.
    pub delivery: i64,
    /// The lease.
    pub token: LeaseToken,
    /// The path to deliver.
    pub path: StorePath,
    /// The derivation it came from, when known.
    pub drv: Option<DrvPath>,
    /// Failures counted so far.
    pub attempts: u32,
    /// The size of its NAR, in bytes.
    pub nar_bytes: u64,
    /// When it was queued.
    pub queued: Time,
}

/// What a lane may lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appetite {
    /// A whole batch.
    Batch(Rules),
    /// One delivery, the one that has waited longest for a try, to see whether the destination is back.
    Probe,
}

/// Puts every lease back: nobody holds one when the daemon starts.
pub(crate) fn return_all(
    tx: &Connection,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<u64, RowError> {
    let ids = ids(tx, "SELECT id FROM delivery WHERE state IN (1, 2, 3)", &[])?;
    for id in &ids {
        machine::apply(tx, *id, Event::LeaseReturned, now, policy, rng)?;
    }
    Ok(ids.len() as u64)
}

/// The highest token ever given.
pub(crate) fn last_token(tx: &Connection) -> Result<u64, RowError> {
    let token: Option<i64> = tx.query_row("SELECT max(token) FROM delivery", [], |row| row.get(0))?;
    Ok(unsigned(token.unwrap_or(0)))
}

/// Moves deliveries whose waiting time is over to `queued`; at most `limit`.
pub(crate) fn end_waits(
    tx: &Connection,
    destination: i64,
    now: Time,
    limit: u32,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<(), RowError> {
    let due = ids(
        tx,
        // A time further off than any back-off was written before the wall clock jumped back.
        "SELECT id FROM delivery WHERE state = 4 AND destination = ?1
           AND (not_before_ms <= ?2 OR not_before_ms > ?4)
         ORDER BY not_before_ms LIMIT ?3",
        &[&destination, &ms(now), &limit, &ms(now + policy.backoff_max)],
    )?;
    for id in due {
        machine::apply(tx, id, Event::WaitOver, now, policy, rng)?;
    }
    Ok(())
}

/// Puts deliveries that waited because the destination could not be reached or stood still back in line; at most
/// `limit`. Returns how many.
pub(crate) fn end_outage_waits(
    tx: &Connection,
    destination: i64,
    now: Time,
    limit: u32,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<usize, RowError> {
    let waiting = ids(
        tx,
        "SELECT id FROM delivery WHERE state = 4 AND destination = ?1 AND last_class IN (?2, ?3) LIMIT ?4",
        &[&destination, &FaultClass::Unreachable.as_str(), &FaultClass::Stuck.as_str(), &limit],
    )?;
    for id in &waiting {
        machine::apply(tx, *id, Event::WaitOver, now, policy, rng)?;
    }
    Ok(waiting.len())
}

/// What a probe may take: also what still waits, but for what cannot be read here, which asks nothing of the destination
/// and would be tried again and again at the speed of the disk. That waits for its time.
const OF_PROBE: &str = "(state = 0 OR last_class IS NOT 'local')";

/// True when a destination has something that could be leased at `now`.
pub(crate) fn has_work(
    conn: &Connection,
    destination: i64,
    probe: bool,
    now: Time,
    policy: &Policy,
) -> Result<bool, RowError> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM delivery WHERE state = 0 AND destination = ?1)
          OR EXISTS (SELECT 1 FROM delivery WHERE state = 4 AND destination = ?1
                     AND ((?2 AND {OF_PROBE}) OR not_before_ms <= ?3 OR not_before_ms > ?4))"
    );
    let parameters = params![destination, probe, ms(now), ms(now + policy.backoff_max)];
    Ok(conn.prepare_cached(&sql)?.query_row(parameters, |row| row.get(0))?)
}

/// When the next waiting delivery of a destination is due.
pub(crate) fn next_due(conn: &Connection, destination: i64) -> Result<Option<Time>, RowError> {
    let due: Option<i64> = conn
        .prepare_cached("SELECT min(not_before_ms) FROM delivery WHERE state = 4 AND destination = ?1")?
        .query_row([destination], |row| row.get(0))?;
    Ok(due.map(Time::from_ms))
}

/// What may be leased next.
struct Candidate {
    leased: Leased,
    /// It has failed before, or was in a batch that stood still.
    suspect: bool,
}

/// Leases the next batch of a destination. A suspect is leased alone, so that it holds no other.
pub(crate) fn lease(
    tx: &Connection,
    destination: i64,
    appetite: Appetite,
    token: LeaseToken,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<Vec<Leased>, RowError> {
    let ready = candidates(tx, destination, appetite)?;
    let mut batch: Vec<Candidate> = Vec::new();
    for candidate in ready {
        let fits = match (batch.first(), appetite) {
            (None, _) => true,
            (Some(_), Appetite::Probe) => false,
            (Some(head), Appetite::Batch(rules)) => {
                batch.len() < rules.paths_max
                    && !head.suspect
                    && !candidate.suspect
                    && (!rules.one_drv || head.leased.drv == candidate.leased.drv)
            }
        };
        if fits {
            batch.push(candidate);
        }
    }
    let batch: Vec<Leased> =
        batch.into_iter().map(|candidate| Leased { token, ..candidate.leased }).collect();
    for leased in &batch {
        if appetite == Appetite::Probe {
            // It may be waiting still; for one that is ready this is refused and changes nothing.
            machine::apply(tx, leased.delivery, Event::WaitOver, now, policy, rng)?;
        }
        machine::apply(tx, leased.delivery, Event::Leased(token), now, policy, rng)?;
    }
    Ok(batch)
}

fn candidates(tx: &Connection, destination: i64, appetite: Appetite) -> Result<Vec<Candidate>, RowError> {
    let (states, order, limit) = match appetite {
        Appetite::Probe => (format!("state IN (0, 4) AND {OF_PROBE}"), "tried_ms, priority DESC, id", 1),
        // Outputs of one derivation are inserted side by side: a short look ahead finds them.
        Appetite::Batch(rules) => ("state = 0".to_owned(), "priority DESC, id", rules.paths_max + 32),
    };
    let sql = format!(
        "SELECT id, path, drv, attempts, nar_bytes, queued_ms, last_class FROM delivery
         WHERE {states} AND destination = ?1 ORDER BY {order} LIMIT {limit}"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let mut rows = statement.query([destination])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let delivery = row.get(0)?;
        let path: String = row.get(1)?;
        let drv: Option<String> = row.get(2)?;
        let unreadable = |what: &str| RowError::Unreadable { delivery, what: what.to_owned() };
        let leased = Leased {
            delivery,
            token: LeaseToken(0),
            path: StorePath::parse(path.as_bytes()).map_err(|_| unreadable(&path))?,
            drv: drv.and_then(|drv| DrvPath::parse(drv.as_bytes()).ok()),
            attempts: row.get(3)?,
            nar_bytes: unsigned(row.get(4)?),
            queued: Time::from_ms(row.get(5)?),
        };
        let class: Option<String> = row.get(6)?;
        let suspect = leased.attempts > 0 || class.as_deref() == Some(FaultClass::Stuck.as_str());
        found.push(Candidate { leased, suspect });
    }
    Ok(found)
}

/// One result to be written.
#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    /// The delivery.
    pub(crate) delivery: i64,
    /// What happened.
    pub(crate) event: Event,
    /// The end of what the child printed, if anything.
    pub(crate) output: Option<String>,
}

/// Writes one result; for a failure also what it left behind.
pub(crate) fn settle(
    tx: &Connection,
    settlement: &Settlement,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<Applied, RowError> {
    let applied = machine::apply(tx, settlement.delivery, settlement.event.clone(), now, policy, rng)?;
    if !matches!(applied, Applied::Moved(_)) {
        return Ok(applied);
    }
    let output = settlement.output.as_deref();
    let trace = match &settlement.event {
        Event::Failed { class, why, .. } => Some(Trace { error: Some(why), class: Some(*class), output }),
        Event::Vanished => Some(Trace { error: Some(machine::VANISHED), class: None, output }),
        Event::Verified(..) => Some(Trace { error: None, class: None, output }),
        Event::Leased(_)
        | Event::Started(_)
        | Event::Sent(_)
        | Event::LeaseReturned
        | Event::WaitOver
        | Event::Requested => None,
    };
    if let Some(trace) = trace {
        machine::keep_trace(tx, settlement.delivery, &trace, now)?;
    }
    Ok(applied)
}

/// Counts bytes a destination has taken.
pub(crate) fn add_bytes(tx: &Connection, destination: i64, bytes: u64) -> Result<(), RowError> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    tx.prepare_cached("UPDATE destination SET bytes_pushed = bytes_pushed + ?2 WHERE id = ?1")?
        .execute([destination, bytes])?;
    Ok(())
}

/// True while some delivery still needs the path kept in the store: one that is owed, or a dead letter.
pub(crate) fn is_needed(conn: &Connection, path: &str) -> Result<bool, RowError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM delivery WHERE path = ?1 AND (state < 10 OR state = ?2) LIMIT 1")?
        .query_row(params![path, StateName::Dead.code()], |_| Ok(()))
        .optional()?
        .is_some())
}

/// Whether an operator has paused the destination.
pub(crate) fn is_paused(conn: &Connection, destination: i64) -> Result<bool, RowError> {
    Ok(conn
        .prepare_cached("SELECT paused FROM destination WHERE id = ?1")?
        .query_row([destination], |row| row.get(0))?)
}

/// Collects one column of ids.
pub(crate) fn ids(
    conn: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<i64>, RowError> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
