//! A place to try `ekaci` in: a temporary folder with a private Nix store, the built program on the `PATH`, and nothing
//! of the tester's own settings. In flow command lines; out flows what was said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use test_kit::nix;
use test_kit::proc::Guard;

use crate::program::Said;

/// How long a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("ekaci_").tempdir().unwrap();
        std::os::unix::fs::symlink(repository().join("examples"), root.path().join("examples")).unwrap();
        Self { root }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// A command in a folder of this place.
    #[expect(clippy::disallowed_methods, reason = "a test starts what it is about")]
    pub(crate) fn command(&self, program: &str, folder: &str) -> Command {
        let ours = Path::new(env!("CARGO_BIN_EXE_ekaci")).parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths([ours].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.path(folder))
            .env("PATH", path)
            .envs(nix::variables(&self.path("nix")))
            .env("HOME", self.path("home"))
            .env("NIX_CONFIG", nix::SETTINGS);
        for name in [
            "NIX_REMOTE",
            "NIX_PATH",
            "COLUMNS",
            "NO_COLOR",
            "XDG_CACHE_HOME",
            "XDG_STATE_HOME",
            "XDG_CONFIG_HOME",
        ] {
            command.env_remove(name);
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: Command) -> Said {
        let out = std::fs::File::create(self.path("said.out")).unwrap();
        self.run_into(command, out)
    }

    /// The same with another standard output; unless it is the file that is usual, it is not read.
    pub(crate) fn run_into(&self, mut command: Command, out: std::fs::File) -> Said {
        let err = std::fs::File::create(self.path("said.err")).unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let code = Guard::spawn(&mut command).unwrap().wait(PATIENCE).code().unwrap_or(-1);
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        Said { code, out: read("said.out"), err: read("said.err") }
    }

    /// Runs a script that must go well.
    pub(crate) fn script(&self, folder: &str, script: &str) -> Said {
        let mut shell = self.command("sh", folder);
        shell.args(["-euc", script]);
        let said = self.run(shell);
        assert_eq!(said.code, 0, "{said:?}");
        said
    }
}

impl Drop for Stage {
    /// Checkouts are read-only, and nobody but root removes what lies in a folder that cannot be written to.
    fn drop(&mut self) {
        let mut chmod = self.command("chmod", "");
        chmod.args(["-R", "u+w", "."]).stdin(Stdio::null()).stderr(Stdio::null());
        let _ = Guard::spawn(&mut chmod).and_then(|mut chmod| chmod.child().wait()); // else something is left in /tmp
    }
}

/// The root of this repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A page of this repository.
pub(crate) fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap()
}

/// The block of commands between the marks of this name.
pub(crate) fn marked(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("<!-- {name} -->\n```sh\n")).unwrap();
    let (block, _) = rest.split_once(&format!("```\n<!-- /{name} -->")).unwrap();
    block.to_owned()
}
