//! Loads a delivery's row as a `Machine`, steps it, stores it.
//!
//! The only code that writes the state columns of `delivery`.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use service_kit::backoff::Rng;
use service_kit::clock::Time;

use super::{RowError, ms, unsigned};
use crate::delivery::{Event, FaultClass, LeaseToken, Machine, Policy, State, StateName, StepError, step};

/// What is said of a delivery that is gone.
pub(crate) const VANISHED: &str = "the path is no longer valid in the store";

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The delivery is now in this state.
    Moved(StateName),
    /// The machine refused the event; nothing changed.
    Refused(StepError),
    /// There is no such delivery (any more).
    Missing,
}

/// What an attempt leaves behind beside the state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace<'a> {
    /// One line for people.
    pub(crate) error: Option<&'a str>,
    /// The class of the failure.
    pub(crate) class: Option<FaultClass>,
    /// The end of what the child printed.
    pub(crate) output: Option<&'a str>,
}

/// Steps one delivery and stores the result.
pub(crate) fn apply(
    tx: &Connection,
    delivery: i64,
    event: Event,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<Applied, RowError> {
    let Some(machine) = load(tx, delivery)? else { return Ok(Applied::Missing) };
    match step(&machine, event, now, policy, rng) {
        Ok(next) => {
            save(tx, delivery, &next, now)?;
            Ok(Applied::Moved(next.state.name()))
        }
        Err(refused) => Ok(Applied::Refused(refused)),
    }
}

/// Keeps what an attempt left behind.
pub(crate) fn keep_trace(
    tx: &Connection,
    delivery: i64,
    trace: &Trace<'_>,
    now: Time,
) -> Result<(), RowError> {
    tx.prepare_cached(
        "UPDATE delivery SET last_error = ?2, last_class = ?3, last_output = ?4, tried_ms = ?5 WHERE id = ?1",
    )?
    .execute(params![
        delivery,
        trace.error,
        trace.class.map(FaultClass::as_str),
        trace.output,
        ms(now)
    ])?;
    Ok(())
}

fn load(tx: &Connection, delivery: i64) -> Result<Option<Machine>, RowError> {
    let row = tx
        .prepare_cached(
            "SELECT state, token, not_before_ms, receipt, last_error, attempts, backoff_ms FROM delivery WHERE id = ?1",
        )?
        .query_row([delivery], |row| {
            Ok(Row {
                state: row.get(0)?,
                token: row.get(1)?,
                not_before_ms: row.get(2)?,
                receipt: row.get(3)?,
                last_error: row.get(4)?,
                attempts: row.get(5)?,
                backoff_ms: row.get(6)?,
            })
        })
        .optional()?;
    row.map(|row| row.into_machine(delivery)).transpose()
}

struct Row {
    state: i64,
    token: i64,
    not_before_ms: i64,
    receipt: Option<String>,
    last_error: Option<String>,
    attempts: u32,
    backoff_ms: i64,
}

impl Row {
    fn into_machine(self, delivery: i64) -> Result<Machine, RowError> {
        let Some(name) = StateName::from_code(self.state) else {
            return Err(RowError::Unreadable { delivery, what: format!("state {}", self.state) });
        };
        let token = LeaseToken(unsigned(self.token));
        let state = match name {
            StateName::Queued => State::Queued,
            StateName::Leased => State::Leased(token),
            StateName::Pushing => State::Pushing(token),
            StateName::Verifying => State::Verifying(token),
            StateName::Waiting => State::Waiting { until: Time::from_ms(self.not_before_ms) },
            StateName::Done => State::Done { receipt: self.receipt.unwrap_or_default() },
            StateName::Dead => State::Dead { why: self.last_error.unwrap_or_default() },
            StateName::Gone => State::Gone,
        };
        let backoff = Duration::from_millis(unsigned(self.backoff_ms));
        Ok(Machine { state, attempts: self.attempts, backoff })
    }
}

fn save(tx: &Connection, delivery: i64, machine: &Machine, now: Time) -> Result<(), RowError> {
    let (token, until, receipt) = match &machine.state {
        State::Leased(token) | State::Pushing(token) | State::Verifying(token) => (Some(*token), None, None),
        State::Waiting { until } => (None, Some(*until), None),
        State::Done { receipt } => (None, None, Some(receipt.as_str())),
        State::Queued | State::Dead { .. } | State::Gone => (None, None, None),
    };
    let backoff_ms = i64::try_from(machine.backoff.as_millis()).unwrap_or(i64::MAX);
    // A token is never forgotten: the next lease must be told apart from this one.
    tx.prepare_cached(
        "UPDATE delivery SET state = ?2, token = coalesce(?3, token), not_before_ms = ?4, receipt = ?5,
           attempts = ?6, backoff_ms = ?7, changed_ms = ?8 WHERE id = ?1",
    )?
    .execute(params![
        delivery,
        machine.state.name().code(),
        token.map(|token| i64::try_from(token.0).unwrap_or(i64::MAX)),
        until.map_or(0, ms),
        receipt,
        machine.attempts,
        backoff_ms,
        ms(now),
    ])?;
    Ok(())
}
