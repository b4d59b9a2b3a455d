//! What a figure needs around it: a private Nix store whose database knows many paths, the programs, and daemons with
//! fresh queues. Folders and settings come in; running daemons go out, each ended by its own number when dropped.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eka_queue::control::client::ask;
use eka_queue::control::protocol::{Reply, Request, Status};
use nix_store::StoreDirs;
use rustix::process::{Pid, Signal, kill_process};
use test_kit::proc::Guard;

use crate::error::{BenchError, Doing};

/// Paths that the store's database knows.
pub(crate) const PATHS: usize = 100_000;
/// The only destination.
pub(crate) const DESTINATION: &str = "bench";
/// How long a daemon may take to start or to settle.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const STEP: Duration = Duration::from_millis(2);

/// The programs that are measured, beside our own.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) hook: PathBuf,
    pub(crate) queue: PathBuf,
    pub(crate) empty: PathBuf,
    pub(crate) bench: PathBuf,
}

impl Programs {
    /// Those of the same build: they lie beside this program.
    pub(crate) fn find() -> Result<Self, BenchError> {
        let bench = std::env::current_exe().doing("find this program")?;
        let folder = bench.parent().unwrap_or(Path::new("/")).to_owned();
        let find = |name: &str| {
            let path = folder.join(name);
            let missing = || format!("find {}: run `make bench`, which builds all programs", path.display());
            if path.is_file() { Ok(path) } else { Err(BenchError::new(missing())) }
        };
        Ok(Self { hook: find("eka-hook")?, queue: find("eka-queue")?, empty: find("bench-empty")?, bench })
    }
}

/// A folder with a private store.
pub(crate) struct World {
    root: tempfile::TempDir,
    pub(crate) programs: Programs,
    /// Valid paths, all of the same length.
    pub(crate) paths: Vec<String>,
}

impl World {
    /// Makes the folder below `parent` and fills the store's database; the paths themselves are not there, and no
    /// figure looks at them.
    pub(crate) fn new(parent: &Path) -> Result<Self, BenchError> {
        let programs = Programs::find()?;
        let root = tempfile::Builder::new().prefix("eka-bench-").tempdir_in(parent);
        let root = root.doing(format!("make a folder in {}", parent.display()))?;
        let store = root.path().join("nix/store");
        let paths = (0..PATHS).map(|n| format!("{}/{n:032}-bench-{n:06}-1.0.tar.gz", store.display()));
        let world = Self { paths: paths.collect(), root, programs };
        world.register()?;
        Ok(world)
    }

    /// A path below the folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// The store, for a daemon in this process.
    pub(crate) fn dirs(&self) -> Result<StoreDirs, BenchError> {
        StoreDirs::new(self.path("nix/store"), self.path("nix/var")).doing("name the private store")
    }

    /// Tells Nix of all paths.
    fn register(&self) -> Result<(), BenchError> {
        let mut records = String::new();
        let hash = "0".repeat(64);
        for path in &self.paths {
            // Path, hash and size of the NAR, deriver, number of references.
            records.push_str(&format!("{path}\nsha256:{hash}\n120\n\n0\n"));
        }
        let what = "fill a private store with `nix-store --load-db` (Debian's package is nix-bin)";
        let mut command = self.command(Path::new("nix-store"));
        command.arg("--load-db").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut nix = Guard::spawn(&mut command).doing(what)?;
        let input = nix.child().stdin.take();
        input.ok_or_else(|| BenchError::new(what))?.write_all(records.as_bytes()).doing(what)?;
        let status = nix.child().wait().doing(what)?;
        if status.success() { Ok(()) } else { Err(BenchError::new(format!("{what}: {status}"))) }
    }

    /// A program that knows no store but the private one.
    #[expect(clippy::disallowed_methods, reason = "a measurement starts what it measures")]
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_remove("NIX_REMOTE").env("NIX_CONFIG", "substituters =\nbuild-users-group =\n");
        for (name, below) in [
            ("NIX_STORE_DIR", "nix/store"),
            ("NIX_STATE_DIR", "nix/var"),
            ("NIX_LOG_DIR", "nix/log"),
            ("NIX_CONF_DIR", "nix/etc"),
        ] {
            command.env(name, self.path(below));
        }
        command
    }

    /// Makes a folder of this name with the configuration of a daemon in it.
    pub(crate) fn site(
        &self,
        name: &str,
        queue_keys: &str,
        command: &[&str],
    ) -> Result<Site<'_>, BenchError> {
        let folder = self.path(name);
        let spool = folder.join("spool");
        fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        let at = folder.display();
        let config = format!(
            "[queue]\nstate_dir = \"{at}/state\"\nsocket = \"{at}/enqueue.sock\"\n\
             control_socket = \"{at}/control.sock\"\nspool_dir = \"{at}/spool\"\nquota_per_uid = 1000000000\n\
             {queue_keys}\n\n[[caches]]\nid = \"{DESTINATION}\"\ncache_type = \"command\"\ncommand = {command:?}\n",
        );
        fs::write(folder.join("ekaci.toml"), config).doing("write a configuration")?;
        let hook = format!("socket = {at}/enqueue.sock\nspool = {at}/spool\n");
        fs::write(folder.join("hook.conf"), hook).doing("write the hook's settings")?;
        Ok(Site { world: self, folder, spool })
    }
}

