//! A Nix daemon of a test's own, with a store of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use ci_server::sandbox::{DaemonStore, Keeper, Limits, StoreAccess};
use nix_store::process::Spec;
use tempfile::TempDir;
use test_kit::proc::Guard;
use test_kit::wait;

use super::support::{Stage, open};

/// A daemon that runs.
pub(crate) struct Daemon {
    folder: TempDir,
    process: Guard,
}

impl Daemon {
    /// With these lines in its configuration. Needs root, as the daemon's own sandbox does; says so when we are not.
    pub(crate) fn start(config: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: a Nix daemon with a sandbox needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("eka-daemon-").tempdir().unwrap();
        open(folder.path(), 0o755);
        for sub in ["etc", "home"] {
            fs::create_dir(folder.path().join(sub)).unwrap();
        }
        let config = format!("substituters =\nbuild-users-group =\n{config}\n");
        fs::write(folder.path().join("etc/nix.conf"), config).unwrap();
        let log = fs::File::create(folder.path().join("daemon.log")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "tests start what they test")]
        let mut command = Command::new("nix-daemon");
        command.env_remove("NIX_CONFIG").env_remove("NIX_REMOTE");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.envs(variables(&folder));
        let process = Guard::spawn(&mut command).unwrap();
        let daemon = Self { folder, process };
        let socket = daemon.store().socket_folder.join("socket");
        wait::until(Duration::from_secs(20), || UnixStream::connect(&socket).is_ok());
        Some(daemon)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("var")
    }

    pub(crate) fn store(&self) -> DaemonStore {
        // The store is there once a client came.
        fs::create_dir_all(self.folder.path().join("store")).unwrap();
        DaemonStore {
            socket_folder: self.state_dir().join("daemon-socket"),
            store: self.folder.path().join("store"),
        }
    }

    pub(crate) fn access(&self) -> StoreAccess {
        let DaemonStore { socket_folder, store } = self.store();
        StoreAccess::Daemon { socket_folder, store }
    }

    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        variables(&self.folder)
    }

    /// A client of this daemon.
    pub(crate) fn client(&self, spec: Spec) -> Spec {
        self.variables().into_iter().fold(spec, |spec, (name, value)| spec.env(name, value))
    }

    pub(crate) fn keeper(&self, stage: &Stage) -> Keeper {
        Keeper {
            sandbox: stage.sandbox.clone(),
            limits: Limits::default(),
            daemon: Some(self.store()),
            proxy: None,
            group: None,
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it has ended already; then its store stands still
        let mut folders = vec![self.folder.path().join("store")];
        while let Some(folder) = folders.pop() {
            open(&folder, 0o755);
            let inside = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            folders
                .extend(inside.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()));
        }
    }
}

fn variables(folder: &TempDir) -> Vec<(OsString, OsString)> {
    let variables = test_kit::nix::variables(folder.path());
    variables.map(|(name, folder)| (name.into(), folder.into())).into()
}
