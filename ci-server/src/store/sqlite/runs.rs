//! Runs: what asked for them, what their change does, how they ended. Triggers, comparisons and ends come in; the same
//! go out. A comparison's rows are there to be searched, its whole text to be shown.

use ci_model::change::Comparison;
use ci_model::flow::{Cause, Trigger, Verdict};
use ci_model::outcome::{Outcome, Side};
use ci_model::{CommitId, JobName, RepositoryName};
use nix_types::{DrvPath, System};
use service_kit::clock::Time;
use sqlite_kit::rusqlite::{Connection, OptionalExtension, Row, params};
use sqlite_kit::{Lane, Tx};

use super::codec::{self, Hash};
use super::values::attr_path;
use super::words::{self, Read};
use super::{JobError, SqliteStore, rows};
use crate::store::types::{job_rows, trust_code, trust_of};
use crate::store::{
    CHUNK_MAX, DifferenceCode, EvaluationId, JobRow, Refusal, RepositoryId, RunEnd, RunId, RunKey,
    StoreError, StoredRun,
};

const PUSH: i64 = 0;
const PULL_REQUEST: i64 = 1;
const PERSON: i64 = 2;

const ANSWERED: i64 = 0;
const FAILED: i64 = 1;
const CANCELLED: i64 = 2;
pub(super) const TAKEN_OVER: i64 = 3;
pub(super) const LOST: i64 = 4;

/// A run and all it points to.
pub(super) const RUN: &str = "SELECT repository.name, cause, branch, number, head.hash, base.hash, trust, begun_ms,
    closed_ms, how, said FROM run JOIN repository ON repository.id = run.repository
    LEFT JOIN git_commit head ON head.id = run.head LEFT JOIN git_commit base ON base.id = run.base WHERE run.id = ?1";
/// The rows of a comparison that is whole.
pub(super) const JOBS: &str =
    "SELECT job.job, path, difference, system, folder, before, before_name, after, after_name
    FROM run JOIN job ON job.run = run.id WHERE run.id = ?1 AND run.compared_ms IS NOT NULL ORDER BY job.run";

/// A comparison's row as its table needs it.
pub(super) struct Ready {
    job: i64,
    path: String,
    difference: i64,
    system: Option<i64>,
    folder: Option<i64>,
    before: Option<(Hash, String)>,
    after: Option<(Hash, String)>,
}

impl SqliteStore {
    pub(super) fn repository_row(&self, name: &RepositoryName) -> Result<RepositoryId, StoreError> {
        let name = name.clone();
        self.write("store a repository", Lane::Normal, move |tx| repository(tx, &name))
    }

    pub(super) fn first_seen_at(
        &self,
        repository: &RepositoryName,
        commit: &CommitId,
    ) -> Result<Option<Time>, StoreError> {
        self.read("look a commit up", |conn| {
            let sql = "SELECT first_seen_ms FROM repository JOIN git_commit ON git_commit.repository = repository.id
                       WHERE repository.name = ?1 AND git_commit.hash = ?2";
            let mut query = conn.prepare_cached(sql)?;
            let found = query.query_row(params![repository.as_str(), commit.as_str()], |row| row.get(0));
            Ok(found.optional()?.map(Time::from_ms))
        })
    }

    pub(super) fn begin(&self, key: &RunKey, trigger: &Trigger) -> Result<RunId, StoreError> {
        let (doing, session) = ("begin a run", self.session);
        self.show_that_we_work(doing)?;
        let (key, trigger, now) = (key.as_str().to_owned(), trigger.clone(), self.clock.now().as_ms());
        self.write(doing, Lane::Normal, move |tx| {
            let mut query = tx.prepare_cached("SELECT id FROM run WHERE key = ?1")?;
            let found: Option<RunId> = query.query_row(params![key], |row| row.get(0)).optional()?;
            let Some(run) = found else { return insert(tx, &key, &trigger, session, now) };
            match stored(tx, run)? {
                Some(stored) if stored.trigger == trigger => {}
                _ => return Err(Refusal::KeyTaken { key, run }.into()),
            }
            let sql = "UPDATE run SET session = ?2, how = NULL, closed_ms = NULL
                       WHERE id = ?1 AND (how IS NULL OR how = ?3)";
            tx.prepare_cached(sql)?.execute(params![run, session, LOST])?;
            Ok(run)
        })
    }

