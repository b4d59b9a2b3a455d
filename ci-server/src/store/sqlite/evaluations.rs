//! What trees evaluate to. Chunks come in under a token; whole evaluations go out. Between the first chunk and the last
//! word of `close_evaluation` nobody sees any of it, so that half an evaluation is never taken for whole.

use ci_model::attr::{Attr, AttrError, ErrorKind};
use ci_model::flow::{Evaluation, EvaluationCost};
use sqlite_kit::rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use sqlite_kit::{Lane, Tx};

use super::schema::{DROPPED, OPEN, WHOLE};
use super::values::{self, Values};
use super::words::word_id;
use super::{JobError, SqliteStore, rows};
use crate::store::{CHUNK_MAX, EvaluationId, EvaluationKey, EvaluationToken, Refusal, StoreError};

/// The whole evaluation of a key.
pub(super) const FIND: &str = "SELECT id, touched_day, attrs, cost FROM evaluation WHERE tree = ?1 AND job = ?2 AND settings = ?3 AND state = 1";
/// Errors of an evaluation.
pub(super) const ERRORS: &str =
    "SELECT path, kind, message, trace FROM attr_error WHERE evaluation = ?1 ORDER BY path";

/// The path of the n-th attribute of an evaluation.
pub(super) const NTH_PATH: &str =
    "SELECT path FROM attr WHERE evaluation = ?1 ORDER BY path LIMIT 1 OFFSET ?2";
/// From so many attributes on, two threads read a half each.
const HALVED_FROM: i64 = 2000;

/// A whole evaluation, but for its attributes.
struct Found {
    id: EvaluationId,
    touched_day: i64,
    cost: EvaluationCost,
    errors: Vec<AttrError>,
    /// The first path of each part that a thread reads.
    halves: Vec<String>,
}

/// Which of two whole evaluations of one key is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfTwo {
    First,
    Last,
}

/// What a token's row says.
struct Open {
    state: i64,
    chunks: u32,
}

impl SqliteStore {
    pub(super) fn whole_evaluation(
        &self,
        key: &EvaluationKey,
    ) -> Result<Option<(EvaluationId, Evaluation)>, StoreError> {
        let doing = "read an evaluation";
        let Some(found) = self.read(doing, |conn| find(conn, key))? else { return Ok(None) };
        let Some(attrs) = self.attrs(&found)? else { return Ok(None) };
        let Found { id, touched_day, cost, errors, .. } = found;
        let (job, tree) = (key.job.clone(), key.tree.clone());
        let evaluation =
            Evaluation { job, tree, attrs, errors, cost: EvaluationCost { reused: true, ..cost } };
        let today = self.today();
        if touched_day < today {
            self.writer.post(Lane::Normal, "note the use of an evaluation", move |tx| {
                let sql = "UPDATE evaluation SET touched_day = ?2 WHERE id = ?1";
                tx.prepare_cached(sql)?.execute(params![id, today]).map(drop)
            });
        }
        Ok(Some((id, evaluation)))
    }

