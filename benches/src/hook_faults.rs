//! P2: what a build waits for when the daemon is not well, and whether its paths are found afterwards. Broken
//! daemons and disks come in; the longest call, the exit codes and the paths a healthy daemon then has go out.

use std::fs;
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use test_kit::tmpfs::Tmpfs;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::floor::Disk;
use crate::hook_call::variables;
use crate::report::{Line, Unit, Verdict, shown};
use crate::stats::Samples;
use crate::sys::Program;
use crate::world::{Site, until};

const GOAL: &str = "P2";
/// Calls per fault.
const CALLS: usize = 50;
/// What a call may take beside the flushes of the disk.
const CALL_MS_MAX: f64 = 250.0;
/// A spooled request is flushed, and so is its folder.
const FLUSHES_PER_FILE: f64 = 2.0;
/// Room of the disk that is filled.
const SMALL_DISK_BYTES: u64 = 64 << 10;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Absent,
    Stopped,
    BacklogFull,
    Hung,
    DiskFull,
    SpoolUnwritable,
}

impl Fault {
    const ALL: [Self; 6] =
        [Self::Absent, Self::Stopped, Self::BacklogFull, Self::Hung, Self::DiskFull, Self::SpoolUnwritable];

    fn name(self) -> &'static str {
        match self {
            Self::Absent => "daemon absent",
            Self::Stopped => "daemon stopped (SIGSTOP)",
            Self::BacklogFull => "daemon stopped, backlog full",
            Self::Hung => "daemon accepts, never answers",
            Self::DiskFull => "daemon absent, spool's disk full",
            Self::SpoolUnwritable => "daemon absent, spool unwritable",
        }
    }

    /// Nowhere is a place for the paths.
    fn loses(self) -> bool {
        match self {
            Self::Absent | Self::Stopped | Self::BacklogFull | Self::Hung => false,
            Self::DiskFull | Self::SpoolUnwritable => true,
        }
    }
}

/// What was seen.
struct Seen {
    took: Samples,
    flushes: Samples,
    /// Calls that did not exit with 0.
    failed: usize,
}

/// Measures P2.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let calls = CALLS * run.times;
    let line = |fault: Fault| {
        let line = measure(run, fault, calls);
        line.unwrap_or_else(|why| Line::not_measured(GOAL, fault.name(), crate::chain(&why)))
    };
    Ok(Fault::ALL.map(line).into())
}

fn measure(run: &Run<'_>, fault: Fault, calls: usize) -> Result<Line, BenchError> {
    let site = run.world.site(&format!("fault-{fault:?}"), "", &["/bin/true"])?;
    let call = |spool: &Path| call_often(run, &site, spool, calls);
    let (seen, found) = match fault {
        Fault::Absent => (call(&site.spool)?, found_later(&site, calls)?),
        Fault::Stopped => {
            let daemon = site.start()?;
            site.pause()?;
            daemon.freeze()?;
            let seen = call(&site.spool);
            daemon.thaw()?;
            (seen?, found_now(&site, calls)?)
        }
        Fault::BacklogFull => {
            let waiting = full_backlog(&site.socket())?;
            let seen = call(&site.spool)?;
            drop(waiting);
            (seen, found_later(&site, calls)?)
        }
        Fault::Hung => {
            let seen = with_deaf_server(&site.socket(), || call(&site.spool))?;
            (seen, found_later(&site, calls)?)
        }
        Fault::DiskFull => {
            let disk = Tmpfs::mount(SMALL_DISK_BYTES).map_err(BenchError::new)?;
            let spool = disk.path().join("spool");
            fs::create_dir(&spool).and_then(|()| disk.fill()).doing("fill a small disk")?;
            (call(&spool)?, fs::read_dir(&spool).doing("read the spool")?.count())
        }
        Fault::SpoolUnwritable => {
            // Not even root writes into a folder that is a file.
            fs::write(&site.spool, "").doing("put a file in the spool's place")?;
            (call(&site.spool)?, 0)
        }
    };
    Ok(line(fault, &seen, found, calls))
}