    pub(super) fn link(&self, run: RunId, side: Side, evaluation: EvaluationId) -> Result<(), StoreError> {
        self.write("note what a run uses", Lane::Normal, move |tx| {
            if !tx.prepare_cached("SELECT 1 FROM run WHERE id = ?1")?.exists(params![run])? {
                return Err(Refusal::UnknownRun(run).into());
            }
            let whole = "SELECT 1 FROM evaluation WHERE id = ?1 AND state = 1";
            if !tx.prepare_cached(whole)?.exists(params![evaluation])? {
                return Err(Refusal::UnknownEvaluation(evaluation).into());
            }
            let sql = "INSERT INTO run_evaluation (run, evaluation, side) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            let side = match side {
                Side::Head => 0,
                Side::Base => 1,
            };
            tx.prepare_cached(sql)?.execute(params![run, evaluation, side])?;
            Ok(())
        })
    }

    pub(super) fn record(&self, run: RunId, comparison: &Comparison) -> Result<(), StoreError> {
        let doing = "record a comparison";
        let json = serde_json::to_string(comparison).map_err(|source| self.unwritable(doing, source))?;
        let there = json.clone();
        if self.write(doing, Lane::Normal, move |tx| is_recorded(tx, run, &there))? {
            return Ok(());
        }
        let rows: Result<Vec<_>, _> = job_rows(comparison).map(|row| self.ready_job(doing, &row)).collect();
        let mut rows = rows?;
        while self.write(doing, Lane::Bulk, move |tx| begin_anew(tx, run))? {}
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(CHUNK_MAX));
            let chunk = std::mem::replace(&mut rows, rest);
            self.write(doing, Lane::Bulk, move |tx| write_jobs(tx, run, &chunk))?;
        }
        let now = self.clock.now().as_ms();
        self.write(doing, Lane::Normal, move |tx| {
            let sql = "UPDATE run SET compared_ms = ?2, comparison = ?3 WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![run, now, json])?;
            Ok(())
        })
    }

    pub(super) fn ready_job(&self, doing: &str, row: &JobRow) -> Result<Ready, StoreError> {
        let split = |drv: &Option<DrvPath>| match drv {
            Some(drv) => self.hash_of(doing, drv).map(|hash| Some((hash, drv.drv_name().to_owned()))),
            None => Ok(None),
        };
        let folder = row.after.as_ref().or(row.before.as_ref());
        Ok(Ready {
            job: self.word(row.job.as_str())?,
            path: row.path.to_string(),
            difference: row.difference.code(),
            system: row.system.as_ref().map(|system| self.word(system.as_str())).transpose()?,
            folder: folder.map(|drv| self.word(drv.store_path().store_dir())).transpose()?,
            before: split(&row.before)?,
            after: split(&row.after)?,
        })
    }

    pub(super) fn close(&self, run: RunId, end: &RunEnd) -> Result<(), StoreError> {
        let doing = "close a run";
        let (how, verdict, said) = match end {
            RunEnd::Answered(outcome) => {
                self.record(run, &outcome.comparison)?;
                let short = Outcome { comparison: Comparison::default(), ..Outcome::clone(outcome) };
                let said = serde_json::to_string(&short).map_err(|source| self.unwritable(doing, source))?;
                (ANSWERED, Some(verdict_code(outcome.verdict)), Some(said))
            }
            RunEnd::Failed(why) => (FAILED, None, Some(why.clone())),
            RunEnd::Cancelled => (CANCELLED, None, None),
            RunEnd::TakenOver => (TAKEN_OVER, None, None),
            RunEnd::Lost => (LOST, None, None),
        };
        let now = self.clock.now().as_ms();
        self.write(doing, Lane::Normal, move |tx| {
            let mut query = tx.prepare_cached("SELECT how, said FROM run WHERE id = ?1")?;
            let found = query.query_row(params![run], |row| Ok((row.get(0)?, row.get(1)?)));
            match found.optional()? {
                None => Err(Refusal::UnknownRun(run).into()),
                Some((Some::<i64>(before), text)) if (before, &text) == (how, &said) => Ok(()),
                Some((Some(LOST) | None, _)) => {
                    let sql =
                        "UPDATE run SET closed_ms = ?2, how = ?3, verdict = ?4, said = ?5 WHERE id = ?1";
                    tx.prepare_cached(sql)?.execute(params![run, now, how, verdict, said])?;
                    Ok(())
                }
                Some((Some(_), _)) => Err(Refusal::RunClosed(run).into()),
            }
        })
    }

    pub(super) fn stored_run(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        self.read("read a run", |conn| stored(conn, run))
    }

    pub(super) fn stored_comparison(&self, run: RunId) -> Result<Option<Comparison>, StoreError> {
        self.read("read a comparison", |conn| comparison(conn, run))
    }

    pub(super) fn stored_job_rows(&self, run: RunId) -> Result<Vec<JobRow>, StoreError> {
        self.read("read the rows of a comparison", |conn| {
            let mut query = conn.prepare_cached(JOBS)?;
            let mut rows = query.query(params![run])?;
            let mut reading = Jobs {
                jobs: Read::new(conn, "job", |text| text.parse().ok()),
                systems: Read::new(conn, "system", words::system),
                folders: Read::new(conn, "folder", words::folder),
            };
            let mut jobs = Vec::new();
            while let Some(row) = rows.next()? {
                jobs.push(reading.row(row)?);
            }
            jobs.sort_by(|one, other| (&one.job, &one.path).cmp(&(&other.job, &other.path)));
            Ok(jobs)
        })
    }
}