    /// The attributes of a whole evaluation, by path; none when it was taken away meanwhile. Each half is read on a view
    /// of its own: what is whole does not change, so two views that both have it have the same.
    fn attrs(&self, found: &Found) -> Result<Option<Vec<Attr>>, StoreError> {
        let read = |from: &str, to: Option<&str>| {
            self.read("read the attributes of an evaluation", |conn| attrs(conn, found.id, from, to))
        };
        let all = match &found.halves[..] {
            [first, second] => std::thread::scope(|scope| {
                let thread = scope.spawn(|| read(first, Some(second)));
                let back = read(second, None)?;
                let front = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                Ok(front.zip(back).map(|(mut front, mut back)| {
                    front.append(&mut back);
                    front
                }))
            }),
            _ => read("", None),
        };
        let Some(mut attrs) = all? else { return Ok(None) };
        // Rows are in order of their text, which is not that of components.
        attrs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Some(attrs))
    }

    pub(super) fn open_evaluation(&self, key: &EvaluationKey) -> Result<EvaluationToken, StoreError> {
        let doing = "begin an evaluation";
        self.show_that_we_work(doing)?;
        let job = self.word(key.job.as_str())?;
        let (tree, settings) = (key.tree.as_str().to_owned(), key.settings.0);
        let (session, today) = (self.session, self.today());
        self.write(doing, Lane::Normal, move |tx| {
            let sql = "INSERT INTO evaluation (tree, job, settings, state, session, touched_day)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            tx.prepare_cached(sql)?.execute(params![tree, job, settings, OPEN, session, today])?;
            Ok(EvaluationToken { evaluation: EvaluationId(tx.last_insert_rowid()), session })
        })
    }

    pub(super) fn add_chunk(
        &self,
        token: EvaluationToken,
        chunk: u32,
        attrs: &[Attr],
        errors: &[AttrError],
    ) -> Result<(), StoreError> {
        let doing = format!("store {} attributes of an evaluation", attrs.len() + errors.len());
        self.check_chunk(&doing, attrs.len() + errors.len())?;
        let ready: Result<Vec<_>, _> = attrs.iter().map(|attr| self.ready_value(&doing, attr)).collect();
        let (ready, errors, today) = (ready?, errors.to_vec(), self.today());
        let session = self.session;
        self.write(&doing, Lane::Bulk, move |tx| {
            let open = of_token(tx, token, session)?;
            if open.state != OPEN {
                return Err(Refusal::EvaluationClosed(token.evaluation).into());
            }
            if chunk > open.chunks {
                let (evaluation, wanted) = (token.evaluation, open.chunks);
                return Err(Refusal::ChunkGap { evaluation, wanted, got: chunk }.into());
            }
            if chunk < open.chunks {
                return Ok(()); // it came before; the answer did not arrive
            }
            write_chunk(tx, token.evaluation, &ready, &errors, today)
        })
    }

    pub(super) fn make_whole(
        &self,
        token: EvaluationToken,
        cost: &EvaluationCost,
        of_two: OfTwo,
    ) -> Result<EvaluationId, StoreError> {
        let doing = "close an evaluation";
        let cost = serde_json::to_string(cost).map_err(|source| self.unwritable(doing, source))?;
        let session = self.session;
        let id = self.write(doing, Lane::Normal, move |tx| {
            let open = of_token(tx, token, session)?;
            if open.state == WHOLE {
                return Ok(token.evaluation);
            }
            let other = other_whole(tx, token.evaluation)?;
            match (other, of_two) {
                (Some(other), OfTwo::First) => {
                    set_state(tx, token.evaluation, DROPPED)?;
                    return Ok(other);
                }
                _ if open.state != OPEN => {
                    return Err(Refusal::EvaluationClosed(token.evaluation).into());
                }
                (Some(other), OfTwo::Last) => lose_key(tx, other)?,
                (None, _) => {}
            }
            set_state(tx, token.evaluation, WHOLE)?;
            let sql = "UPDATE evaluation SET cost = ?2 WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![token.evaluation, cost])?;
            Ok(token.evaluation)
        })?;
        if id != token.evaluation {
            self.sweep_evaluation(token.evaluation)?;
        }
        Ok(id)
    }

    pub(super) fn give_up(&self, token: EvaluationToken) -> Result<(), StoreError> {
        let session = self.session;
        let dropped = self.write("drop an evaluation", Lane::Normal, move |tx| {
            match of_token(tx, token, session) {
                Ok(open) if open.state == WHOLE => return Ok(false),
                Ok(_) => set_state(tx, token.evaluation, DROPPED)?,
                Err(JobError::Refused(Refusal::UnknownEvaluation(_))) => return Ok(false),
                Err(error) => return Err(error),
            }
            Ok(true)
        })?;
        if dropped { self.sweep_evaluation(token.evaluation) } else { Ok(()) }
    }

    /// Takes away the rows of a dropped evaluation, a chunk at a time, the evaluation's own row last.
    pub(super) fn sweep_evaluation(&self, evaluation: EvaluationId) -> Result<(), StoreError> {
        while self.write("take away an evaluation", Lane::Bulk, move |tx| sweep(tx, evaluation))? {}
        Ok(())
    }
}

