//! Statements that look: counts, lists, verdicts. They run on reading connections and change nothing.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::{Deserialize, Serialize};
use service_kit::clock::Time;

use super::{RowError, unsigned};
use crate::delivery::StateName;

/// Which deliveries are meant; an empty selection means all. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// In one of these states.
    pub states: Vec<String>,
    /// At this destination.
    pub destination: Option<String>,
    /// Asked for under this tag, by any request.
    pub tag: Option<String>,
    /// Of one of these paths.
    pub paths: Vec<String>,
    /// Queued before this time, in wall-clock milliseconds since 1970.
    pub queued_before_ms: Option<i64>,
    /// Queued at this time or later, in wall-clock milliseconds since 1970.
    pub queued_since_ms: Option<i64>,
}

/// One delivery as people and JSON see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The store path.
    pub path: String,
    /// The derivation, when known.
    pub drv: Option<String>,
    /// The destination's id.
    pub destination: String,
    /// The state's word.
    pub state: String,
    /// Failures counted so far.
    pub attempts: u32,
    /// When it was queued, RFC 3339.
    pub queued_at: String,
    /// When it may be tried again, RFC 3339; only while waiting.
    pub not_before: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What proves the delivery.
    pub receipt: Option<serde_json::Value>,
    /// The newest tag it was asked for under.
    pub tag: Option<String>,
}

/// Everything about one delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What `list` prints.
    #[serde(flatten)]
    pub listed: Listed,
    /// The size of its NAR, in bytes.
    pub nar_bytes: u64,
    /// Higher goes first.
    pub priority: i32,
    /// The user that asked first.
    pub uid: u32,
    /// When the state last changed, RFC 3339.
    pub changed_at: String,
    /// The class of the last failure.
    pub last_class: Option<String>,
    /// The end of what the last attempt printed.
    pub last_output: Option<String>,
    /// The requests that asked for it, oldest first, at most 100.
    pub requests: Vec<ShownRequest>,
}

/// One request as `show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRequest {
    /// `hook`, `cli`, `ci` or `hydra`.
    pub source: String,
    /// The user.
    pub uid: u32,
    /// Its tag.
    pub tag: Option<String>,
    /// When it was taken in, RFC 3339.
    pub received_at: String,
}

/// Counts by state for a set of deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally(pub BTreeMap<String, u64>);

impl Tally {
    /// Deliveries still owed.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.sum(StateName::is_live)
    }

    /// How many are in one state.
    #[must_use]
    pub fn of(&self, state: StateName) -> u64 {
        self.0.get(state.as_str()).copied().unwrap_or(0)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn sum(&self, keep: impl Fn(StateName) -> bool) -> u64 {
        StateName::ALL.into_iter().filter(|state| keep(*state)).map(|state| self.of(state)).sum()
    }
}

/// What is counted for one destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DestinationCounts {
    pub(crate) by_state: Tally,
    pub(crate) paused: bool,
    pub(crate) bytes_pushed: u64,
    pub(crate) oldest_queued: Option<Time>,
    /// NAR bytes of what is owed, as far as Nix noted them.
    pub(crate) owed_nar_bytes: u64,
}

/// Counts by destination and state; destinations that left the configuration are there while they have deliveries.
pub(crate) fn counts(conn: &Connection) -> Result<BTreeMap<String, DestinationCounts>, RowError> {
    let mut found: BTreeMap<String, DestinationCounts> = BTreeMap::new();
    let mut names: BTreeMap<i64, String> = BTreeMap::new();
    let mut statement = conn.prepare_cached("SELECT id, name, paused, bytes_pushed FROM destination")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        names.insert(row.get(0)?, name.clone());
        let counts = found.entry(name).or_default();
        counts.paused = row.get(2)?;
        counts.bytes_pushed = unsigned(row.get(3)?);
    }
    let mut statement =
        conn.prepare_cached("SELECT destination, state, count(*) FROM delivery GROUP BY state, destination")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(counts) = names.get(&row.get(0)?).and_then(|name| found.get_mut(name)) else { continue };
        counts.by_state.0.insert(state_word(row.get(1)?), unsigned(row.get(2)?));
    }
    // `total` is no integer, so that it cannot overflow.
    let mut statement = conn.prepare_cached(
        "SELECT destination, min(queued_ms), CAST(min(total(nar_bytes), 9e18) AS INTEGER)
         FROM delivery WHERE state < 10 GROUP BY destination",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Some(counts) = names.get(&row.get(0)?).and_then(|name| found.get_mut(name)) else { continue };
        counts.oldest_queued = Some(Time::from_ms(row.get(1)?));
        counts.owed_nar_bytes = unsigned(row.get(2)?);
    }
    Ok(found)
}

const LISTED: &str = "d.path, d.drv, n.name, d.state, d.attempts, d.queued_ms, d.not_before_ms, d.last_error,
  d.receipt, d.tag, d.id";

