//! A repository's configuration: what it says is to be built. In: the bytes of `.ekaci/config.json`, written by whoever
//! may propose a change. Out: a [`RepositoryConfig`], checked once, or everything that is wrong with it, with line and
//! column; what of a pull request's counts ([`effective()`]); and what a change comes to by its paths alone. Reads no
//! file: who has the checkout hands the bytes in.
//!
//! [`keys`] is the table that everything here comes from.

mod check;
mod cron;
mod effect;
mod effective;
mod fault;
mod glob;
mod json;
pub mod keys;
pub mod locate;
mod model;
mod number;
mod plan;
mod rules;
mod schema;
mod string;
mod text;

pub use cron::{Cron, Minute};
pub use effect::is_skipped;
pub use effective::{Effective, Instead, Notice, effective};
pub use fault::{FINDINGS_MAX, Finding, Refused};
pub use glob::{PATH_BYTES_MAX, PathGlob};
pub use json::{BYTES_MAX, DEPTH_MAX};
pub use locate::{Files, Located, NotLocated, PATHS, locate, locate_or_default};
pub use model::{
    ChangeRule, Check, Conditions, Effect, Event, Flake, FlakeOutput, Hook, Job, PackageChangeSummary,
    RebuildImpact, RepositoryConfig, Schedule, SizeCheck,
};
pub use plan::{FLAKE_CHECKS, FLAKE_PACKAGES, JobSource, PlannedJob};
pub use schema::schema;
pub use text::{CacheId, CheckName, HookName, JobFile, NotThat, ScheduleName, Text};

use fault::{Fault, Faults, findings};

/// A configuration that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub config: RepositoryConfig,
    /// What a person should know about it, by place; at most [`FINDINGS_MAX`].
    pub warnings: Vec<Finding>,
}

/// Reads a configuration: RFC 8259 JSON, at most [`BYTES_MAX`] bytes and [`DEPTH_MAX`] levels. A byte order mark, and
/// lines that begin with `//` above everything else, are passed over with a warning.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Refused> {
    let reading = json::read(bytes);
    let (mut faults, mut warnings) = (reading.faults, reading.warnings);
    let Some(root) = reading.root else { return Err(refused(bytes, faults, warnings)) };
    faults.append(check::check(&root));
    if !faults.is_empty() {
        return Err(refused(bytes, faults, warnings));
    }
    let config: RepositoryConfig = match serde_json::from_value(root.value.clone().plain()) {
        Ok(config) => config,
        Err(error) => {
            // The table lets something pass that the types do not: our own mistake, and no reason to go on.
            let what = format!("this program contradicts itself: {error}");
            faults.push(Fault::new(root.at, what, "report it, with the file"));
            return Err(refused(bytes, faults, warnings));
        }
    };
    let judged = rules::judge(&config, &root);
    warnings.append(judged.warnings);
    if !judged.faults.is_empty() {
        return Err(refused(bytes, judged.faults, warnings));
    }
    Ok(Parsed { config, warnings: findings(bytes, warnings).0 })
}

fn refused(bytes: &[u8], faults: Faults, warnings: Faults) -> Refused {
    let (problems, more) = findings(bytes, faults);
    Refused { problems, more, warnings: findings(bytes, warnings).0 }
}

/// A finding of the caller's about a value, with the place where it stands in the file; at the last of the keys on the way
/// that is there.
#[must_use]
pub fn finding_at(bytes: &[u8], keys: &[&str], what: &str, remedy: &str) -> Finding {
    let path: Vec<check::Step<'_>> = keys.iter().map(|key| check::Step::Key(key)).collect();
    let at = json::read(bytes).root.map_or(0, |root| root.at_path(&path));
    let (line, column) = fault::place(bytes, at);
    let key = check::path_text(&path);
    Finding { line, column, key, what: what.to_owned(), remedy: remedy.to_owned() }
}