/// A folder for one queue: its state, its sockets, its spool.
pub(crate) struct Site<'w> {
    world: &'w World,
    folder: PathBuf,
    pub(crate) spool: PathBuf,
}

impl<'w> Site<'w> {
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("ekaci.toml")
    }

    pub(crate) fn hook_settings(&self) -> PathBuf {
        self.folder.join("hook.conf")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("enqueue.sock")
    }

    /// Asks the daemon of this folder.
    pub(crate) fn ask(&self, request: &Request) -> Result<Option<Status>, BenchError> {
        let mut status = None;
        let answer = ask(&self.folder.join("control.sock"), request, |reply| {
            if let Reply::Status(found) = reply {
                status = Some(*found);
            }
            Ok(())
        });
        answer.doing("ask the daemon over its control socket")?;
        Ok(status)
    }

    /// Starts nothing at the destination from now on.
    pub(crate) fn pause(&self) -> Result<(), BenchError> {
        self.ask(&Request::Pause { destination: None }).map(drop)
    }

    /// Deliveries, and files in the spool.
    pub(crate) fn counts(&self) -> Result<Counts, BenchError> {
        let status = self.ask(&Request::Status)?;
        let status = status.ok_or_else(|| BenchError::new("read the daemon's status"))?;
        let found = status.destinations.get(DESTINATION);
        let found = found.ok_or_else(|| BenchError::new("find the destination in the daemon's status"))?;
        let tally = &found.by_state;
        Ok(Counts { all: tally.0.values().sum(), live: tally.live(), spool_files: status.spool_files })
    }

    /// Starts the real daemon and waits until it answers.
    pub(crate) fn start(&self) -> Result<Daemon<'_, 'w>, BenchError> {
        let mut command = self.world.command(&self.world.programs.queue);
        let log = self.folder.join("daemon.log");
        let log_file = fs::File::options().create(true).append(true).open(&log).doing("make a log file")?;
        command.arg("serve").arg("--config-file").arg(self.config_file()).args(["--log", "warn"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        let process = Guard::spawn(&mut command).doing("start eka-queue")?;
        let mut daemon = Daemon { site: self, process };
        until("start eka-queue", || {
            if let Some(status) = daemon.process.child().try_wait().doing("look after eka-queue")? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(BenchError::new(format!(
                    "start eka-queue: {status}, signal {:?}, {said}",
                    status.signal()
                )));
            }
            Ok(self.ask(&Request::Status).is_ok())
        })?;
        Ok(daemon)
    }
}

/// What a queue holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    /// Deliveries of every state.
    pub(crate) all: u64,
    /// Those still owed.
    pub(crate) live: u64,
    /// What is not taken in yet.
    pub(crate) spool_files: u64,
}

/// A running `eka-queue`; killed when dropped.
pub(crate) struct Daemon<'s, 'w> {
    site: &'s Site<'w>,
    process: Guard,
}

impl Daemon<'_, '_> {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// As `kill -STOP`.
    pub(crate) fn freeze(&self) -> Result<(), BenchError> {
        self.signal(Signal::STOP)
    }

    /// As `kill -CONT`.
    pub(crate) fn thaw(&self) -> Result<(), BenchError> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<(), BenchError> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| BenchError::new("name the daemon's process"))?;
        kill_process(pid, signal).doing("signal the daemon")
    }
}

impl Drop for Daemon<'_, '_> {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it has ended already, or nothing more can be done
        // The next daemon begins without the roots of this one. They are moved and not removed: ext4 looks at every
        // file number that was freed in the last minutes before it gives out another.
        let roots = self.site.world.path("nix/var/gcroots/eka-queue");
        let _ = fs::rename(roots, self.site.world.path(&format!("roots-of-{}", self.pid()))); // it made none
    }
}

/// Looks until it is so.
pub(crate) fn until(
    what: &str,
    mut condition: impl FnMut() -> Result<bool, BenchError>,
) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() >= deadline {
            return Err(BenchError::new(format!("{what}: not done within {PATIENCE:?}")));
        }
        pause(STEP);
    }
    Ok(())
}

/// Leaves the machine alone for a moment.
#[expect(clippy::disallowed_methods, reason = "a measurement waits in real time")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