/// Lists deliveries after row `after`, in the order they were queued; at most `limit`. Gives the last row's id too.
pub(crate) fn list(
    conn: &Connection,
    selection: &Selection,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Listed)>, RowError> {
    let (clause, mut values) = where_clause(selection);
    values.push(Value::Integer(after));
    let sql = format!(
        "SELECT {LISTED} FROM delivery d JOIN destination n ON n.id = d.destination
         WHERE {clause} AND d.id > ? ORDER BY d.id LIMIT {limit}"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(10)?, listed(row)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts a selection by state.
pub(crate) fn tally(conn: &Connection, selection: &Selection) -> Result<Tally, RowError> {
    let (clause, values) = where_clause(selection);
    let sql = format!(
        "SELECT d.state, count(*) FROM delivery d JOIN destination n ON n.id = d.destination
         WHERE {clause} GROUP BY d.state"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement
        .query_map(params_from_iter(values), |row| Ok((state_word(row.get(0)?), unsigned(row.get(1)?))))?;
    Ok(Tally(rows.collect::<Result<_, _>>()?))
}

/// Everything about the deliveries of one path, one per destination.
pub(crate) fn show(conn: &Connection, path: &str) -> Result<Vec<Shown>, RowError> {
    let sql = format!(
        "SELECT {LISTED}, d.nar_bytes, d.priority, d.uid, d.changed_ms, d.last_class, d.last_output
         FROM delivery d JOIN destination n ON n.id = d.destination WHERE d.path = ? ORDER BY n.name"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([path])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Shown {
            listed: listed(row)?,
            nar_bytes: unsigned(row.get(11)?),
            priority: row.get(12)?,
            uid: row.get(13)?,
            changed_at: Time::from_ms(row.get(14)?).to_string(),
            last_class: row.get(15)?,
            last_output: row.get(16)?,
            requests: requests_of(conn, row.get(10)?)?,
        });
    }
    Ok(found)
}

fn requests_of(conn: &Connection, delivery: i64) -> Result<Vec<ShownRequest>, RowError> {
    let mut statement = conn.prepare_cached(
        "SELECT r.source, r.uid, r.tag, r.received_ms FROM request_delivery l JOIN request r ON r.id = l.request
         WHERE l.delivery = ? ORDER BY r.id LIMIT 100",
    )?;
    let rows = statement.query_map([delivery], |row| {
        Ok(ShownRequest {
            source: source_word(row.get(0)?),
            uid: row.get(1)?,
            tag: row.get(2)?,
            received_at: Time::from_ms(row.get(3)?).to_string(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// True when some request carries the tag, even one that owes nothing.
pub(crate) fn tag_exists(conn: &Connection, tag: &str) -> Result<bool, RowError> {
    Ok(conn
        .query_row("SELECT 1 FROM request WHERE tag = ?1 LIMIT 1", [tag], |_| Ok(()))
        .optional()?
        .is_some())
}

/// The condition of a selection, over `delivery d` and `destination n`.
pub(crate) fn where_clause(selection: &Selection) -> (String, Vec<Value>) {
    let mut clauses = vec!["1".to_owned()];
    let mut values = Vec::new();
    if !selection.states.is_empty() {
        let codes = selection.states.iter().filter_map(|word| StateName::from_word(word));
        let list = codes.map(|state| state.code().to_string()).collect::<Vec<_>>().join(",");
        clauses.push(format!("d.state IN ({list})"));
    }
    if let Some(destination) = &selection.destination {
        clauses.push("n.name = ?".into());
        values.push(Value::Text(destination.clone()));
    }
    if let Some(tag) = &selection.tag {
        clauses.push(
            "d.id IN (SELECT l.delivery FROM request r JOIN request_delivery l ON l.request = r.id WHERE r.tag = ?)"
                .into(),
        );
        values.push(Value::Text(tag.clone()));
    }
    if !selection.paths.is_empty() {
        // One JSON parameter: there may be more paths than a statement takes parameters.
        clauses.push("d.path IN (SELECT value FROM json_each(?))".into());
        values.push(Value::Text(serde_json::Value::from(selection.paths.clone()).to_string()));
    }
    if let Some(before) = selection.queued_before_ms {
        clauses.push("d.queued_ms < ?".into());
        values.push(Value::Integer(before));
    }
    if let Some(since) = selection.queued_since_ms {
        clauses.push("d.queued_ms >= ?".into());
        values.push(Value::Integer(since));
    }
    (clauses.join(" AND "), values)
}

fn listed(row: &Row<'_>) -> Result<Listed, rusqlite::Error> {
    let code = row.get(3)?;
    let waiting = code == StateName::Waiting.code();
    let receipt: Option<String> = row.get(8)?;
    Ok(Listed {
        path: row.get(0)?,
        drv: row.get(1)?,
        destination: row.get(2)?,
        state: state_word(code),
        attempts: row.get(4)?,
        queued_at: Time::from_ms(row.get(5)?).to_string(),
        not_before: if waiting { Some(Time::from_ms(row.get(6)?).to_string()) } else { None },
        last_error: row.get(7)?,
        receipt: receipt.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
        tag: row.get(9)?,
    })
}

fn state_word(code: i64) -> String {
    StateName::from_code(code).map_or_else(|| format!("unknown-{code}"), |state| state.as_str().to_owned())
}

fn source_word(code: i64) -> String {
    [hook_wire::Source::Hook, hook_wire::Source::Cli, hook_wire::Source::Ci, hook_wire::Source::Hydra]
        .into_iter()
        .find(|source| *source as i64 == code)
        .map_or_else(|| format!("unknown-{code}"), |source| crate::route::source_word(source).to_owned())
}
