//! The only door to children. What to start and its bounds come in as a [`Spec`]; how it ended and the last of what it
//! said come out as an [`Outcome`]. A child gets its own process group and never outlives us: at a limit, at a cancel
//! and when the future is dropped the whole group is ended, and the kernel kills the child should this process be
//! killed. Programs are found without a shell. What a child *means* by its exit code is for the caller.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

mod family;
mod find;
mod output;
mod run;
mod spawner;
mod sys;
mod tail;
mod talk;
mod watch;

pub use find::program as locate;
pub use run::{run, run_followed, run_judging_lines, run_with_lines};
pub use talk::{Talk, talk};

/// How long a group may take to end after it was asked to, unless the [`Spec`] says otherwise.
pub const GRACE: Duration = Duration::from_secs(5);
/// How much of the end of stdout and of stderr is kept, unless the [`Spec`] says otherwise.
pub const TAIL_BYTES: usize = 64 * 1024;
/// Longest line given to a line callback, in bytes; a longer one arrives in pieces.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that must have moved between two looks at a child for [`Progress::OutputOrIo`]: more than an ssh that only
/// keeps its connection alive moves, less than any upload.
pub const MOVED_BYTES_MIN: u64 = 1024;
/// Longest time between two looks; with a short limit there are [`LOOKS`] within it.
pub const LOOK_EVERY_MAX: Duration = Duration::from_secs(10);
/// Least looks within [`Spec::silent`].
pub const LOOKS: u32 = 10;
/// How long what a child said is still read after it ended, for a descendant may hold its pipes open.
pub const DRAIN_MAX: Duration = Duration::from_secs(1);
/// How long a killed child may take to be gone before it is left to a thread that waits for it.
pub const REAP_MAX: Duration = Duration::from_secs(10);

/// What to start, and its bounds.
#[derive(Clone)]
pub struct Spec {
    /// A path with a slash, or a name looked up in the child's `PATH`.
    pub program: OsString,
    /// Its arguments, each passed as it is.
    pub args: Vec<OsString>,
    /// What changes in our own environment for it.
    pub env: Environment,
    /// Its working folder; ours when `None`.
    pub cwd: Option<PathBuf>,
    /// What it reads.
    pub stdin: Stdin,
    /// Longest it may run.
    pub wall: Option<Duration>,
    /// Longest it may show no progress.
    pub silent: Option<Duration>,
    /// What counts as progress.
    pub progress: Progress,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Who is killed with it.
    pub killed: Killed,
    /// How many bytes of the end of stdout are kept.
    pub stdout_tail: usize,
    /// How many bytes of the end of stderr are kept.
    pub stderr_tail: usize,
    /// How long it is not listened to after it said little, fewer than 8 KiB at once: one who says many small things wakes us,
    /// and waits for our being woken, less often. Lines, and what is progress, come by as much later, so it has to be far
    /// below [`Spec::silent`]. None at all unless it is set.
    pub gather: Duration,
}

/// Variables of this process that no child gets.
static WITHHELD: RwLock<BTreeSet<String>> = RwLock::new(BTreeSet::new());

/// From now on no child gets these variables of this process, unless its [`Spec`] sets them: secrets that are meant for
/// somebody else. Here and not in each [`Spec`], so that nobody who starts a child can forget it.
pub fn withhold(names: impl IntoIterator<Item = String>) {
    WITHHELD.write().unwrap_or_else(PoisonError::into_inner).extend(names);
}

fn withheld() -> RwLockReadGuard<'static, BTreeSet<String>> {
    WITHHELD.read().unwrap_or_else(PoisonError::into_inner)
}

/// What changes in our own environment for a child, in this order: clear, then each change.
#[derive(Clone, Default)]
pub struct Environment {
    /// Begin with nothing.
    pub clear: bool,
    /// Name and value; `None` removes.
    pub changes: Vec<(OsString, Option<OsString>)>,
}

/// What a child reads on stdin.
#[derive(Clone, Default)]
pub enum Stdin {
    /// Nothing.
    #[default]
    Null,
    /// These bytes, then the end. A child that does not want them is no error.
    Bytes(Vec<u8>),
}

