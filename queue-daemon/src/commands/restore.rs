//! `eka-queue restore`: puts a backup in the place of the queue.
//!
//! In flow a file and a state folder that no daemon uses; out flow the restored database, the old one under another
//! name, and what to do next. The file is read through first, and nothing is touched before its copy is on the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use service_kit::clock::{Clock, Time};
use service_kit::telemetry::chain;
use sqlite_kit::{Durability, Options};

use super::{fail, out};
use crate::backup::{self, DATABASE, Stamp};
use crate::cli::{EXIT_BAD, EXIT_OK, EXIT_UNAVAILABLE};
use crate::config::Config;
use crate::store::schema::{APPLICATION_ID, MIGRATIONS};

/// The copy, until it takes its place.
const RESTORING: &str = "queue.db.restoring";
/// Mode of the database where there was none.
const MODE: u32 = 0o600;

struct Restored {
    schema: u32,
    stamp: Stamp,
    /// What the queue as it was is called now.
    kept: Option<PathBuf>,
}

pub(super) fn run(config: &Config, file: &Path, json: bool) -> ExitCode {
    match restore(&config.queue.state_dir, file) {
        Ok(restored) => {
            let _ = out(&told(&config.queue.state_dir, file, &restored, json)); // nobody reads it; it is done
            EXIT_OK.into()
        }
        Err((message, code)) => {
            if json {
                let _ = super::print::error_json(&message); // the exit code says the rest
            }
            fail(&message, code)
        }
    }
}

fn restore(state_dir: &Path, file: &Path) -> Result<Restored, (String, u8)> {
    let bad = |message: String| (message, EXIT_BAD);
    if !state_dir.is_dir() {
        return Err(bad(format!(
            "there is no state folder {}; start the daemon once, or make the folder for its user",
            state_dir.display()
        )));
    }
    if let Err(error) = File::open(file) {
        return Err(bad(format!("cannot read {}: {error}", file.display())));
    }
    let _lock = backup::lock(state_dir)
        .map_err(|error| (format!("a queue in use is not restored: {}", chain(&error)), EXIT_UNAVAILABLE))?;
    let source = Options {
        path: file.to_owned(),
        durability: Durability::Full,
        vfs: None,
        application_id: APPLICATION_ID,
    };
    let refused = |error: sqlite_kit::Error| {
        bad(format!("{} was not restored, and the queue is as it was: {}", file.display(), chain(&error)))
    };
    let (schema, stamp) = sqlite_kit::check(&source, MIGRATIONS, backup::stamp_of).map_err(refused)?;
    let fresh = state_dir.join(RESTORING);
    sqlite_kit::copy(&source, MIGRATIONS, &fresh, backup::unstamp).map_err(refused)?;
    let placed = put_in_place(state_dir, &fresh).map_err(|error| {
        let _ = fs::remove_file(&fresh); // it may have its place already
        bad(format!("the backup could not be put in its place in {}: {error}", state_dir.display()))
    })?;
    Ok(Restored { schema, stamp, kept: placed })
}

/// Keeps the queue as it was, with its log, and puts the new one there. At no moment is one database beside the log of
/// the other.
fn put_in_place(state_dir: &Path, fresh: &Path) -> io::Result<Option<PathBuf>> {
    let database = state_dir.join(DATABASE);
    let beside = |suffix: &str| state_dir.join(format!("{DATABASE}{suffix}"));
    let before = fs::metadata(&database).ok();
    let mode = before.as_ref().map_or(MODE, |meta| meta.permissions().mode() & 0o777);
    fs::set_permissions(fresh, fs::Permissions::from_mode(mode))?;
    backup::give_to_owner(fresh, state_dir)?;
    let kept = before.map(|_| {
        let now = backup::time_in_name(Clock::system().now());
        state_dir.join(format!("{DATABASE}.before-restore-{now}"))
    });
    if let Some(kept) = &kept {
        fs::hard_link(&database, kept)?;
        let mut log = kept.clone().into_os_string();
        log.push("-wal");
        unless_absent(fs::hard_link(beside("-wal"), &log))?;
        File::open(state_dir)?.sync_all()?;
    }
    unless_absent(fs::remove_file(beside("-wal")))?;
    unless_absent(fs::remove_file(beside("-shm")))?;
    fs::rename(fresh, &database)?;
    File::open(state_dir)?.sync_all()?;
    Ok(kept)
}

fn unless_absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn told(state_dir: &Path, file: &Path, restored: &Restored, json: bool) -> String {
    let Restored { schema, stamp: Stamp { taken, push_since, version }, kept } = restored;
    let database = state_dir.join(DATABASE);
    let text = |time: &Option<Time>| time.map(|time| time.to_string());
    if json {
        return json!({
            "file": file, "database": database, "kept": kept, "schema": schema, "version": version,
            "taken_at": text(taken), "push_since": text(push_since),
        })
        .to_string();
    }
    let taken = text(taken).unwrap_or_else(|| "an unknown time".to_owned());
    let version = version.as_deref().map_or_else(String::new, |version| format!(" by eka-queue {version}"));
    let mut lines = vec![format!(
        "{} is now {}: schema {schema}, taken at {taken}{version}",
        database.display(),
        file.display()
    )];
    if let Some(kept) = kept {
        lines.push(format!("the queue as it was is {}; delete it when all is well", kept.display()));
    }
    let since = text(push_since).unwrap_or_else(|| "TIME-OF-THE-COPY".to_owned());
    lines.push(
        "next: start the daemon, and queue what the backup does not know of (where a CI claims builds, its claims since then \
         are not known either: name with --to who may have all of it):"
            .to_owned(),
    );
    lines.push(format!("  eka-queue push --all-valid --ultimate --since {since}"));
    lines.join("\n")
}
