//! Nix' own commands for sending paths elsewhere, for destinations this program does not speak to itself. A
//! destination and store paths come in; command lines run, within limits and offline but for the destination, and yes
//! or a classified fault comes out. Closures, retries and splitting a failed batch are for the caller.

use std::collections::HashSet;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use nix_types::StorePath;

use crate::process::{self, Exit, Outcome, ProcessError, Progress, Spec, Stream};

mod classify;
pub(crate) mod scratch;
mod url;
pub(crate) mod words;

pub use classify::{CopyFault, FaultClass, LINE_MAX, classify};
pub use url::{Kind, StoreUrl, URL_MAX, UrlError};
pub use words::OUTPUT_BYTES_MAX;

use scratch::Scratch;
use words::Words;

/// Most bytes of paths on one command line; the kernel takes about 2 MiB with the environment.
pub const ARGV_BYTES_MAX: usize = 256 * 1024;
/// How long Nix and ssh may take to connect, in seconds.
pub const CONNECT_SECONDS: u32 = 15;
/// By how much Nix' own limit for a transfer that stands still is longer than [`NixCommands::silent`], in seconds.
const STALLED_SECONDS_MORE: u64 = 60;

/// How to run Nix' commands.
#[derive(Clone, Debug)]
pub struct NixCommands {
    /// The new command, `nix`; a name looked up in `PATH`, or a path.
    pub nix: OsString,
    /// The old one, `nix-store`.
    pub nix_store: OsString,
    /// Where each run gets an empty cache folder; made when missing.
    pub scratch: PathBuf,
    /// Longest a command may run.
    pub wall: Option<Duration>,
    /// Longest it may show no progress: say nothing new, read nothing and send nothing
    /// ([`Progress::OutputOrIo`]). Nix alone would not tell: it says nothing while it compresses, and while it uploads
    /// it repeats one and the same result, whether the upload moves or not.
    pub silent: Option<Duration>,
    /// What changes in our environment for it (credentials, `NIX_REMOTE`, …), before this module's own changes.
    pub env: Vec<(OsString, Option<OsString>)>,
}

