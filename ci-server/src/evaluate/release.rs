//! Which Nix evaluates. In: a request, whose `PATH` says where Nix is; out: what that Nix calls its release, asked once of
//! each file that is found there as long as this program runs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix_store::process::{Exit, Spec, locate, run};
use service_kit::shutdown::Stop;

use super::{EvaluateError, Request, command, message};

/// Longest that the question may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A program as it was found: another release is another file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    path: PathBuf,
    size: u64,
    changed: (i64, i64),
    number: (u64, u64),
}

impl File {
    fn look(path: PathBuf) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let file = fs::metadata(&path).ok()?;
        let changed = (file.ctime(), file.ctime_nsec());
        Some(Self { path, size: file.len(), changed, number: (file.dev(), file.ino()) })
    }
}

/// Releases of files that were asked. There are as many as programs that this one finds, so few.
static KNOWN: Mutex<Option<HashMap<File, String>>> = Mutex::new(None);

/// The first two numbers of a release; 0 for what is none. What is built before a release counts as it, for it has most of it.
pub(super) fn number(version: &str) -> (u64, u64) {
    let digits = |part: &str| part.bytes().take_while(u8::is_ascii_digit).count();
    let mut parts = version.split('.').map(|part| part[..digits(part)].parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// What the `nix-instantiate` of this request calls its release.
///
/// # Errors
/// When it is not there, or does not say.
pub(super) async fn of_nix(request: &Request, quit: &Stop) -> Result<String, EvaluateError> {
    let mut spec = Spec::new("nix-instantiate").arg("--version").limits(Some(ANSWER_MAX), None);
    command::bare_environment(&mut spec, request);
    let file = File::look(locate(&spec.program, &spec.env)?);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(version) = file.as_ref().and_then(|file| known().as_ref()?.get(file).cloned()) {
        return Ok(version);
    }
    let version = ask(&spec, quit).await?;
    if let Some(file) = file {
        known().get_or_insert_default().insert(file, version.clone());
    }
    Ok(version)
}

async fn ask(spec: &Spec, quit: &Stop) -> Result<String, EvaluateError> {
    let outcome = run(spec, quit.requested()).await?;
    let said = outcome.stdout_tail.text();
    match (outcome.exit, said.trim().rsplit(' ').next()) {
        (Exit::Exited(0), Some(version)) if !version.is_empty() => Ok(version.to_owned()),
        (exit, _) => {
            let said = outcome.stderr_tail.text();
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            let said = format!("nix-instantiate --version: {exit}: {}", message::clean(said));
            Err(EvaluateError::Machine { said })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn the_numbers_of_releases() {
        for (version, numbers) in [
            ("2.8.0", (2, 8)),
            ("2.20", (2, 20)),
            ("2.31pre20250712_ab12cd3", (2, 31)),
            ("2.93.0", (2, 93)),
            ("3", (3, 0)),
            ("x", (0, 0)),
            ("", (0, 0)),
        ] {
            assert_eq!(number(version), numbers, "{version}");
        }
    }
}