pub(super) fn repository(tx: &Connection, name: &RepositoryName) -> Result<RepositoryId, JobError> {
    let mut query = tx.prepare_cached("SELECT id FROM repository WHERE name = ?1")?;
    if let Some(id) = query.query_row(params![name.as_str()], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO repository (name) VALUES (?1)")?.execute(params![name.as_str()])?;
    Ok(RepositoryId(tx.last_insert_rowid()))
}

/// The row of a commit; made when it is new.
fn commit(tx: &Connection, repository: RepositoryId, commit: &CommitId, now: i64) -> Result<i64, JobError> {
    let mut query = tx.prepare_cached("SELECT id FROM git_commit WHERE repository = ?1 AND hash = ?2")?;
    if let Some(id) = query.query_row(params![repository, commit.as_str()], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let sql = "INSERT INTO git_commit (repository, hash, first_seen_ms) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![repository, commit.as_str(), now])?;
    Ok(tx.last_insert_rowid())
}

fn insert(tx: &Tx<'_>, key: &str, trigger: &Trigger, session: i64, now: i64) -> Result<RunId, JobError> {
    let repository = repository(tx, &trigger.repository)?;
    let of = |id: &Option<CommitId>| id.as_ref().map(|id| commit(tx, repository, id, now)).transpose();
    let (head, base) = (of(&trigger.head)?, of(&trigger.base)?);
    let (cause, branch, number) = match &trigger.cause {
        Cause::Push { branch } => (PUSH, Some(branch), None),
        // Numbers of forges are far below the largest that SQLite holds; one above it comes back as it went in.
        Cause::PullRequest { number } => (PULL_REQUEST, None, Some(number.cast_signed())),
        Cause::Person => (PERSON, None, None),
    };
    let sql = "INSERT INTO run (key, repository, cause, branch, number, head, base, trust, begun_ms, session)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let trust = trust_code(trigger.trust);
    tx.prepare_cached(sql)?
        .execute(params![key, repository, cause, branch, number, head, base, trust, now, session])?;
    Ok(RunId(tx.last_insert_rowid()))
}

fn stored(conn: &Connection, run: RunId) -> Result<Option<StoredRun>, JobError> {
    let mut query = conn.prepare_cached(RUN)?;
    let mut rows = query.query(params![run])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let damaged = |what| JobError::Unreadable(format!("the {what} of run {run}"));
    let hash = |at: usize| match row.get::<_, Option<String>>(at)? {
        Some(hash) => hash.parse().map(Some).map_err(|_| damaged("commit")),
        None => Ok(None),
    };
    let cause = match (row.get(1)?, row.get(2)?, row.get::<_, Option<i64>>(3)?) {
        (PUSH, Some(branch), _) => Cause::Push { branch },
        (PULL_REQUEST, _, Some(number)) => Cause::PullRequest { number: number.cast_unsigned() },
        (PERSON, ..) => Cause::Person,
        _ => return Err(damaged("cause")),
    };
    let trigger = Trigger {
        repository: row.get::<_, String>(0)?.parse().map_err(|_| damaged("repository"))?,
        cause,
        head: hash(4)?,
        base: hash(5)?,
        trust: trust_of(row.get(6)?).ok_or_else(|| damaged("trust"))?,
    };
    let said: Option<String> = row.get(10)?;
    let end = match row.get::<_, Option<i64>>(9)? {
        None => None,
        Some(how) => {
            let end = end(conn, run, how, said)?.ok_or_else(|| damaged("end"))?;
            Some((end, Time::from_ms(row.get(8)?)))
        }
    };
    Ok(Some(StoredRun { id: run, trigger, begun: Time::from_ms(row.get(7)?), end }))
}

fn end(conn: &Connection, run: RunId, how: i64, said: Option<String>) -> Result<Option<RunEnd>, JobError> {
    Ok(match (how, said) {
        (ANSWERED, Some(said)) => {
            let Ok(outcome) = serde_json::from_str::<Outcome>(&said) else { return Ok(None) };
            let Some(comparison) = comparison(conn, run)? else { return Ok(None) };
            Some(RunEnd::Answered(Box::new(Outcome { comparison, ..outcome })))
        }
        (FAILED, Some(why)) => Some(RunEnd::Failed(why)),
        (CANCELLED, _) => Some(RunEnd::Cancelled),
        (TAKEN_OVER, _) => Some(RunEnd::TakenOver),
        (LOST, _) => Some(RunEnd::Lost),
        _ => None,
    })
}

fn comparison(conn: &Connection, run: RunId) -> Result<Option<Comparison>, JobError> {
    let mut query = conn.prepare_cached("SELECT comparison FROM run WHERE id = ?1")?;
    let found: Option<Option<String>> = query.query_row(params![run], |row| row.get(0)).optional()?;
    let Some(json) = found.flatten() else { return Ok(None) };
    let comparison = serde_json::from_str(&json);
    comparison.map(Some).map_err(|_| JobError::Unreadable(format!("the comparison of run {run}")))
}

/// Whether this very comparison is there.
fn is_recorded(tx: &Tx<'_>, run: RunId, json: &str) -> Result<bool, JobError> {
    let mut query = tx.prepare_cached("SELECT comparison, compared_ms FROM run WHERE id = ?1")?;
    let found = query
        .query_row(params![run], |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, Option<i64>>(1)?)));
    match found.optional()? {
        None => Err(Refusal::UnknownRun(run).into()),
        Some((_, None)) => Ok(false),
        Some((there, Some(_))) if there.as_deref() == Some(json) => Ok(true),
        Some(_) => Err(Refusal::ComparedOtherwise(run).into()),
    }
}