/// Hears each line a command says, as it comes: plain, without colours, safe to print, without passwords of URLs.
pub type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// No cache folder.
    #[error("cannot make a folder for Nix' cache in {}; make it writable", below.display())]
    Scratch {
        /// Where.
        below: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The command could not be run.
    #[error("cannot run {what}")]
    Process {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// It failed.
    #[error("{what} failed ({exit}): {}", fault.line)]
    Fault {
        /// Which.
        what: &'static str,
        /// How it ended.
        exit: Exit,
        /// What it said.
        fault: CopyFault,
        /// The last lines it said, as [`CopyError::output`] gives them.
        output: String,
    },
    /// It was ended at a limit; a destination that swallows what it is sent looks like this.
    #[error("{what} was {exit}; its last words: {}", fault.line)]
    TimedOut {
        /// Which.
        what: &'static str,
        /// Which limit.
        exit: Exit,
        /// What it said.
        fault: CopyFault,
        /// The last lines it said, as [`CopyError::output`] gives them.
        output: String,
    },
    /// The caller's cancel came first.
    #[error("{what} was cancelled")]
    Cancelled {
        /// Which.
        what: &'static str,
    },
    /// It answered something that was not asked.
    #[error("{what} gave an answer that was not asked for: {shown}")]
    Answer {
        /// Which.
        what: &'static str,
        /// The answer, escaped.
        shown: String,
    },
}

impl CopyError {
    /// The last plain lines the command said, at most [`OUTPUT_BYTES_MAX`] bytes, each with its end; nothing when it
    /// was not run to its end.
    #[must_use]
    pub fn output(&self) -> &str {
        match self {
            Self::Fault { output, .. } | Self::TimedOut { output, .. } => output,
            Self::Scratch { .. } | Self::Process { .. } | Self::Cancelled { .. } | Self::Answer { .. } => "",
        }
    }
}

impl NixCommands {
    /// The commands of `PATH`, without limits in time.
    #[must_use]
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            nix: "nix".into(),
            nix_store: "nix-store".into(),
            scratch: scratch.into(),
            wall: None,
            silent: None,
            env: Vec::new(),
        }
    }

    /// The command lines that copy the closures of `paths` to a store, to be run in this order.
    #[must_use]
    pub fn copy_commands(&self, to: &StoreUrl, paths: &[StorePath]) -> Vec<Spec> {
        self.new_commands(&["copy", "--log-format", "internal-json", "--to", to.as_str()], paths)
    }

    /// The command lines that sign the closures of `paths` in the local store with the key in a file.
    #[must_use]
    pub fn sign_commands(&self, key_file: &Path, paths: &[StorePath]) -> Vec<Spec> {
        let mut commands = self.new_commands(&["store", "sign", "--recursive"], paths);
        for spec in &mut commands {
            let at = spec.args.iter().position(|arg| arg == "--").unwrap_or(spec.args.len());
            spec.args.splice(at..at, ["--key-file".into(), key_file.as_os_str().to_owned()]);
        }
        commands
    }

    /// The command lines that print which of `paths` are not in a store. (The old command: it has said the same thing
    /// in the same form since Nix 2.0, for any path and any store.)
    #[must_use]
    pub fn missing_commands(&self, at: &StoreUrl, paths: &[StorePath]) -> Vec<Spec> {
        let chunks = chunks(paths.iter().collect());
        let spec = |chunk: Vec<&StorePath>| {
            let mut spec = self.base(&self.nix_store).args(["--store", at.as_str()]).args(self.options());
            spec.stdout_tail = 2 * ARGV_BYTES_MAX;
            spec.args(["--check-validity", "--print-invalid"]).args(chunk.into_iter().map(StorePath::as_str))
        };
        chunks.into_iter().map(spec).collect()
    }

    /// Copies the closures of `paths` to a store. The local Nix must be able to read them; what the destination has
    /// already is not sent.
    ///
    /// # Errors
    /// [`CopyError`]; paths before the failed one may have arrived.
    pub async fn copy(
        &self,
        to: &StoreUrl,
        paths: &[StorePath],
        cancel: impl Future<Output = ()>,
        each: OnLine<'_>,
    ) -> Result<(), CopyError> {
        self.run_all("nix copy", self.copy_commands(to, paths), pin!(cancel), each).await.map(drop)
    }

    /// Signs the closures of `paths` in the local store.
    ///
    /// # Errors
    /// [`CopyError`]; signing again changes nothing.
    pub async fn sign(
        &self,
        key_file: &Path,
        paths: &[StorePath],
        cancel: impl Future<Output = ()>,
    ) -> Result<(), CopyError> {
        let commands = self.sign_commands(key_file, paths);
        self.run_all("nix store sign", commands, pin!(cancel), &mut |_, _| {}).await.map(drop)
    }

    /// Asks a store which of `paths` (not of their closures) it does not have, in the order of `paths`.
    ///
    /// # Errors
    /// [`CopyError`]
    pub async fn missing(
        &self,
        at: &StoreUrl,
        paths: &[StorePath],
        cancel: impl Future<Output = ()>,
    ) -> Result<Vec<StorePath>, CopyError> {
        const WHAT: &str = "nix-store --check-validity";
        let commands = self.missing_commands(at, paths);
        let outcomes = self.run_all(WHAT, commands, pin!(cancel), &mut |_, _| {}).await?;
        let asked: HashSet<&str> = paths.iter().map(StorePath::as_str).collect();
        let mut missing = HashSet::new();
        for outcome in outcomes {
            for line in outcome.stdout_tail.text().lines() {
                match asked.get(line) {
                    Some(path) if outcome.stdout_tail.dropped == 0 => missing.insert(*path),
                    Some(_) | None => {
                        let shown = line.chars().take(200).flat_map(char::escape_debug).collect();
                        return Err(CopyError::Answer { what: WHAT, shown });
                    }
                };
            }
        }
        Ok(paths.iter().filter(|path| missing.contains(path.as_str())).cloned().collect())
    }

    async fn run_all(
        &self,
        what: &'static str,
        commands: Vec<Spec>,
        mut cancel: Pin<&mut impl Future<Output = ()>>,
        each: OnLine<'_>,
    ) -> Result<Vec<Outcome>, CopyError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        for spec in commands {
            let scratch = Scratch::new(&self.scratch)
                .map_err(|source| CopyError::Scratch { below: self.scratch.clone(), source })?;
            let spec = spec.env("XDG_CACHE_HOME", scratch.path()).env("NIX_CACHE_HOME", scratch.path());
            let mut words = Words::default();
            let judge = &mut |stream, line: &str| match stream {
                Stream::Stderr => words.hear(line, &mut |plain| each(stream, plain)),
                Stream::Stdout => {
                    each(stream, line);
                    true
                }
            };
            let outcome = process::run_judging_lines(&spec, cancel.as_mut(), judge)
                .await
                .map_err(|source| CopyError::Process { what, source })?;
            let (fault, output) = (|| words.fault(), || words.output());
            match outcome.exit {
                Exit::Exited(0) => outcomes.push(outcome),
                Exit::Cancelled => return Err(CopyError::Cancelled { what }),
                exit @ Exit::TimedOut { .. } => {
                    return Err(CopyError::TimedOut { what, exit, fault: fault(), output: output() });
                }
                exit @ (Exit::Exited(_) | Exit::Signaled(_)) => {
                    return Err(CopyError::Fault { what, exit, fault: fault(), output: output() });
                }
            }
        }
        Ok(outcomes)
    }

    /// `nix COMMAND … -- PATHS`. Derivation files go into commands of their own: without `--derivation` an older Nix
    /// takes the path of one for its outputs.
    fn new_commands(&self, command: &[&str], paths: &[StorePath]) -> Vec<Spec> {
        let (drvs, others): (Vec<&StorePath>, Vec<&StorePath>) = paths.iter().partition(|path| path.is_drv());
        let mut commands = Vec::new();
        for (kind, group) in [(None, others), (Some("--derivation"), drvs)] {
            for chunk in chunks(group) {
                let spec = self.base(&self.nix).args(["--extra-experimental-features", "nix-command"]);
                let spec = spec.args(command).args(kind).args(self.options()).arg("--");
                commands.push(spec.args(chunk.into_iter().map(StorePath::as_str)));
            }
        }
        commands
    }

    /// Ask the destination itself, and nobody else; and let the limit of this module come before Nix' own for a
    /// transfer that stands still (300 seconds), which Nix would begin again and again.
    fn options(&self) -> Vec<String> {
        let mut options: Vec<String> = OFFLINE.map(str::to_owned).into();
        if let Some(silent) = self.silent {
            let seconds = silent.as_secs().saturating_add(STALLED_SECONDS_MORE).min(u64::from(u32::MAX));
            options.extend(["--option".into(), "stalled-download-timeout".into(), seconds.to_string()]);
        }
        options
    }

    fn base(&self, program: &OsString) -> Spec {
        let mut spec = Spec::new(program.clone()).limits(self.wall, self.silent);
        spec.progress = Progress::OutputOrIo;
        spec.env.changes.clone_from(&self.env);
        let ssh =
            self.env.iter().rev().find(|(name, _)| name == "NIX_SSHOPTS").map(|(_, value)| value.clone());
        let mut options = ssh.unwrap_or_else(|| std::env::var_os("NIX_SSHOPTS")).unwrap_or_default();
        // ssh takes the first value it is given for an option: what the operator set wins.
        options.push(format!(
            " -o BatchMode=yes -o ConnectTimeout={CONNECT_SECONDS} -o ServerAliveInterval={CONNECT_SECONDS}"
        ));
        spec.env("NIX_SSHOPTS", options)
    }
}

const OFFLINE: [&str; 12] = [
    "--option",
    "narinfo-cache-positive-ttl",
    "0",
    "--option",
    "narinfo-cache-negative-ttl",
    "0",
    "--option",
    "substitute",
    "false",
    "--option",
    "connect-timeout",
    "15",
];

/// Cuts paths into command lines of at most [`ARGV_BYTES_MAX`] bytes, and at least one path.
fn chunks(paths: Vec<&StorePath>) -> Vec<Vec<&StorePath>> {
    let mut all: Vec<Vec<&StorePath>> = Vec::new();
    let mut bytes = 0;
    for path in paths {
        bytes += path.as_str().len() + 1;
        match all.last_mut() {
            Some(chunk) if bytes <= ARGV_BYTES_MAX => chunk.push(path),
            Some(_) | None => {
                bytes = path.as_str().len() + 1;
                all.push(vec![path]);
            }
        }
    }
    all
}