/// Gives whether there is more.
fn sweep(tx: &Tx<'_>, evaluation: EvaluationId) -> Result<bool, JobError> {
    let mut gone = 0;
    for sql in [
        "DELETE FROM attr WHERE evaluation = ?1 AND path IN
           (SELECT path FROM attr WHERE evaluation = ?1 ORDER BY path LIMIT ?2)",
        "DELETE FROM attr_error WHERE evaluation = ?1 AND path IN
           (SELECT path FROM attr_error WHERE evaluation = ?1 ORDER BY path LIMIT ?2)",
    ] {
        gone += tx.prepare_cached(sql)?.execute(params![evaluation, rows(CHUNK_MAX - gone)])?;
    }
    if gone == CHUNK_MAX {
        return Ok(true);
    }
    tx.prepare_cached("DELETE FROM evaluation WHERE id = ?1 AND state = 2")?.execute(params![evaluation])?;
    Ok(false)
}

fn find(conn: &Connection, key: &EvaluationKey) -> Result<Option<Found>, JobError> {
    let Some(job) = word_id(conn, key.job.as_str())? else { return Ok(None) };
    let mut query = conn.prepare_cached(FIND)?;
    let found = query.query_row(params![key.tree.as_str(), job, key.settings.0], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get::<_, Option<String>>(3)?))
    });
    let Some((id, touched_day, attrs, cost)) = found.optional()? else { return Ok(None) };
    let cost = cost.and_then(|cost| serde_json::from_str::<EvaluationCost>(&cost).ok());
    let cost = cost.ok_or_else(|| JobError::Unreadable(format!("the cost of evaluation {id}")))?;
    let mut halves = vec![String::new()];
    if attrs >= HALVED_FROM {
        let mut query = conn.prepare_cached(NTH_PATH)?;
        halves.extend(query.query_row(params![id, attrs / 2], |row| row.get(0)).optional()?);
    }
    Ok(Some(Found { id, touched_day, cost, errors: errors(conn, id)?, halves }))
}

/// The attributes from one path on and before the other; none when the evaluation is not whole any more.
fn attrs(
    conn: &Connection,
    id: EvaluationId,
    from: &str,
    to: Option<&str>,
) -> Result<Option<Vec<Attr>>, JobError> {
    if !conn.prepare_cached("SELECT 1 FROM evaluation WHERE id = ?1 AND state = 1")?.exists(params![id])? {
        return Ok(None);
    }
    let mut query = conn.prepare_cached(if to.is_some() { values::ATTRS } else { values::ATTRS_FROM })?;
    let mut rows = match to {
        Some(to) => query.query(params![id, from, to])?,
        None => query.query(params![id, from])?,
    };
    let (mut values, mut attrs) = (Values::new(conn), Vec::new());
    while let Some(row) = rows.next()? {
        attrs.push(values.attr(row)?);
    }
    Ok(Some(attrs))
}

fn errors(conn: &Connection, id: EvaluationId) -> Result<Vec<AttrError>, JobError> {
    let mut query = conn.prepare_cached(ERRORS)?;
    let mut rows = query.query(params![id])?;
    let mut errors = Vec::new();
    while let Some(row) = rows.next()? {
        let path = values::attr_path(&row.get::<_, String>(0)?)?;
        let name: String = row.get(1)?;
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.name() == name);
        let kind =
            kind.ok_or_else(|| JobError::Unreadable(format!("the error of {path} is of kind {name:?}")))?;
        errors.push(AttrError { path, kind, message: row.get(2)?, trace: row.get(3)? });
    }
    errors.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(errors)
}