/// What counts as progress for [`Spec::silent`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// What it says, on stdout and stderr.
    #[default]
    Output,
    /// That, and data that it or a descendant of it moves: from look to look, [`MOVED_BYTES_MIN`] more bytes read, or
    /// as much change in what waits in the send and receive queues of its TCP connections. Waiting is not progress,
    /// nor is computing without reading. What the kernel does not let us see does not count.
    OutputOrIo,
}

/// Who is killed with a child that we end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Killed {
    /// Its group. Who left that is not ours.
    #[default]
    Group,
    /// Its group, and every descendant of it, in whatever group or session: builders that a Nix without a daemon started.
    /// They get no SIGTERM of ours, and are killed when the child has not ended them by the time it ended, or was killed.
    Descendants,
}

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a child ended and the last of what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// The end of stdout.
    pub stdout_tail: Tail,
    /// The end of stderr.
    pub stderr_tail: Tail,
    /// From start to end.
    pub elapsed: Duration,
    /// What it took of the machine.
    pub usage: Usage,
}

/// What a child took, with those of its descendants that it waited for. All zero where it was not waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors, for itself and in the kernel.
    pub cpu: Duration,
    /// The most memory that one of them had, in bytes.
    pub memory_peak_bytes: u64,
}

/// The last bytes of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// At most as many as the [`Spec`] asked for.
    pub bytes: Vec<u8>,
    /// How many came before them and were let go.
    pub dropped: u64,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signaled(i32),
    /// We ended it at a limit.
    TimedOut {
        /// The limit.
        after: Duration,
        /// Which one.
        which: Limit,
    },
    /// We ended it because the caller asked.
    Cancelled,
}

/// A limit in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Spec::wall`].
    Wall,
    /// [`Spec::silent`].
    Silent,
}

/// Why a child was not started, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such program.
    #[error(
        "cannot find the program {program}: looked in {looked_in}; install it, or configure its full path"
    )]
    NotFound {
        /// As it was named.
        program: String,
        /// Where it was looked for.
        looked_in: String,
    },
    /// The working folder is not there.
    #[error("cannot start {program} in {}: no such folder; make it, or configure another", cwd.display())]
    NoFolder {
        /// The program.
        program: String,
        /// The folder.
        cwd: PathBuf,
    },
    /// The system refused to start it.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was started, but could not be followed; its group was killed.
    #[error("lost sight of {program} while it ran, and ended it")]
    Lost {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Spec {
    /// A child with our environment and folder, no input, no limits in time and default tails.
    #[must_use]
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Environment::default(),
            cwd: None,
            stdin: Stdin::Null,
            wall: None,
            silent: None,
            progress: Progress::Output,
            grace: GRACE,
            killed: Killed::Group,
            stdout_tail: TAIL_BYTES,
            stderr_tail: TAIL_BYTES,
            gather: Duration::ZERO,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.changes.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.changes.push((name.into(), None));
        self
    }

    /// Sets the limits in time.
    #[must_use]
    pub fn limits(mut self, wall: Option<Duration>, silent: Option<Duration>) -> Self {
        self.wall = wall;
        self.silent = silent;
        self
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// Leaves out the values of variables and the input: they may be secrets.
impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed: Vec<_> = self.env.changes.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spec")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env_cleared", &self.env.clear)
            .field("env_changed", &changed)
            .field("cwd", &self.cwd)
            .field("wall", &self.wall)
            .field("silent", &self.silent)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Outcome {
    /// Did it exit with code 0?
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit == Exit::Exited(0)
    }
}

impl Tail {
    /// The bytes as text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signaled(signal) => write!(f, "killed by signal {signal}"),
            Self::TimedOut { after, which: Limit::Wall } => {
                write!(f, "ended after {after:?}, its time limit")
            }
            Self::TimedOut { after, which: Limit::Silent } => {
                write!(f, "ended after {after:?} without progress")
            }
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
