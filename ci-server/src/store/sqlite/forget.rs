//! What is old goes. A time comes in; rows that nothing needs any more are gone, users of derivations before what they
//! need. What to take away is found on a view of the past; each transaction that takes it looks again whether it was
//! touched since, and whatever somebody refers to is touched in the very transaction that refers to it.

use std::collections::HashSet;
use std::sync::Arc;

use service_kit::clock::Time;
use sqlite_kit::rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use sqlite_kit::{Lane, Tx};

use super::codec::{self, Hash};
use super::runs::begin_anew;
use super::schema::{DROPPED, OPEN, WHOLE};
use super::{JobError, MS_PER_DAY, SqliteStore};
use crate::store::{CHUNK_MAX, EvaluationId, Forgotten, RunId, StoreError};

const DOING: &str = "forget what is old";

/// Values that are older than a day, and those that an evaluation has; all of both tables, once each.
pub(super) const OLD_VALUES: &str = "SELECT id FROM attr_value WHERE touched_day < ?1";
pub(super) const USED_VALUES: &str = "SELECT value FROM attr";
/// A derivation that was not touched since a day.
pub(super) const OLD_DRV: &str = "SELECT 1 FROM drv WHERE touched_day < ?1 LIMIT 1";
/// What is needed by itself, and the whole graph.
pub(super) const ROOTS: &str =
    "SELECT drv FROM attr_value UNION SELECT before FROM job UNION SELECT after FROM job";
pub(super) const ALL_DRVS: &str = "SELECT id, hash, touched_day, inputs FROM drv ORDER BY id DESC";

impl SqliteStore {
    pub(super) fn forget_all(&self, older_than: Time) -> Result<Forgotten, StoreError> {
        let yesterday = self.clock.now().as_ms().saturating_sub(MS_PER_DAY);
        let before_ms = older_than.as_ms().min(yesterday);
        let day = before_ms.div_euclid(MS_PER_DAY);
        let ended = self.end_lost(); // what cannot be looked at keeps nothing else from being forgotten
        let forgotten = Forgotten {
            runs: self.forget_runs(before_ms)?,
            evaluations: self.forget_evaluations(day)?,
            attrs: self.forget_values(day)?,
            drvs: self.forget_drvs(day)?,
        };
        ended?;
        Ok(forgotten)
    }

