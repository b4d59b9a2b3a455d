//! From the schema found in a file to the schema this program knows. Each migration and the version number
//! that records it are one transaction: whatever stops us, the file has the schema before or after it.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::Error;
use crate::open::Options;

/// One step of a schema. Steps are numbered from 1 without gaps, only ever added, never edited.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The schema version reached by this step.
    pub version: u32,
    /// Shown in errors and logs.
    pub name: &'static str,
    /// Statements separated by `;`, without BEGIN or COMMIT.
    pub sql: &'static str,
}

/// The schema version that a list of migrations leads to.
///
/// # Panics
/// When the list is not numbered 1, 2, 3, …
pub(crate) fn target(migrations: &[Migration]) -> u32 {
    let mut version = 0;
    for step in migrations {
        version += 1;
        assert_eq!(step.version, version, "migrations are numbered from 1 without gaps ({})", step.name);
    }
    version
}

/// Carries out what is missing.
pub(crate) fn run(conn: &mut Connection, options: &Options, migrations: &[Migration]) -> Result<(), Error> {
    claim(conn, options)?;
    let found: u32 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| Error::Open { path: options.path.clone(), source })?;
    for step in migrations.iter().filter(|step| step.version > found) {
        let is_ours = apply(conn, step).map_err(|source| Error::Migrate {
            path: options.path.clone(),
            version: step.version,
            name: step.name,
            source,
        })?;
        if !is_ours {
            continue; // another process opened the file at the same time, and was first
        }
        tracing::info!(
            schema = step.version,
            "database {} now has schema {} ({})",
            options.path.display(),
            step.version,
            step.name
        );
    }
    Ok(())
}

/// Writes our id into a file that is still new.
fn claim(conn: &Connection, options: &Options) -> Result<(), Error> {
    let failed = |source| Error::Configure { path: options.path.clone(), setting: "application_id", source };
    let id = options.application_id.cast_signed();
    let found: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if found == id { Ok(()) } else { conn.pragma_update(None, "application_id", id).map_err(failed) }
}

/// Takes one step, unless it was taken by the time nobody else can write; true if it was taken here.
fn apply(conn: &mut Connection, step: &Migration) -> rusqlite::Result<bool> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found >= step.version {
        return Ok(false);
    }
    tx.execute_batch(step.sql)?;
    tx.pragma_update(None, "user_version", step.version)?;
    tx.commit()?;
    Ok(true)
}
