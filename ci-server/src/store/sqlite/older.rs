//! What an older server knew, on its way in: how builds ended, and the attributes of its job sets. Rows come in by chunks;
//! how many were new goes out. What is known here already is left as it is.

use std::sync::Arc;

use sqlite_kit::rusqlite::{OptionalExtension, params};
use sqlite_kit::{Lane, Tx};

use super::codec::Hash;
use super::runs::{self, TAKEN_OVER};
use super::{JobError, SqliteStore};
use crate::store::{JobRow, OldState, Refusal, RunId, StoreError};

/// A state as its rows need it.
struct Ready {
    hash: Hash,
    name: String,
    folder: i64,
    system: i64,
    domain: i64,
    state: i64,
}

impl SqliteStore {
    pub(super) fn add_states(&self, states: &[OldState]) -> Result<usize, StoreError> {
        let doing = "take over how builds ended";
        self.check_chunk(doing, states.len())?;
        let ready = states.iter().map(|old| {
            Ok(Ready {
                hash: self.hash_of(doing, &old.drv)?,
                name: old.drv.drv_name().to_owned(),
                folder: self.word(old.drv.store_path().store_dir())?,
                system: self.word(old.system.as_str())?,
                domain: old.domain.code(),
                state: old.state.code().into(),
            })
        });
        let (ready, today) = (ready.collect::<Result<Vec<_>, StoreError>>()?, self.today());
        let ids = Arc::clone(&self.ids);
        self.write(doing, Lane::Bulk, move |tx| {
            ids.clear();
            ready.iter().map(|old| add_state(tx, old, today)).sum()
        })
    }

    pub(super) fn add_jobs(&self, run: RunId, rows: &[JobRow], last: bool) -> Result<usize, StoreError> {
        let doing = "take over a job set";
        self.check_chunk(doing, rows.len())?;
        let ready: Result<Vec<_>, _> = rows.iter().map(|row| self.ready_job(doing, row)).collect();
        let (ready, now) = (ready?, self.clock.now().as_ms());
        self.write(doing, Lane::Bulk, move |tx| {
            let mut query = tx.prepare_cached("SELECT how FROM run WHERE id = ?1")?;
            match query.query_row(params![run], |row| row.get::<_, Option<i64>>(0)).optional()? {
                None => return Err(Refusal::UnknownRun(run).into()),
                Some(Some(_)) => return Ok(0), // taken over before
                Some(None) => {}
            }
            runs::write_jobs(tx, run, &ready)?;
            if last {
                let sql = "UPDATE run SET compared_ms = ?2, closed_ms = ?2, how = ?3 WHERE id = ?1";
                tx.prepare_cached(sql)?.execute(params![run, now, TAKEN_OVER])?;
            }
            Ok(ready.len())
        })
    }
}

fn add_state(tx: &Tx<'_>, old: &Ready, today: i64) -> Result<usize, JobError> {
    let mut query = tx.prepare_cached("SELECT id FROM drv WHERE hash = ?1")?;
    let found: Option<i64> = query.query_row(params![old.hash], |row| row.get(0)).optional()?;
    let drv = match found {
        Some(drv) => drv,
        None => {
            let sql = "INSERT INTO drv (id, hash, folder, name, whole, touched_day, system, flags, outputs)
                       VALUES ((SELECT coalesce(max(id), 0) + 1 FROM drv), ?1, ?2, ?3, 0, ?4, ?5, 0, x'')";
            tx.prepare_cached(sql)?.execute(params![old.hash, old.folder, old.name, today, old.system])?;
            tx.last_insert_rowid()
        }
    };
    let sql = "INSERT INTO drv_state (drv, domain, state) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    Ok(tx.prepare_cached(sql)?.execute(params![drv, old.domain, old.state])?)
}
