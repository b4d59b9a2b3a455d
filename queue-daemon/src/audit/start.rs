//! What a start of the daemon has to tell: which configuration and keys are in force, and what is not as it was at the last
//! start.
//!
//! In flow the checked configuration and the database's file; out flow rows of the audit log, in the transaction in which the
//! daemon takes the database over. The configuration is told as a hash of its checked form, in which logins are stars and
//! credentials are places, not values.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rusqlite::Connection;
use serde_json::{Value, json};
use service_kit::clock::Time;
use sha2::{Digest, Sha256};

use super::{Act, Recorded, Who, list};
use crate::config::Config;
use crate::model::DestinationId;
use crate::push::keys;
use crate::store::RowError;
use crate::store::audit::{append, mark, set_mark};

/// Under which names the last start is remembered.
const CONFIGURATION: &str = "configuration";
const DESTINATIONS: &str = "destinations";
const FILE: &str = "file";
const KEYS: &str = "keys";

/// What is in force at a start.
pub(crate) struct InForce {
    who: Who,
    configuration: String,
    destinations: Vec<String>,
    keys: Vec<String>,
    /// The number of the database's file: a copy that was put back has another.
    file: Option<String>,
}

impl InForce {
    /// Reads keys and looks names up. Blocks.
    pub(crate) fn of(config: &Config, database: &Path) -> Self {
        Self {
            who: Who::daemon(),
            configuration: configuration(config),
            destinations: config.caches.iter().map(|cache| cache.id.to_string()).collect(),
            keys: keys::names(&config.queue.signing_key_files),
            file: std::fs::metadata(database).ok().map(|meta| meta.ino().to_string()),
        }
    }

    /// Writes down the start, and what is not as it was. `had_rows` says whether there were destinations before; `moved`
    /// which are at another place.
    pub(crate) fn record(
        &self,
        tx: &Connection,
        now: Time,
        had_rows: bool,
        moved: &[DestinationId],
    ) -> Result<Vec<Recorded>, RowError> {
        let mut rows = vec![(Act::Start, self.start(tx, had_rows)?)];
        if let Some(before) = self.changed(tx, CONFIGURATION, &self.configuration)? {
            rows.push((Act::Configure, json!({ "before": before, "now": self.configuration })));
        }
        let keys = Value::from(self.keys.clone()).to_string();
        if let Some(before) = self.changed(tx, KEYS, &keys)? {
            let before: Value = serde_json::from_str(&before).unwrap_or_default();
            rows.push((Act::Keys, json!({ "before": before, "now": self.keys })));
        }
        rows.extend(self.destinations(tx)?);
        let moved = moved.iter().map(|id| (Act::MoveDestination, json!({ "destination": id.as_str() })));
        rows.extend(moved);
        rows.into_iter().map(|(act, detail)| append(tx, self.who.did(act, now, &detail))).collect()
    }

    fn start(&self, tx: &Connection, had_rows: bool) -> Result<Value, RowError> {
        let before = mark(tx, FILE)?;
        let database = match (&before, &self.file) {
            (None, _) if had_rows => "from a version without an audit log",
            (None, _) => "new",
            (Some(before), Some(now)) if before != now => {
                "another file than at the last start: restored or moved"
            }
            (Some(_), _) => "the same file as at the last start",
        };
        if let Some(file) = &self.file {
            set_mark(tx, FILE, file)?;
        }
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "database": database,
            "configuration": self.configuration,
            "destinations": list(self.destinations.iter().map(String::as_str)),
            "keys": self.keys,
        }))
    }

    /// What stood under this name before, if it is another value now.
    fn changed(&self, tx: &Connection, name: &str, value: &str) -> Result<Option<String>, RowError> {
        let before = mark(tx, name)?;
        let changed = set_mark(tx, name, value)?;
        Ok(before.filter(|_| changed))
    }

    fn destinations(&self, tx: &Connection) -> Result<Vec<(Act, Value)>, RowError> {
        let now = Value::from(self.destinations.clone()).to_string();
        let Some(before) = self.changed(tx, DESTINATIONS, &now)? else { return Ok(Vec::new()) };
        let before: Vec<String> = serde_json::from_str(&before).unwrap_or_default();
        let rows = |act, these: &[String], those: &[String]| -> Vec<(Act, Value)> {
            let only = these.iter().filter(|id| !those.contains(id));
            only.map(|id| (act, json!({ "destination": id }))).collect()
        };
        let mut changes = rows(Act::RemoveDestination, &before, &self.destinations);
        changes.extend(rows(Act::AddDestination, &self.destinations, &before));
        Ok(changes)
    }
}

/// A hash of all that was read of the file, as this version understands it.
fn configuration(config: &Config) -> String {
    let Config { file: _, queue, caches, allow_private_cache_hosts, warnings: _ } = config;
    let digest = Sha256::digest(format!("{queue:?}\n{caches:?}\n{allow_private_cache_hosts}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::tables;

    fn in_force(text: &str, file: u64) -> InForce {
        let config = Config::parse(Path::new("ekaci.toml"), text).unwrap();
        InForce { file: Some(file.to_string()), ..InForce::of(&config, Path::new("/")) }
    }

    fn acts(recorded: &[Recorded]) -> Vec<&str> {
        recorded.iter().map(|recorded| recorded.entry.act.as_str()).collect()
    }

    #[test]
    fn a_start_tells_what_is_not_as_it_was() {
        let conn = tables();
        let one = "[[caches]]\nid = \"one\"\ncache_type = \"nix-copy\"\ndestination = \"https://x/one\"\n";
        let two = one.replace("one", "two");
        let start = |text: &str, file, had_rows, moved: &[DestinationId]| {
            in_force(text, file).record(&conn, Time::from_ms(5), had_rows, moved).unwrap()
        };
        let first = start(one, 7, false, &[]);
        assert_eq!(acts(&first), ["start"]);
        assert!(first[0].entry.detail.contains("\"database\":\"new\""), "{first:?}");
        let again = start(one, 7, true, &[]);
        assert_eq!(acts(&again), ["start"]);
        assert!(again[0].entry.detail.contains("the same file"), "{again:?}");
        let other = start(&two, 8, true, &[DestinationId::parse("two").unwrap()]);
        let expected = ["start", "configure", "remove-destination", "add-destination", "move-destination"];
        assert_eq!(acts(&other), expected);
        assert!(other[0].entry.detail.contains("restored or moved"), "{other:?}");
    }

    #[test]
    fn a_password_is_not_in_the_hash() {
        let hash = |login: &str| {
            let text = format!(
                "[[caches]]\nid = \"one\"\ncache_type = \"nix-copy\"\ndestination = \"https://{login}x/one\"\n"
            );
            configuration(&Config::parse(Path::new("ekaci.toml"), &text).unwrap())
        };
        assert_eq!(hash("u:first@"), hash("u:second@"));
    }
}
