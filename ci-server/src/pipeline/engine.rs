//! Which evaluator this is, without starting it: evaluations are found again by it. In: which engine is wanted; out: the
//! programs behind it, by their files. Another release is another file.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix_store::process::{ProcessError, Spec, locate, run};
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use crate::evaluate::{Engine, Nix};

/// Longest that the making of a new store may take.
const MAKING_MAX: Duration = Duration::from_secs(30);

/// What evaluates, as text, with what it reads of this machine: where `NIX_PATH` or else the channels lead, the
/// settings, and what is allowed of nixpkgs. Two that are the same text evaluate a tree alike, unless its code asks for the time, the network or other
/// files of the machine.
///
/// # Errors
/// When there is no Nix on `PATH`.
pub fn identity(nix: &Nix) -> Result<String, ProcessError> {
    let walker = file_of("nix-instantiate")?;
    let tool = match nix.engine {
        Engine::Walk => None,
        Engine::Any | Engine::Tool => file_of("nix-eval-jobs").ok(),
    };
    Ok(format!("{walker}\n{}\n{}", tool.unwrap_or_default(), world(nix)))
}

/// What lies outside of the repository and is read by many.
fn world(nix: &Nix) -> String {
    let of = |name: &str| nix.env.iter().find(|(key, _)| key.to_str() == Some(name)).map(|(_, value)| value);
    let folder = |name: &str| of(name).map(PathBuf::from);
    let (home, config) = (folder("HOME"), folder("XDG_CONFIG_HOME"));
    let config = config.or_else(|| Some(home.as_ref()?.join(".config")));
    let mut files: Vec<PathBuf> = Vec::new();
    match of("NIX_PATH").and_then(|path| path.to_str()) {
        Some(path) => files.extend(entries(path)),
        None => {
            files.extend(home.as_ref().map(|home| home.join(".nix-defexpr/channels")));
            let state = folder("NIX_STATE_DIR").unwrap_or_else(|| "/nix/var/nix".into());
            files.push(state.join("profiles/per-user/root/channels"));
        }
    }
    files.push(folder("NIX_CONF_DIR").unwrap_or_else(|| "/etc/nix".into()).join("nix.conf"));
    for name in ["nix/nix.conf", "nixpkgs/config.nix", "nixpkgs/overlays.nix", "nixpkgs/overlays"] {
        files.extend(config.as_ref().map(|config| config.join(name)));
    }
    let told = of("NIX_USER_CONF_FILES").map(|files| files.as_bytes());
    let told = told.into_iter().flat_map(|files| files.split(|byte| *byte == b':'));
    files.extend(told.filter(|file| !file.is_empty()).map(|file| OsStr::from_bytes(file).into()));
    files.extend(folder("NIXPKGS_CONFIG"));
    let of_nixpkgs = nix.env.iter().filter(|(name, _)| name.to_string_lossy().starts_with("NIXPKGS_"));
    let allowed = of_nixpkgs.map(|(name, value)| format!("{}={value:?}", name.display()));
    let seen = files.iter().map(|file| {
        let real = fs::canonicalize(file).ok();
        let looked = real.as_ref().and_then(|real| fs::metadata(real).ok());
        format!(
            "{} {real:?} {:?}",
            file.display(),
            looked.map(|file| (file.len(), file.mtime(), file.mtime_nsec()))
        )
    });
    allowed.chain(seen).collect::<Vec<_>>().join("\n")
}

/// The folders of a `NIX_PATH`: `name=folder` or `folder`, separated by colons.
fn entries(path: &str) -> impl Iterator<Item = PathBuf> + '_ {
    let folder = |entry: &str| entry.split_once('=').map_or(entry, |(_, folder)| folder).to_owned();
    path.split(':').map(folder).filter(|entry| entry.starts_with('/')).map(PathBuf::from)
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