fn of_token(tx: &Connection, token: EvaluationToken, session: i64) -> Result<Open, JobError> {
    let mut query = tx.prepare_cached("SELECT state, chunks, session FROM evaluation WHERE id = ?1")?;
    let found = query.query_row(params![token.evaluation], |row| {
        Ok((Open { state: row.get(0)?, chunks: row.get(1)? }, row.get::<_, i64>(2)?))
    });
    let Some((open, by)) = found.optional()? else {
        return Err(Refusal::UnknownEvaluation(token.evaluation).into());
    };
    if by != token.session || by != session {
        return Err(Refusal::LateToken(token.evaluation).into());
    }
    Ok(open)
}

fn write_chunk(
    tx: &Tx<'_>,
    evaluation: EvaluationId,
    attrs: &[values::Ready],
    errors: &[AttrError],
    today: i64,
) -> Result<(), JobError> {
    let mut insert = tx.prepare_cached("INSERT INTO attr (evaluation, path, value) VALUES (?1, ?2, ?3)")?;
    let mut erred = tx.prepare_cached("SELECT 1 FROM attr_error WHERE evaluation = ?1 AND path = ?2")?;
    for attr in attrs {
        let path = attr.path.to_string();
        let value = attr.row(tx, today)?;
        if erred.exists(params![evaluation, path])? {
            return Err(Refusal::AttrTwice(attr.path.clone()).into());
        }
        insert.execute(params![evaluation, path, value]).map_err(|error| twice(error, &attr.path))?;
    }
    let sql = "INSERT INTO attr_error (evaluation, path, kind, message, trace) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = tx.prepare_cached(sql)?;
    let mut there = tx.prepare_cached("SELECT 1 FROM attr WHERE evaluation = ?1 AND path = ?2")?;
    for error in errors {
        let path = error.path.to_string();
        if there.exists(params![evaluation, path])? {
            return Err(Refusal::AttrTwice(error.path.clone()).into());
        }
        let row = params![evaluation, path, error.kind.name(), error.message, error.trace];
        insert.execute(row).map_err(|why| twice(why, &error.path))?;
    }
    let sql = "UPDATE evaluation SET chunks = chunks + 1, attrs = attrs + ?3, touched_day = ?2 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![evaluation, today, rows(attrs.len())])?;
    Ok(())
}

fn twice(error: sqlite_kit::rusqlite::Error, path: &nix_types::AttrPath) -> JobError {
    if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) {
        return Refusal::AttrTwice(path.clone()).into();
    }
    error.into()
}

fn other_whole(tx: &Connection, mine: EvaluationId) -> Result<Option<EvaluationId>, JobError> {
    let sql = "SELECT other.id FROM evaluation mine JOIN evaluation other ON other.tree = mine.tree
               AND other.job = mine.job AND other.settings = mine.settings AND other.state = 1 WHERE mine.id = ?1";
    Ok(tx.prepare_cached(sql)?.query_row(params![mine], |row| row.get(0)).optional()?)
}

/// What is whole is not found by its key any more. Its settings become its own number: 8 bytes, and no [`SettingsHash`],
/// which has 32, is that; nor are they another row's.
///
/// [`SettingsHash`]: crate::store::SettingsHash
fn lose_key(tx: &Connection, evaluation: EvaluationId) -> Result<(), JobError> {
    tx.prepare_cached("UPDATE evaluation SET settings = ?2 WHERE id = ?1")?
        .execute(params![evaluation, evaluation.0.to_be_bytes()])?;
    Ok(())
}

fn set_state(tx: &Connection, evaluation: EvaluationId, state: i64) -> Result<(), JobError> {
    tx.prepare_cached("UPDATE evaluation SET state = ?2 WHERE id = ?1")?
        .execute(params![evaluation, state])?;
    Ok(())
}
