//! Which evaluator this is, without starting it: evaluations are found again by it. In: which engine is wanted; out: the
//! programs behind it, by their files. Another release is another file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix_store::process::{ProcessError, Spec, locate, run};
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::world::{self, Seen};
use crate::evaluate::{Engine, Nix};

/// Longest that the making of a new store may take.
const MAKING_MAX: Duration = Duration::from_secs(30);

/// What evaluates, as text, with what it reads of this machine: what `NIX_PATH` or else the channels lead to, the settings, and
/// what is allowed of nixpkgs. Two that are the same text evaluate a tree alike, unless its code asks for the time, the
/// network or other files of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// All of it.
    pub text: String,
    /// What of it may be another each time, so that nothing can be found again by it.
    pub fleeting: Option<String>,
}

/// Finds out what evaluates. Code that is locked in sees nothing of this machine but the settings. It may take some seconds,
/// where folders have to be looked through.
///
/// # Errors
/// When there is no Nix on `PATH`.
pub fn identity(nix: &Nix, is_locked_in: bool) -> Result<Identity, ProcessError> {
    let walker = file_of("nix-instantiate")?;
    let tool = match nix.engine {
        Engine::Walk => None,
        Engine::Any | Engine::Tool => file_of("nix-eval-jobs").ok(),
    };
    let Seen { text, fleeting } = world::look(nix, is_locked_in);
    Ok(Identity { text: format!("{walker}\n{}\n{text}", tool.unwrap_or_default()), fleeting })
}

/// Has Nix make its store, where there is none yet: several that begin in one that is not there get in each other's way.
/// What goes wrong here is told by whoever evaluates.
pub(super) async fn make_store(nix: &Nix, stop: &Stop) {
    let set = |name: &str| nix.env.iter().find(|(key, _)| key.to_str() == Some(name)).map(|(_, value)| value);
    let state = set("NIX_STATE_DIR").map_or_else(|| "/nix/var/nix".into(), PathBuf::from);
    if set("NIX_REMOTE").is_some() || state.join("gcroots/profiles").exists() {
        return;
    }
    let mut spec = Spec::new("nix-store").arg("--init").limits(Some(MAKING_MAX), None);
    spec.env.changes.extend(nix.env.iter().map(|(name, value)| (name.clone(), Some(value.clone()))));
    if let Err(error) = run(&spec, stop.requested()).await {
        tracing::debug!("the store was not made beforehand: {}", chain(&error));
    }
}

fn file_of(program: &str) -> Result<String, ProcessError> {
    let found = locate(program.as_ref(), &Default::default())?;
    let real = fs::canonicalize(&found).unwrap_or(found);
    let seen = fs::metadata(&real).map(|file| (file.len(), file.mtime()));
    Ok(format!("{} {seen:?}", real.display()))
}
