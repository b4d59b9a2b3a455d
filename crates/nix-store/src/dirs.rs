//! Where the local Nix lives. Environment variables or explicit folders come in, checked folders go out. Knows names
//! of folders only; opens nothing.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where Nix keeps logs when nothing else is said.
const LOG: &str = "/nix/var/log/nix";

/// The folders of a Nix installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDirs {
    store: String,
    state: PathBuf,
    log: PathBuf,
    daemon_socket: PathBuf,
}

/// A folder that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} is `{value}`, not an absolute path of printable UTF-8; set it as Nix itself has it, or unset it"
)]
pub struct DirsError {
    variable: &'static str,
    value: String,
}

impl StoreDirs {
    /// What Nix itself would use: `NIX_STORE_DIR` (`/nix/store`), `NIX_STATE_DIR` (`/nix/var/nix`), `NIX_LOG_DIR`
    /// (`/nix/var/log/nix`) and `NIX_DAEMON_SOCKET_PATH` (`<state>/daemon-socket/socket`). An empty variable counts as
    /// unset.
    ///
    /// # Errors
    /// [`DirsError`] names the variable that is no absolute path.
    pub fn from_env() -> Result<Self, DirsError> {
        let var = |name: &str, default: &str| {
            env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| OsString::from(default))
        };
        let dirs = Self::new(var("NIX_STORE_DIR", "/nix/store"), var("NIX_STATE_DIR", "/nix/var/nix"))?
            .with_log(var("NIX_LOG_DIR", LOG))?;
        match env::var_os("NIX_DAEMON_SOCKET_PATH").filter(|value| !value.is_empty()) {
            Some(socket) => dirs.with_daemon_socket(socket),
            None => Ok(dirs),
        }
    }

    /// These folders, with the daemon's socket where Nix puts it and the logs in `/nix/var/log/nix`, which Nix looks
    /// for nowhere else either unless it is told to.
    ///
    /// # Errors
    /// [`DirsError`] when one is no absolute path of printable UTF-8.
    pub fn new(store: impl Into<OsString>, state: impl Into<OsString>) -> Result<Self, DirsError> {
        let store = absolute("NIX_STORE_DIR", store.into())?;
        let state = PathBuf::from(absolute("NIX_STATE_DIR", state.into())?);
        Ok(Self { store, daemon_socket: state.join("daemon-socket/socket"), state, log: LOG.into() })
    }

    /// The same with the build logs elsewhere.
    ///
    /// # Errors
    /// [`DirsError`] when it is no absolute path of printable UTF-8.
    pub fn with_log(mut self, log: impl Into<OsString>) -> Result<Self, DirsError> {
        self.log = absolute("NIX_LOG_DIR", log.into())?.into();
        Ok(self)
    }

    /// The same with the daemon's socket elsewhere.
    ///
    /// # Errors
    /// [`DirsError`] when it is no absolute path of printable UTF-8.
    pub fn with_daemon_socket(mut self, socket: impl Into<OsString>) -> Result<Self, DirsError> {
        self.daemon_socket = absolute("NIX_DAEMON_SOCKET_PATH", socket.into())?.into();
        Ok(self)
    }

    /// The store's folder, without a slash at the end: `/nix/store`.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Nix' state: `/nix/var/nix`.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The store's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.state.join("db/db.sqlite")
    }

    /// Where the garbage collector looks for roots.
    #[must_use]
    pub fn gcroots(&self) -> PathBuf {
        self.state.join("gcroots")
    }

    /// Nix' logs: `/nix/var/log/nix`.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Where the Nix daemon listens.
    #[must_use]
    pub fn daemon_socket(&self) -> &Path {
        &self.daemon_socket
    }
}

fn absolute(variable: &'static str, value: OsString) -> Result<String, DirsError> {
    let bad = |value: String| DirsError { variable, value: value.escape_debug().collect() };
    let text = value.into_string().map_err(|value| bad(value.to_string_lossy().into_owned()))?;
    let trimmed = text.trim_end_matches('/');
    if !trimmed.starts_with('/') || text.chars().any(char::is_control) {
        return Err(bad(text));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_follow_from_two() {
        let dirs = StoreDirs::new("/a/store/", "/a/var").unwrap();
        assert_eq!(dirs.store(), "/a/store");
        assert_eq!(dirs.database(), Path::new("/a/var/db/db.sqlite"));
        assert_eq!(dirs.gcroots(), Path::new("/a/var/gcroots"));
        assert_eq!(dirs.daemon_socket(), Path::new("/a/var/daemon-socket/socket"));
        assert_eq!(dirs.log(), Path::new("/nix/var/log/nix"));
        assert_eq!(dirs.clone().with_log("/l/").unwrap().log(), Path::new("/l"));
        assert_eq!(dirs.with_daemon_socket("/s").unwrap().daemon_socket(), Path::new("/s"));
    }

    #[test]
    fn a_relative_folder_is_refused_by_name() {
        let error = StoreDirs::new("store", "/a/var").unwrap_err();
        assert!(error.to_string().starts_with("NIX_STORE_DIR is `store`"), "{error}");
        assert!(StoreDirs::new("/a", "").is_err());
        assert!(StoreDirs::new("/a", "/b").unwrap().with_log("l").is_err());
        assert!(StoreDirs::new("/", "/a").is_err());
        assert!(StoreDirs::new("/a\n", "/a").is_err());
    }
}
