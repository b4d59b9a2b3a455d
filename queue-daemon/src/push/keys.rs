//! The keys that sign what is sent, and the local store.
//!
//! In flow files; out flow keys, all of them or none: what is to be signed and cannot be is not sent. They are read
//! anew for each batch, so a key that is replaced is used at once, and the audit log says which sign from now on.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix_types::SecretKey;
use serde_json::json;
use service_kit::clock::Clock;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane, Writer};

use super::Fault;
use crate::audit::{Act, Who};
use crate::delivery::FaultClass;
use crate::model::DestinationId;
use crate::queue::Queue;
use crate::store::RowError;
use crate::store::audit::{append, mark, set_mark};

/// Most bytes of a key's file.
const KEY_FILE_BYTES_MAX: u64 = 16 << 10;

/// Reads every key. Blocks.
///
/// # Errors
/// A fault that holds nothing against any path, with the file's name and never its content.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Vec<SecretKey>, Fault> {
    files.iter().map(|file| read(file)).collect()
}

/// The keys of one destination.
pub(super) struct Ring {
    owner: DestinationId,
    files: Vec<PathBuf>,
    db: Writer,
    clock: Clock,
    /// The public keys of the last batch, as they are marked in the database.
    known: Mutex<Option<String>>,
}

impl Ring {
    pub(super) fn new(owner: &DestinationId, files: Vec<PathBuf>, queue: &Queue) -> Self {
        let (db, clock) = (queue.db.clone(), queue.clock.clone());
        Self { owner: owner.clone(), files, db, clock, known: Mutex::default() }
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Reads every key. Keys that are others than at the last batch sign nothing before the audit log says so. Blocks.
    ///
    /// # Errors
    /// As [`read_all`], and when the audit log cannot be written.
    pub(super) fn read(&self) -> Result<Vec<SecretKey>, Fault> {
        let keys = read_all(&self.files)?;
        let names: Vec<String> = keys.iter().map(|key| key.public().to_string()).collect();
        let names = serde_json::Value::from(names);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let marked = names.to_string();
        if known.as_ref() != Some(&marked) {
            self.note(names).map_err(|error| {
                let why =
                    format!("nothing is signed by keys that the audit log does not know: {}", chain(&error));
                Fault::failed(FaultClass::Unreachable, why)
            })?;
            *known = Some(marked);
        }
        Ok(keys)
    }

    fn note(&self, names: serde_json::Value) -> Result<(), CallError<RowError>> {
        let (owner, now) = (self.owner.clone(), self.clock.now());
        let who = Who::daemon();
        let noted = self.db.call_blocking(DbLane::Normal, move |tx| {
            let name = format!("keys of {owner}");
            let before = mark(tx, &name)?;
            let before: Option<serde_json::Value> = before.and_then(|text| serde_json::from_str(&text).ok());
            let changed = set_mark(tx, &name, &names.to_string())?;
            if !changed || (before.is_none() && names.as_array().is_some_and(Vec::is_empty)) {
                return Ok(None);
            }
            let detail = json!({ "destination": owner.as_str(), "before": before, "now": names });
            append(tx, who.did(Act::Keys, now, &detail)).map(Some)
        })?;
        if let Some(noted) = noted {
            noted.say();
        }
        Ok(())
    }
}

/// The public keys, as those who trust them write them; where a file cannot be read now, its name. Blocks.
pub(crate) fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |file: &PathBuf| match read(file) {
        Ok(key) => key.public().to_string(),
        Err(_) => format!("unreadable: {}", file.display()), // whoever needs it says why
    };
    files.iter().map(name).collect()
}

fn read(file: &Path) -> Result<SecretKey, Fault> {
    use std::io::Read;

    let refuse = |why: String| {
        let why = format!("nothing is sent unsigned: the secret key {} {why}", file.display());
        Fault::failed(FaultClass::Unreachable, why)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| refuse(format!("cannot be opened: {error}")))?;
    opened
        .take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let key = SecretKey::parse(&text).map_err(|error| refuse(format!("is of no use: {error}")));
    zeroize::Zeroize::zeroize(&mut text);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_away_or_no_key_is_named_and_its_content_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let why = |result: Result<Vec<SecretKey>, Fault>| match result {
            Err(Fault::Failed { class: FaultClass::Unreachable, why, .. }) => why,
            other => panic!("not refused: {other:?}"),
        };
        assert!(why(read_all(std::slice::from_ref(&file))).contains("cannot be opened"));
        std::fs::write(&file, "name:c2VjcmV0IGJ1dCBubyBrZXk=").unwrap();
        let told = why(read_all(std::slice::from_ref(&file)));
        assert!(told.contains(&file.display().to_string()) && !told.contains("c2VjcmV0"), "{told}");
    }
}