fn line(fault: Fault, seen: &Seen, found: usize, calls: usize) -> Line {
    let flushes = if fault.loses() { 0.0 } else { FLUSHES_PER_FILE * seen.flushes.max_ms() };
    let bound = CALL_MS_MAX + flushes;
    let slowest = seen.took.max_ms();
    let lost = calls - found;
    let lost_words = if fault.loses() { "lost, as neither daemon nor spool took them" } else { "lost" };
    let except = if fault.loses() { "" } else { " beside two flushes, 0 lost" };
    Line {
        goal: GOAL,
        what: format!("eka-hook, {}, slowest", fault.name()),
        figure: slowest,
        unit: Unit::Ms,
        floor: None,
        bound: format!("<= {}{except}, exit 0", shown(CALL_MS_MAX, Unit::Ms)),
        verdict: Verdict::of(slowest <= bound && seen.failed == 0 && (fault.loses() || lost == 0)),
        note: format!(
            "{calls} calls: median {}, {} did not exit 0, {found} paths found, {lost} {lost_words}; slowest flush \
             meanwhile {}",
            shown(seen.took.median_ms(), Unit::Ms),
            seen.failed,
            shown(seen.flushes.max_ms(), Unit::Ms),
        ),
    }
}

/// Calls without `--strict`, as Nix does, one path each.
fn call_often(run: &Run<'_>, site: &Site<'_>, spool: &Path, calls: usize) -> Result<Seen, BenchError> {
    let mut disk = Disk::new(&run.world.path(""))?;
    let mut seen = Seen { took: Samples::default(), flushes: Samples::default(), failed: 0 };
    let (settings, spool) = (site.hook_settings(), spool.to_string_lossy());
    let arguments = ["--config-file", &settings.to_string_lossy(), "--spool", &spool];
    for path in run.world.paths.iter().take(calls) {
        let hook = Program::new(&run.world.programs.hook, &arguments, &variables(path));
        let ended = hook.and_then(|hook| hook.run()).doing("start eka-hook")?;
        seen.took.push(ended.took);
        seen.flushes.push(disk.flush()?);
        seen.failed += usize::from(ended.code != Some(0));
    }
    Ok(seen)
}

/// Starts a healthy daemon where there was none, and counts.
fn found_later(site: &Site<'_>, calls: usize) -> Result<usize, BenchError> {
    let _daemon = site.start()?;
    site.pause()?;
    found_now(site, calls)
}

/// The paths the daemon knows once its spool is empty. Those that it took from the socket and the spool count once.
fn found_now(site: &Site<'_>, calls: usize) -> Result<usize, BenchError> {
    let mut found = 0;
    until("take the spool in", || {
        let counts = site.counts()?;
        found = usize::try_from(counts.all).unwrap_or(usize::MAX);
        Ok(counts.spool_files == 0
            && (found >= calls || fs::read_dir(&site.spool).doing("read the spool")?.count() == 0))
    })?;
    Ok(found.min(calls))
}

/// A listener nobody serves, and as many connections as its backlog holds.
fn full_backlog(socket: &Path) -> Result<(UnixListener, Vec<rustix::fd::OwnedFd>), BenchError> {
    let what = "fill the backlog of a socket";
    let listener = UnixListener::bind(socket).doing(what)?;
    rustix::net::listen(&listener, 0).doing(what)?;
    let address = SocketAddrUnix::new(socket).doing(what)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut waiting = Vec::new();
    loop {
        let client =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).doing(what)?;
        match rustix::net::connect(&client, &address) {
            Ok(()) => waiting.push(client),
            Err(rustix::io::Errno::AGAIN) => return Ok((listener, waiting)),
            Err(error) => return Err(error).doing(what),
        }
    }
}

/// Runs `work` while a server takes every connection, reads, and says nothing.
fn with_deaf_server<T>(socket: &Path, work: impl FnOnce() -> Result<T, BenchError>) -> Result<T, BenchError> {
    let listener = UnixListener::bind(socket).doing("listen without ever answering")?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut first = [0];
                // The last one sends nothing: it only ends this loop.
                if stream.read(&mut first).is_ok_and(|got| got == 0) {
                    return;
                }
                // The client hangs up when its time is over.
                let _ = std::io::copy(&mut stream, &mut std::io::sink()); // either end is fine
            }
        });
        let done = work();
        drop(UnixStream::connect(socket)); // ends the server; without one there is nothing to end
        done
    })
}
