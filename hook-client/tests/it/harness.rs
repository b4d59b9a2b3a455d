//! Starts a hook as Nix would and looks at what it leaves: exit code, lines, time, files in the spool.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hook_wire::{Enqueue, Kind, Source, split_frame};
use tempfile::TempDir;

pub(crate) const HELLO: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12";
pub(crate) const DEV: &str = "/nix/store/zyxwvsrqpnmlkjihgfdcba9876543210-hello-2.12-dev";
pub(crate) const DRV: &str = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-hello-2.12.drv";
/// What the hook promises in every fault case; `alone` holds it to that.
pub(crate) const PROMISE: Duration = Duration::from_millis(250);

/// The two programs of one core.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// `eka-hook`, on Linux without the standard library.
    Raw,
    /// The twin on the standard library.
    Portable,
}

impl Program {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Raw => env!("CARGO_BIN_EXE_eka-hook"),
            Self::Portable => env!("CARGO_BIN_EXE_eka-hook-portable"),
        }
    }
}

/// A folder of its own for a test, on a file system whose sync costs nothing where there is one.
pub(crate) fn scratch() -> TempDir {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { TempDir::new_in(shared).unwrap() } else { TempDir::new().unwrap() }
}

/// A program, without the environment and the settings of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "the test starts the very program it tests")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// One call of the hook, being put together.
pub(crate) struct Hook {
    pub(crate) dir: TempDir,
    program: Program,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    usual: bool,
    patient: bool,
}

/// What a call left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Hook {
    pub(crate) fn new(program: Program) -> Self {
        Self {
            dir: scratch(),
            program,
            args: Vec::new(),
            env: Vec::new(),
            stdin: Vec::new(),
            usual: true,
            patient: true,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<'a>(self, args: impl IntoIterator<Item = &'a str>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Without the flags that keep a test to itself: its own socket, spool and file of settings.
    pub(crate) fn bare(mut self) -> Self {
        self.usual = false;
        self
    }

    /// With the time for the socket that users have. Elsewhere a test's server may be held up by a loaded
    /// machine.
    pub(crate) fn hurried(mut self) -> Self {
        self.patient = false;
        self
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("enqueue.sock")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Writes a file of settings for this call.
    pub(crate) fn conf(self, text: &str) -> Self {
        std::fs::write(self.dir.path().join("hook.conf"), text).unwrap();
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = command(self.program.path());
        let conf = self.dir.path().join("hook.conf");
        if !conf.exists() {
            std::fs::write(&conf, "").unwrap();
        }
        command.env_clear().arg("--config-file").arg(conf);
        if self.usual {
            command.arg("--socket").arg(self.socket()).arg("--spool").arg(self.spool());
        }
        if self.usual && self.patient {
            command.args(["--timeout-ms", "20000"]);
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self) -> Outcome {
        let mut command = self.command();
        let start = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A hook that does not read its input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(&self.stdin);
        finished(child, start)
    }

    /// The requests in the spool, in order of their names; anything else there fails the test.
    pub(crate) fn spooled(&self) -> Vec<Said> {
        spooled(&self.spool())
    }
}

/// Waits for the end of a child and collects what it said.
pub(crate) fn finished(mut child: Child, start: Instant) -> Outcome {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    let took = start.elapsed();
    let code = status.code().unwrap_or_else(|| panic!("ended by {status}"));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code, stdout: text(stdout), stderr: text(stderr), took }
}

impl Outcome {
    /// The hook said nothing and let the build go on.
    pub(crate) fn is_silent(&self) {
        assert_eq!((self.code, &*self.stdout, &*self.stderr), (0, "", ""));
    }
}

/// A request, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) key: [u8; 16],
    pub(crate) source: Source,
    pub(crate) made_ms: u64,
    pub(crate) drv: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) destinations: Vec<String>,
}

impl Said {
    pub(crate) fn read(frame: &[u8]) -> Self {
        let (kind, payload) = split_frame(frame).unwrap();
        assert_eq!(kind, Kind::Enqueue);
        let read = Enqueue::parse(payload).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            key: read.key,
            source: read.source,
            made_ms: read.made_ms,
            drv: read.drv.map(text),
            tag: read.tag.map(str::to_owned),
            paths: read.paths().map(text).collect(),
            destinations: read.destinations().map(str::to_owned).collect(),
        }
    }
}

/// The requests in a spool folder, in order of their names.
pub(crate) fn spooled(folder: &Path) -> Vec<Said> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| {
            let name = file.file_name().unwrap().as_bytes();
            let said = Said::read(&std::fs::read(file).unwrap());
            assert_eq!(name.len(), 16 + 1 + 10 + 1 + 8 + 4, "{file:?}");
            assert!(name.ends_with(b".req") && name.starts_with(format!("{:016}-", said.made_ms).as_bytes()));
            said
        })
        .collect()
}
