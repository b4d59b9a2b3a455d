//! The older server's file. It is opened for reading only, whatever it is; rows go out one by one. A column may hold
//! anything, whatever its declaration says.

use std::path::Path;

use sqlite_kit::rusqlite::types::ValueRef;
use sqlite_kit::rusqlite::{Connection, Row};

use super::ImportError;
use crate::store::StoreError;

/// What job sets have, set by set.
pub(super) const JOBS: &str = "SELECT j.jobset, j.name, j.difference, d.drv_path, d.system
    FROM Job j LEFT JOIN Drv d ON d.ROWID = j.drv_id ORDER BY j.jobset";

/// The older database.
pub(super) struct Source {
    conn: Connection,
    path: String,
}

/// A job of a commit.
pub(super) struct JobSet {
    pub(super) sha: String,
    pub(super) job: String,
    pub(super) owner: String,
    pub(super) repository: String,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self, ImportError> {
        let text = path.display().to_string();
        let conn = sqlite_kit::open_foreign_read_only(path)
            .map_err(|source| ImportError::Source { path: text.clone(), source: source.into() })?;
        let source = Self { conn, path: text };
        let is_one = source.conn.prepare("SELECT drv_path, system, build_state FROM Drv").is_ok();
        if is_one { Ok(source) } else { Err(ImportError::NotOurs(source.path)) }
    }

    fn failed(&self, source: sqlite_kit::rusqlite::Error) -> ImportError {
        ImportError::Source { path: self.path.clone(), source: source.into() }
    }

    /// Is there such a table?
    pub(super) fn has(&self, table: &str) -> bool {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
        self.conn.prepare(sql).and_then(|mut query| query.exists([table])).unwrap_or(false)
    }

    /// Every table with its rows.
    pub(super) fn tables(&self) -> Result<Vec<(String, u64)>, ImportError> {
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let read = || -> sqlite_kit::rusqlite::Result<Vec<(String, u64)>> {
            let mut query = self.conn.prepare(sql)?;
            let names = query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
            let count = |name: String| {
                let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
                let rows: i64 = self.conn.query_row(&sql, [], |row| row.get(0))?;
                Ok((name, rows.unsigned_abs()))
            };
            names.into_iter().map(count).collect()
        };
        read().map_err(|source| self.failed(source))
    }

    /// Job sets by their row; those that cannot be read with the reason.
    #[expect(clippy::type_complexity, reason = "an id, and what it stands for or why not")]
    pub(super) fn job_sets(&self) -> Result<Vec<(i64, Result<JobSet, String>)>, ImportError> {
        let mut sets = Vec::new();
        let sql = "SELECT ROWID, sha, job, owner, repo_name FROM GitHubJobSets";
        self.each(sql, |row| {
            let set = || {
                Some(JobSet {
                    sha: text(row, 1)?,
                    job: text(row, 2)?,
                    owner: text(row, 3)?,
                    repository: text(row, 4)?,
                })
            };
            let id = whole_number(row, 0).unwrap_or_default();
            sets.push((
                id,
                set().ok_or_else(|| "they do not name commit, job, owner and repository".to_owned()),
            ));
            Ok(())
        })?;
        Ok(sets)
    }

    /// Each row of a query.
    pub(super) fn each(
        &self,
        sql: &str,
        mut each: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), ImportError> {
        let mut query = self.conn.prepare(sql).map_err(|source| self.failed(source))?;
        let mut rows = query.query([]).map_err(|source| self.failed(source))?;
        while let Some(row) = rows.next().map_err(|source| self.failed(source))? {
            each(row)?;
        }
        Ok(())
    }
}

/// A column that holds text.
pub(super) fn text(row: &Row<'_>, at: usize) -> Option<String> {
    match row.get_ref(at) {
        Ok(ValueRef::Text(text)) => std::str::from_utf8(text).ok().map(ToOwned::to_owned),
        _ => None,
    }
}

/// A column that holds a whole number.
pub(super) fn whole_number(row: &Row<'_>, at: usize) -> Option<i64> {
    match row.get_ref(at) {
        Ok(ValueRef::Integer(number)) => Some(number),
        _ => None,
    }
}
