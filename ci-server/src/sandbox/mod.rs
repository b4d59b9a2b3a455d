//! A child that runs what outsiders wrote, and cannot do harm. In: a [`Spec`] of a child and what it needs, a
//! [`Confinement`]. Out: a [`Spec`] of the same child inside bubblewrap: namespaces of its own, the checkout and the programs
//! read-only, nothing else of the machine, no variables but those of [`VARIABLES`], bounds on what it takes, no network but
//! the door to our [`Proxy`](proxy::Proxy). Whether a child is confined at all is [`decide`]'s; what it says is its caller's.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use nix_store::process::{Spec, locate};
use tempfile::TempDir;

mod daemon;
mod decide;
mod detect;
mod error;
mod group;
mod inside;
mod keep;
mod plan;
mod prepare;
pub mod proxy;
mod variables;
mod view;

pub use daemon::{DaemonGate, Unconfined};
pub use decide::{Decision, Wish, decide};
pub use detect::{Missing, Settings};
pub use error::{SandboxError, Unfit};
pub use group::{Group, Groups, Share};
pub use inside::{FAILED as INSIDE_FAILED, WORD as INSIDE_WORD, take_over_if_meant};
pub use keep::{DaemonStore, Keeper, NoDaemon};
pub use prepare::{Prepared, Refusal, Run, prepare};
pub use variables::VARIABLES;

use inside::Orders;
use plan::Plan;

/// The user and group inside, and outside when we are root.
pub const NOBODY: u32 = 65534;
/// The machine's name inside.
pub const HOSTNAME: &str = "sandbox";
/// The home folder inside: empty at the start, gone at the end.
pub const HOME: &str = "/tmp/home";
/// Where the inner half of the sandbox lies inside.
const INSIDE: &str = "/run/eka/inside";
/// Where the door of the proxy lies inside.
const DOOR: &str = "/run/eka/door";
/// The port of the proxy on the loopback inside.
pub const PROXY_PORT: u16 = 3128;
/// What one kind of child needs. Everything else is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The checkout and further files and folders, read-only at the paths they have outside. Where one is a work tree of git,
    /// its `.git/config`, which may hold a login, is empty.
    pub reads: Vec<PathBuf>,
    /// Which store it may use.
    pub store: StoreAccess,
    /// What it may take.
    pub limits: Limits,
    /// The door of the [`Proxy`](proxy::Proxy) that is its only way out; `None` for no way at all.
    pub door: Option<PathBuf>,
    /// Entrances of the [`Group`] it is in; none for no group.
    pub groups: Vec<PathBuf>,
}

/// Which store a confined child has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAccess {
    /// None: derivations are computed and not written.
    None,
    /// The daemon's: it may add to it what the daemon takes from any user.
    Daemon {
        /// The folder of the daemon's socket.
        socket_folder: PathBuf,
        /// The store, to read.
        store: PathBuf,
    },
}

/// What a confined child may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Private memory of each of its processes, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads at once.
    pub processes: u64,
    /// Open files of each process.
    pub files: u64,
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// CPU time of each process, in seconds.
    pub cpu_seconds: u64,
    /// All files in its `/tmp` together, in bytes. They are memory.
    pub scratch_bytes: u64,
}

/// Address space beside [`Limits::memory_bytes`]: programs, libraries and files that are mapped.
pub const MAPPED_BYTES: u64 = 2 << 30;

impl Default for Limits {
    /// For one evaluator: 4 GiB of memory, 64 processes, 1,024 files of 1 GiB, an hour of CPU time, 1 GiB in `/tmp`.
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            processes: 64,
            files: 1024,
            file_bytes: 1 << 30,
            cpu_seconds: 3600,
            scratch_bytes: 1 << 30,
        }
    }
}

/// Our own program, as the one that does the sandbox's inner half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    program: PathBuf,
}

impl Helper {
    /// The program that runs now; it calls [`take_over_if_meant`] first thing in `main`.
    ///
    /// # Errors
    /// When the system does not say which file that is.
    pub fn ourselves() -> io::Result<Self> {
        std::env::current_exe().map(Self::program)
    }

