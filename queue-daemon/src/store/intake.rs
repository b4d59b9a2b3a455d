//! Statements of the intake: requests, their deliveries, users' usage, claims.

use std::time::Duration;

use hook_wire::Trust;
use nix_types::{DrvPath, StorePath};
use rusqlite::{Connection, OptionalExtension, params};
use service_kit::backoff::Rng;
use service_kit::clock::Time;

use super::machine::{self, Applied, Trace};
use super::{RowError, ms, unsigned};
use crate::delivery::{Event, Policy, StateName};
use crate::model::{Claim, DestinationId, Origin, Request};

/// What the table knows of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// All of it is in.
    Complete(i64),
    /// An earlier try was cut off between two chunks.
    Partial(i64),
}

/// One delivery to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewDelivery {
    /// The path.
    pub(crate) path: StorePath,
    /// The destination's row.
    pub(crate) destination: i64,
    /// The size of its NAR, in bytes.
    pub(crate) nar_bytes: u64,
    /// True when it vanished before it was taken in.
    pub(crate) gone: bool,
    /// How long a receipt counts before a new request pushes again.
    pub(crate) presence_ttl: Duration,
    /// Whether tag and derivation of the request replace what another user said.
    pub(crate) may_retell: bool,
}

/// Looks an idempotency key up.
pub(crate) fn known(tx: &Connection, key: &[u8; 16]) -> Result<Option<Known>, RowError> {
    let row = tx
        .prepare_cached("SELECT id, complete FROM request WHERE key = ?1")?
        .query_row([&key[..]], |row| Ok((row.get(0)?, row.get::<_, bool>(1)?)))
        .optional()?;
    Ok(row.map(|(id, complete)| if complete { Known::Complete(id) } else { Known::Partial(id) }))
}

/// Live deliveries that this user has.
pub(crate) fn usage(tx: &Connection, uid: u32) -> Result<u64, RowError> {
    let live: Option<i64> = tx
        .prepare_cached("SELECT live FROM usage WHERE uid = ?1")?
        .query_row([uid], |row| row.get(0))
        .optional()?;
    Ok(unsigned(live.unwrap_or(0)))
}

/// Inserts the request, not yet complete.
pub(crate) fn insert_request(tx: &Connection, request: &Request, now: Time) -> Result<i64, RowError> {
    tx.prepare_cached(
        "INSERT INTO request (key, source, via, uid, tag, drv, repository, branch, commit_id, trust, priority,
           received_ms, complete) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0)",
    )?
    .execute(params![
        &request.key[..],
        request.source as i64,
        request.via as i64,
        request.uid,
        request.tag,
        request.drv.as_ref().map(DrvPath::as_str),
        request.origin.repository,
        request.origin.branch,
        request.origin.commit,
        request.trust.map(|trust| trust as i64),
        request.priority,
        ms(now),
    ])?;
    Ok(tx.last_insert_rowid())
}

/// Says that all deliveries of the request are in.
pub(crate) fn complete_request(tx: &Connection, request: i64) -> Result<(), RowError> {
    tx.prepare_cached("UPDATE request SET complete = 1 WHERE id = ?1")?.execute([request])?;
    Ok(())
}

