//! A Nix store that is nobody's but ours, below a folder. A folder and records of paths come in; commands that know no
//! other store go out. Filling the files of a store is not done here.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use test_kit::proc::Guard;

use crate::error::{BenchError, Doing};
use crate::sys::Program;

/// Nix' own settings for it: nothing is fetched, no other user builds, `nix copy` is there.
const SETTINGS: &str = "substituters =\nbuild-users-group =\nexperimental-features = nix-command\n";

/// A store.
#[derive(Debug, Clone)]
pub(crate) struct Nix(PathBuf);

impl Nix {
    /// The store below this folder, which is there or will be.
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Where the paths are.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("nix/store")
    }

    /// Where the database is.
    pub(crate) fn state(&self) -> PathBuf {
        self.0.join("nix/var")
    }

    /// Where Nix keeps what it remembers for its user.
    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    /// A program that knows no store but this.
    #[expect(clippy::disallowed_methods, reason = "a measurement starts what it measures")]
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_remove("NIX_REMOTE").envs(self.variables());
        command
    }

    /// The same, ready to be started and timed. Its environment is this store's and nothing else.
    pub(crate) fn program(&self, program: &Path, arguments: &[&str]) -> Result<Program, BenchError> {
        let variable = |(name, value): (&str, OsString)| format!("{name}={}", value.to_string_lossy());
        let mut variables: Vec<String> = self.variables().map(variable).into();
        variables.push(format!("HOME={}", self.home().display()));
        variables.push("PATH=/usr/local/bin:/usr/bin:/bin".into());
        Program::new(program, arguments, &variables).doing(format!("prepare {}", program.display()))
    }

    /// Tells Nix of paths, in the words of `nix-store --load-db`.
    pub(crate) fn register(&self, records: &str) -> Result<(), BenchError> {
        let what = "fill a private store with `nix-store --load-db` (Debian's package is nix-bin)";
        let mut command = self.command(Path::new("nix-store"));
        command.arg("--load-db").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nix = Guard::spawn(&mut command).doing(what)?;
        let input = nix.child().stdin.take();
        input.ok_or_else(|| BenchError::new(what))?.write_all(records.as_bytes()).doing(what)?;
        let status = nix.child().wait().doing(what)?;
        if status.success() { Ok(()) } else { Err(BenchError::new(format!("{what}: {status}"))) }
    }

    fn variables(&self) -> [(&'static str, OsString); 5] {
        [
            ("NIX_STORE_DIR", self.store().into()),
            ("NIX_STATE_DIR", self.state().into()),
            ("NIX_LOG_DIR", self.0.join("nix/log").into()),
            ("NIX_CONF_DIR", self.0.join("nix/etc").into()),
            ("NIX_CONFIG", SETTINGS.into()),
        ]
    }
}

/// Finds a program as a shell does.
pub(crate) fn find(name: &str) -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = path
        .as_bytes()
        .split(|byte| *byte == b':')
        .map(|folder| Path::new(std::ffi::OsStr::from_bytes(folder)).join(name));
    folders.find(|program| program.is_file()).ok_or_else(|| BenchError::new(format!("find {name} in PATH")))
}
