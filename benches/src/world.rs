//! What a figure needs around it: a private Nix store whose database knows many paths, the programs, and daemons with
//! fresh queues. Folders and settings come in; running daemons go out, each ended by its own number when dropped.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eka_queue::control::client::ask;
use eka_queue::control::protocol::{End, Reply, Request, Selection, Status};
use eka_queue::delivery::StateName;
use nix_store::StoreDirs;
use rustix::process::{Pid, Signal, kill_process};
use test_kit::proc::Guard;

use crate::error::{BenchError, Doing};
use crate::nix::Nix;

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

    /// A folder beside the programs for what is made once and used by later runs.
    pub(crate) fn kept(&self) -> PathBuf {
        let target = self.bench.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        target.join("bench-closure")
    }
}

/// A folder with a private store.
pub(crate) struct World {
    root: tempfile::TempDir,
    nix: Nix,
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
        let nix = Nix::at(root.path());
        let store = nix.store();
        let paths = (0..PATHS).map(|n| format!("{}/{n:032}-bench-{n:06}-1.0.tar.gz", store.display()));
        let world = Self { paths: paths.collect(), root, nix, programs };
        world.register()?;
        Ok(world)
    }

    /// A path below the folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// A folder that was not there before. It stays until the whole run ends.
    pub(crate) fn fresh(&self, kind: &str) -> Result<PathBuf, BenchError> {
        let folder = tempfile::Builder::new().prefix(&format!("{kind}-")).tempdir_in(self.root.path());
        Ok(folder.doing(format!("make a folder for a {kind}"))?.keep())
    }

    /// The store, for a daemon in this process.
    pub(crate) fn dirs(&self) -> Result<StoreDirs, BenchError> {
        StoreDirs::new(self.nix.store(), self.nix.state()).doing("name the private store")
    }

    /// Tells Nix of all paths.
    fn register(&self) -> Result<(), BenchError> {
        let mut records = String::new();
        let hash = "0".repeat(64);
        for path in &self.paths {
            // Path, hash and size of the NAR, deriver, number of references.
            records.push_str(&format!("{path}\nsha256:{hash}\n120\n\n0\n"));
        }
        self.nix.register(&records)
    }

    /// A program that knows no store but the private one.
    pub(crate) fn command(&self, program: &Path) -> Command {
        self.nix.command(program)
    }

    /// Makes a folder of this name with the configuration of a daemon in it, whose only destination is a command.
    pub(crate) fn site(
        &self,
        name: &str,
        queue_keys: &str,
        command: &[&str],
    ) -> Result<Site<'_>, BenchError> {
        let cache =
            format!("[[caches]]\nid = \"{DESTINATION}\"\ncache_type = \"command\"\ncommand = {command:?}\n");
        self.site_of(&self.nix, name, queue_keys, &cache)
    }

    /// The same for another store and with these blocks of destinations.
    pub(crate) fn site_of<'w>(
        &'w self,
        nix: &'w Nix,
        name: &str,
        queue_keys: &str,
        caches: &str,
    ) -> Result<Site<'w>, BenchError> {
        let folder = self.path(name);
        let spool = folder.join("spool");
        fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        let at = folder.display();
        let config = format!(
            "[queue]\nstate_dir = \"{at}/state\"\nsocket = \"{at}/enqueue.sock\"\n\
             control_socket = \"{at}/control.sock\"\nspool_dir = \"{at}/spool\"\nquota_per_uid = 1000000000\n\
             {queue_keys}\n\n[security]\nallow_private_cache_hosts = true\n\n{caches}",
        );
        fs::write(folder.join("ekaci.toml"), config).doing("write a configuration")?;
        let hook = format!("socket = {at}/enqueue.sock\nspool = {at}/spool\n");
        fs::write(folder.join("hook.conf"), hook).doing("write the hook's settings")?;
        Ok(Site { world: self, nix, folder, spool })
    }
}

/// A folder for one queue: its state, its sockets, its spool.
pub(crate) struct Site<'w> {
    world: &'w World,
    nix: &'w Nix,
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
        self.ask_for(request, |reply| {
            if let Reply::Status(found) = reply {
                status = Some(*found);
            }
        })?;
        Ok(status)
    }

    fn ask_for(&self, request: &Request, mut each: impl FnMut(Reply)) -> Result<End, BenchError> {
        let answer = ask(&self.folder.join("control.sock"), request, |reply| {
            each(reply);
            Ok(())
        });
        answer.doing("ask the daemon over its control socket")
    }

    /// Waits until nothing is owed any more; gives how many deliveries are done, all of which must be.
    pub(crate) fn wait_for_all(&self) -> Result<u64, BenchError> {
        let patience = u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        let wait = Request::Wait { selection: Selection::default(), timeout_ms: Some(patience) };
        let tally = self.ask_for(&wait, drop)?.tally.unwrap_or_default();
        let (done, all) = (tally.of(StateName::Done), tally.total());
        if done == all {
            return Ok(done);
        }
        let log = fs::read_to_string(self.folder.join("daemon.log")).unwrap_or_default();
        Err(BenchError::new(format!("deliver {all} paths: {done} arrived within {PATIENCE:?}\n{log}")))
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
        self.start_with(&[])
    }

    /// The same with further variables.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Result<Daemon<'_, 'w>, BenchError> {
        let mut command = self.nix.command(&self.world.programs.queue);
        command.envs(variables.iter().copied());
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
        let roots = self.site.nix.state().join("gcroots/eka-queue");
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