    fn forget_runs(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let next = self.read(DOING, |conn| {
                let mut query =
                    conn.prepare_cached("SELECT id FROM run WHERE begun_ms < ?1 ORDER BY begun_ms LIMIT 1")?;
                let mut rows = query.query(params![before_ms])?;
                Ok(rows.next()?.map(|row| row.get::<_, RunId>(0)).transpose()?)
            })?;
            let Some(run) = next else { return Ok(gone) };
            while self.write(DOING, Lane::Bulk, move |tx| forget_run(tx, run))? {}
            gone += 1;
        }
    }

    fn forget_evaluations(&self, day: i64) -> Result<u64, StoreError> {
        self.write(DOING, Lane::Bulk, move |tx| {
            for state in [OPEN, WHOLE] {
                let sql = "UPDATE evaluation SET state = ?3 WHERE state = ?1 AND touched_day < ?2
                           AND NOT EXISTS (SELECT 1 FROM run_evaluation WHERE evaluation = evaluation.id)";
                tx.prepare_cached(sql)?.execute(params![state, day, DROPPED])?;
            }
            Ok(())
        })?;
        let dropped: Vec<EvaluationId> = self.read(DOING, |conn| {
            let mut query =
                conn.prepare_cached("SELECT id FROM evaluation WHERE state = ?1 AND touched_day < ?2")?;
            let rows = query.query_map(params![DROPPED, i64::MAX], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        for evaluation in &dropped {
            self.sweep_evaluation(*evaluation)?;
        }
        Ok(dropped.len() as u64)
    }

    fn forget_values(&self, day: i64) -> Result<u64, StoreError> {
        let old: Vec<i64> = self.read(DOING, |conn| {
            let mut old = ids(conn, OLD_VALUES, Some(day))?;
            if !old.is_empty() {
                let used: HashSet<i64> = ids(conn, USED_VALUES, None)?.into_iter().collect();
                old.retain(|value| !used.contains(value));
            }
            Ok(old)
        })?;
        let mut gone = 0;
        for chunk in old.chunks(CHUNK_MAX) {
            let chunk = chunk.to_vec();
            gone += self.write(DOING, Lane::Bulk, move |tx| {
                let mut delete =
                    tx.prepare_cached("DELETE FROM attr_value WHERE id = ?1 AND touched_day < ?2")?;
                let mut gone = 0;
                for id in chunk {
                    gone += delete.execute(params![id, day])? as u64;
                }
                Ok(gone)
            })?;
        }
        Ok(gone)
    }

    fn forget_drvs(&self, day: i64) -> Result<u64, StoreError> {
        let old = self.read(DOING, |conn| {
            // The whole graph is read only when some of it is old.
            if conn.prepare_cached(OLD_DRV)?.exists(params![day])? {
                not_needed(conn, day)
            } else {
                Ok(Vec::new())
            }
        })?;
        let (mut kept, mut gone) = (HashSet::new(), 0);
        for chunk in old.chunks(CHUNK_MAX) {
            let (ids, chunk) = (Arc::clone(&self.ids), chunk.to_vec());
            let deleted;
            (kept, deleted) = self.write(DOING, Lane::Bulk, move |tx| {
                ids.clear();
                delete_drvs(tx, &chunk, day, kept)
            })?;
            gone += deleted;
        }
        Ok(gone)
    }
}

fn ids(conn: &Connection, sql: &str, day: Option<i64>) -> Result<Vec<i64>, JobError> {
    let mut query = conn.prepare_cached(sql)?;
    let rows = query.query_map(params_from_iter(day), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A part of what a run has left; gives whether there is more.
fn forget_run(tx: &Tx<'_>, run: RunId) -> Result<bool, JobError> {
    if begin_anew(tx, run)? {
        return Ok(true);
    }
    for sql in ["DELETE FROM run_evaluation WHERE run = ?1", "DELETE FROM run WHERE id = ?1"] {
        tx.prepare_cached(sql)?.execute(params![run])?;
    }
    Ok(false)
}

/// Derivations that were touched before that day and that nothing needs: no attribute, no row of a comparison, no
/// other derivation that stays. Users come before what they need.
fn not_needed(conn: &Connection, day: i64) -> Result<Vec<i64>, JobError> {
    let mut query = conn.prepare_cached(ROOTS)?;
    let rows = query.query_map([], |row| row.get::<_, Option<Hash>>(0))?;
    let roots: HashSet<Hash> = rows.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let mut query = conn.prepare_cached(ALL_DRVS)?;
    let mut drvs = query.query([])?;
    let (mut needed, mut old) = (HashSet::new(), Vec::new());
    while let Some(row) = drvs.next()? {
        let (id, hash, touched): (i64, Hash, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if needed.remove(&id) || touched >= day || roots.contains(&hash) {
            need(id, row.get_ref(3)?.as_blob().unwrap_or_default(), &mut needed)?;
        } else {
            old.push(id);
        }
    }
    Ok(old)
}

/// Adds what a derivation needs.
fn need(id: i64, mut packed: &[u8], needed: &mut HashSet<i64>) -> Result<(), JobError> {
    let mut last = 0;
    let damaged = || JobError::Unreadable(format!("what derivation {id} needs"));
    while let Some((input, _)) = codec::next_input(&mut packed, last).ok_or_else(damaged)? {
        needed.insert(input);
        last = input;
    }
    Ok(())
}

/// Takes derivations away, users first, but for those that were touched meanwhile, and those that these need: they are
/// added to `kept`.
fn delete_drvs(
    tx: &Tx<'_>,
    drvs: &[i64],
    day: i64,
    mut kept: HashSet<i64>,
) -> Result<(HashSet<i64>, u64), JobError> {
    let mut touched = tx.prepare_cached("SELECT 1 FROM drv WHERE id = ?1 AND touched_day >= ?2")?;
    let mut inputs = tx.prepare_cached("SELECT inputs FROM drv WHERE id = ?1")?;
    let mut delete = tx.prepare_cached("DELETE FROM drv WHERE id = ?1")?;
    let mut gone = 0;
    for id in drvs {
        if kept.contains(id) || touched.exists(params![id, day])? {
            let packed: Option<Vec<u8>> = inputs.query_row(params![id], |row| row.get(0)).optional()?;
            need(*id, &packed.unwrap_or_default(), &mut kept)?;
            continue;
        }
        gone += delete.execute(params![id])? as u64;
    }
    Ok((kept, gone))
}