/// Takes away what an attempt that broke off has left; gives whether there is more.
pub(super) fn begin_anew(tx: &Tx<'_>, run: RunId) -> Result<bool, JobError> {
    let sql = "DELETE FROM job WHERE run = ?1 AND (job, path) IN
               (SELECT job, path FROM job WHERE run = ?1 ORDER BY job, path LIMIT ?2)";
    Ok(tx.prepare_cached(sql)?.execute(params![run, rows(CHUNK_MAX)])? == CHUNK_MAX)
}

pub(super) fn write_jobs(tx: &Tx<'_>, run: RunId, rows: &[Ready]) -> Result<(), JobError> {
    // A chunk whose answer did not arrive comes again, with the same rows.
    let sql = "INSERT OR REPLACE INTO job
               (run, job, path, difference, system, folder, before, before_name, after, after_name)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let mut insert = tx.prepare_cached(sql)?;
    for row in rows {
        let (before, after) = (row.before.as_ref(), row.after.as_ref());
        insert.execute(params![
            run,
            row.job,
            row.path,
            row.difference,
            row.system,
            row.folder,
            before.map(|(hash, _)| hash),
            before.map(|(_, name)| name),
            after.map(|(hash, _)| hash),
            after.map(|(_, name)| name)
        ])?;
    }
    Ok(())
}

/// Rows of [`JOBS`] on their way back.
struct Jobs<'c> {
    jobs: Read<'c, JobName>,
    systems: Read<'c, System>,
    folders: Read<'c, std::sync::Arc<str>>,
}

impl Jobs<'_> {
    fn row(&mut self, row: &Row<'_>) -> Result<JobRow, JobError> {
        let path = attr_path(row.get_ref(1)?.as_str().unwrap_or_default())?;
        let damaged = |what| JobError::Unreadable(format!("the {what} of {path} in a comparison"));
        let folder = row.get::<_, Option<i64>>(4)?.map(|folder| self.folders.get(folder)).transpose()?;
        let drv = |at: usize| match (row.get::<_, Option<Hash>>(at)?, &folder) {
            (None, _) => Ok(None),
            (Some(hash), Some(folder)) => {
                let drv = codec::drv_path(folder, &hash, row.get_ref(at + 1)?.as_str().unwrap_or_default());
                drv.map(Some).ok_or_else(|| damaged("derivation"))
            }
            (Some(_), None) => Err(damaged("store's folder")),
        };
        Ok(JobRow {
            job: self.jobs.get(row.get(0)?)?,
            difference: DifferenceCode::of_code(row.get(2)?).ok_or_else(|| damaged("difference"))?,
            system: row.get::<_, Option<i64>>(3)?.map(|system| self.systems.get(system)).transpose()?,
            before: drv(5)?,
            after: drv(7)?,
            path,
        })
    }
}

fn verdict_code(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Good => 0,
        Verdict::Bad => 1,
        Verdict::NeedsAction => 2,
        Verdict::Neutral => 3,
    }
}