    /// Another program that calls [`take_over_if_meant`] first thing in `main`.
    #[must_use]
    pub fn program(program: PathBuf) -> Self {
        Self { program }
    }
}

/// Bubblewrap as it was found and tried; see [`Sandbox::detect`].
#[derive(Debug)]
pub struct Sandbox {
    bubblewrap: PathBuf,
    helper: Helper,
    /// Are we root? Then the inner half becomes [`NOBODY`]; otherwise the namespace does.
    root: bool,
    /// Files that stand in for some of `/etc`.
    files: TempDir,
}

impl Sandbox {
    /// `spec` inside the sandbox. Limits in time, tails and input stay as they are; the program is looked up here.
    ///
    /// # Errors
    /// [`SandboxError`]; the child is then not to be started.
    pub fn confine(&self, spec: &Spec, confinement: &Confinement) -> Result<Spec, SandboxError> {
        let program = self.program(spec)?;
        let cwd = spec.cwd.as_deref().or(confinement.reads.first().map(PathBuf::as_path));
        let mut plan = self.namespaces();
        self.system(&mut plan, &program);
        plan.scratch(Path::new("/tmp"), confinement.limits.scratch_bytes);
        self.needs(&mut plan, confinement)?;
        plan.option("--chdir", &[cwd.unwrap_or(Path::new("/")).as_os_str()]);
        // Last: nothing can be made in the root and in /dev, which are memory without a bound.
        plan.option("--remount-ro", &["/dev".as_ref()]);
        plan.option("--remount-ro", &["/".as_ref()]);
        let mut command = vec![program.into_os_string()];
        command.extend(spec.args.iter().cloned());
        let orders = Orders {
            limits: confinement.limits.by_name(),
            become_user: self.root.then_some(NOBODY),
            proxy: confinement.door.is_some().then_some(PROXY_PORT),
            command,
        };
        let inner = std::iter::once(OsString::from(INSIDE)).chain(orders.words());
        let mut confined = spec.clone();
        confined.program = self.bubblewrap.clone().into_os_string();
        confined.args = plan.finish(inner);
        if !confinement.groups.is_empty() {
            let program = std::mem::replace(&mut confined.program, self.helper.program.clone().into());
            confined.args.insert(0, program);
            confined.args = inside::entering(&confinement.groups, confined.args);
        }
        confined.env = variables::environment(&spec.env, confinement)?;
        confined.cwd = None;
        Ok(confined)
    }

    /// The child's program as it is named inside.
    fn program(&self, spec: &Spec) -> Result<PathBuf, SandboxError> {
        let program = locate(&spec.program, &spec.env)?;
        if program == self.helper.program {
            return Ok(PathBuf::from(INSIDE)); // it is there as the inner half alone
        }
        view::as_seen(&program).ok_or(SandboxError::Hidden { program })
    }

    fn namespaces(&self) -> Plan {
        let mut plan = Plan::default();
        for flag in ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"] {
            plan.flag(flag);
        }
        plan.flag("--die-with-parent");
        plan.flag("--new-session");
        plan.option("--hostname", &[HOSTNAME.as_ref()]);
        if self.root {
            // Root makes the mounts as itself, so that it finds every source; the inner half gives the rest up.
            plan.option("--cap-drop", &["ALL".as_ref()]);
            for capability in ["CAP_SETUID", "CAP_SETGID"] {
                plan.option("--cap-add", &[capability.as_ref()]);
            }
        } else {
            plan.flag("--unshare-user");
            let nobody = NOBODY.to_string();
            plan.option("--uid", &[nobody.as_ref()]);
            plan.option("--gid", &[nobody.as_ref()]);
        }
        plan
    }
}

impl Limits {
    fn by_name(&self) -> Vec<(String, u64)> {
        let named = [
            ("address-space", self.memory_bytes.saturating_add(MAPPED_BYTES)),
            ("data", self.memory_bytes),
            ("processes", self.processes),
            ("files", self.files),
            ("file-size", self.file_bytes),
            ("cpu", self.cpu_seconds),
        ];
        named.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