/// Makes a delivery, or joins the one there is; returns its state.
pub(crate) fn want(
    tx: &Connection,
    request_row: i64,
    request: &Request,
    new: &NewDelivery,
    now: Time,
    rng: &mut Rng,
) -> Result<StateName, RowError> {
    let first = if new.gone { StateName::Gone } else { StateName::Queued };
    let drv = request.drv.as_ref().map(DrvPath::as_str);
    let nar_bytes = i64::try_from(new.nar_bytes).unwrap_or(i64::MAX);
    let inserted = tx
        .prepare_cached(
            "INSERT INTO delivery
               (path, destination, state, priority, uid, drv, tag, nar_bytes, queued_ms, changed_ms, last_error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            new.path.as_str(),
            new.destination,
            first.code(),
            request.priority,
            request.uid,
            drv,
            request.tag,
            nar_bytes,
            ms(now),
            new.gone.then_some(machine::VANISHED),
        ])?;
    let (delivery, state) =
        if inserted == 1 { (tx.last_insert_rowid(), first) } else { join(tx, request, new, now, rng)? };
    tx.prepare_cached(
        "INSERT INTO request_delivery (request, delivery) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    )?
    .execute([request_row, delivery])?;
    Ok(state)
}

/// A further request for a path that has a delivery already.
fn join(
    tx: &Connection,
    request: &Request,
    new: &NewDelivery,
    now: Time,
    rng: &mut Rng,
) -> Result<(i64, StateName), RowError> {
    let drv = request.drv.as_ref().map(DrvPath::as_str);
    let (delivery, code, changed_ms, since_ms, tells_more): (i64, i64, i64, i64, bool) = tx
        .prepare_cached(
            "SELECT d.id, d.state, d.changed_ms, n.since_ms,
               ?3 IS NOT NULL AND ?3 IS NOT d.drv AND (?4 OR d.uid = ?5 OR d.drv IS NULL)
             FROM delivery d JOIN destination n ON n.id = d.destination
             WHERE d.path = ?1 AND d.destination = ?2",
        )?
        .query_row(params![new.path.as_str(), new.destination, drv, new.may_retell, request.uid], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
    let Some(state) = StateName::from_code(code) else {
        return Err(RowError::Unreadable { delivery, what: format!("state {code}") });
    };
    // A receipt of the cache that was there before says nothing about the one that is there now.
    let of_this_cache = changed_ms >= since_ms;
    let is_young = now < Time::from_ms(changed_ms) + new.presence_ttl;
    // Another derivation has a log of its own, and a realisation when the path is named by its content.
    let result = match revival(state, of_this_cache && is_young && !tells_more, new.gone) {
        None => state,
        Some(event) => revive(tx, delivery, event, request, now, rng)?.unwrap_or(state),
    };
    retell(tx, delivery, request, new.may_retell)?;
    Ok((delivery, result))
}

/// What a further request means for a delivery in this state: whether a receipt of it would still count, and whether
/// its path is gone.
fn revival(state: StateName, receipt_counts: bool, gone: bool) -> Option<Event> {
    match state {
        StateName::Done if receipt_counts => None,
        StateName::Waiting | StateName::Queued => None,
        StateName::Leased | StateName::Pushing | StateName::Verifying => None,
        StateName::Dead if gone => Some(Event::Vanished),
        StateName::Done | StateName::Gone if gone => None,
        StateName::Done | StateName::Dead | StateName::Gone => Some(Event::Requested),
    }
}

/// Brings a delivery back, as if it were new, or gives it up for gone; its new state, where it took one.
fn revive(
    tx: &Connection,
    delivery: i64,
    event: Event,
    request: &Request,
    now: Time,
    rng: &mut Rng,
) -> Result<Option<StateName>, RowError> {
    let fresh = event == Event::Requested;
    let moved = match machine::apply(tx, delivery, event, now, &Policy::without_waits(), rng)? {
        Applied::Moved(state) => Some(state),
        Applied::Refused(_) | Applied::Missing => None,
    };
    if fresh {
        tx.prepare_cached(
            "UPDATE delivery SET queued_ms = ?2, uid = ?3, last_error = NULL, last_class = NULL,
               last_output = NULL WHERE id = ?1",
        )?
        .execute(params![delivery, ms(now), request.uid])?;
    } else {
        let trace = Trace { error: Some(machine::VANISHED), ..Trace::default() };
        machine::keep_trace(tx, delivery, &trace, now)?;
    }
    Ok(moved)
}

/// The higher priority and the newer words hold; but nobody's words replace those of another user, unless they may.
fn retell(tx: &Connection, delivery: i64, request: &Request, may_retell: bool) -> Result<(), RowError> {
    tx.prepare_cached(
        "UPDATE delivery SET priority = max(priority, ?2),
           drv = iif(?5 OR uid = ?6 OR drv IS NULL, coalesce(?3, drv), drv),
           tag = iif(?5 OR uid = ?6 OR tag IS NULL, coalesce(?4, tag), tag)
         WHERE id = ?1",
    )?
    .execute(params![
        delivery,
        request.priority,
        request.drv.as_ref().map(DrvPath::as_str),
        request.tag,
        may_retell,
        request.uid,
    ])?;
    Ok(())
}

/// How many deliveries a request has.
pub(crate) fn deliveries_of(tx: &Connection, request: i64) -> Result<u32, RowError> {
    Ok(tx
        .prepare_cached("SELECT count(*) FROM request_delivery WHERE request = ?1")?
        .query_row([request], |row| row.get(0))?)
}

/// Everything a claim says.
#[derive(Debug, Clone)]
pub(crate) struct NewClaim {
    /// Names the claim, so that all of it can be ended at once.
    pub(crate) key: [u8; 16],
    /// The derivations being built.
    pub(crate) drvs: Vec<DrvPath>,
    /// Where hooks may send their outputs.
    pub(crate) destinations: Vec<DestinationId>,
    /// For which commit.
    pub(crate) origin: Origin,
    /// With which trust.
    pub(crate) trust: Option<Trust>,
    /// Who says so.
    pub(crate) uid: u32,
    /// Until when.
    pub(crate) until: Time,
}

/// Stores claims; the same key again replaces what it said of a derivation.
pub(crate) fn put_claim(tx: &Connection, claim: &NewClaim) -> Result<(), RowError> {
    let destinations = claim.destinations.iter().map(DestinationId::as_str).collect::<Vec<_>>().join(",");
    for drv in &claim.drvs {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO claim
               (drv, destinations, repository, branch, commit_id, trust, uid, until_ms, key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            drv.as_str(),
            destinations,
            claim.origin.repository,
            claim.origin.branch,
            claim.origin.commit,
            claim.trust.map(|trust| trust as i64),
            claim.uid,
            ms(claim.until),
            &claim.key[..],
        ])?;
    }
    Ok(())
}

/// Ends a claim: these derivations of it, or all when none is named; returns how many ended. The rows stay for
/// requests that were made while it held and are still on their way.
pub(crate) fn end_claim(
    tx: &Connection,
    key: &[u8; 16],
    drvs: &[DrvPath],
    now: Time,
) -> Result<usize, RowError> {
    if drvs.is_empty() {
        let end = "UPDATE claim SET until_ms = ?2 WHERE key = ?1 AND until_ms > ?2";
        return Ok(tx.execute(end, params![&key[..], ms(now)])?);
    }
    let mut ended = 0;
    for drv in drvs {
        ended += tx
            .prepare_cached("UPDATE claim SET until_ms = ?3 WHERE drv = ?1 AND key = ?2 AND until_ms > ?3")?
            .execute(params![drv.as_str(), &key[..], ms(now)])?;
    }
    Ok(ended)
}

/// The claims on a derivation that held at `made` or later: one for each run that builds it.
pub(crate) fn claims_on(conn: &Connection, drv: &str, made: Time) -> Result<Vec<Claim>, RowError> {
    let mut statement = conn.prepare_cached(
        "SELECT destinations, repository, branch, commit_id, trust FROM claim WHERE drv = ?1 AND until_ms > ?2",
    )?;
    let mut rows = statement.query(params![drv, ms(made)])?;
    let mut claims = Vec::new();
    while let Some(row) = rows.next()? {
        let list: String = row.get(0)?;
        let trust: Option<u8> = row.get(4)?;
        claims.push(Claim {
            destinations: list.split(',').filter_map(|id| DestinationId::parse(id).ok()).collect(),
            origin: Origin { repository: row.get(1)?, branch: row.get(2)?, commit: row.get(3)? },
            trust: trust.and_then(Trust::from_number),
        });
    }
    Ok(claims)
}

/// Forgets claims that ended before `before`, those that were not of trusted pushes only when they ended before
/// `untrusted_before`; at most `limit`.
pub(crate) fn forget_claims(
    tx: &Connection,
    before: Time,
    untrusted_before: Time,
    limit: u32,
) -> Result<usize, RowError> {
    let forget = "DELETE FROM claim WHERE (drv, key) IN
        (SELECT drv, key FROM claim WHERE until_ms <= ?1 AND (trust IS ?2 OR until_ms <= ?3) LIMIT ?4)";
    let trusted = Trust::TrustedPush as i64;
    Ok(tx.prepare_cached(forget)?.execute(params![ms(before), trusted, ms(untrusted_before), limit])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_request_brings_back_what_is_over_and_disturbs_nothing_that_is_not() {
        use StateName::{Dead, Done, Gone};
        for state in StateName::ALL {
            let want = match state {
                Done | Dead | Gone => Some(Event::Requested),
                _ => None,
            };
            assert_eq!(revival(state, false, false), want, "{state:?}");
            let want = if state == Done { None } else { want };
            assert_eq!(revival(state, true, false), want, "{state:?} with a receipt that counts");
            let want = (state == Dead).then_some(Event::Vanished);
            assert_eq!(revival(state, false, true), want, "{state:?} of a path that is gone");
        }
    }
}
