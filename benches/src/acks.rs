//! P3: how many requests a second are acknowledged as on disk. Daemons on slow and on real disks come in; rates
//! beside one flush per request and beside no flush at all, and the longest call under load go out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use eka_queue::config::Config;
use eka_queue::serve::{Running, Setup, start};
use nix_store::FakeStore;
use nix_types::StorePath;
use service_kit::clock::Clock;
use test_kit::vfs::Shim;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::floor::Disk;
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::{Samples, median};
use crate::wire::{enqueue, enqueue_frame};
use crate::world::{Site, World};

const GOAL: &str = "P3";
/// Clients that call at once.
const CLIENTS: usize = 16;
/// How long one rate is measured.
const SPAN: Duration = Duration::from_secs(2);
/// Rounds of the real disk, each once with flushes and once without.
const ROUNDS: usize = 3;
/// What every flush takes longer on the slow disk.
const SLOW_FLUSH: Duration = Duration::from_millis(4);
const GROUPING_MIN: f64 = 8.0;
const SHARE_MIN: f64 = 0.6;
/// The long run: so many clients, each with so many requests.
const LONG_CLIENTS: usize = 8;
const LONG_REQUESTS: usize = 10_000;
const CALL_MS_MAX: f64 = 250.0;
/// As `eka-queue serve` has them.
const WORKER_THREADS: usize = 2;

/// Measures P3.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let mut lines = Vec::new();
    for (what, measure) in [
        ("16 clients, a flush takes 4 ms longer", slow_disk as fn(&Run<'_>) -> Result<Line, BenchError>),
        ("16 clients, this disk", real_disk),
        ("8 clients x 10,000 requests", long_run),
    ] {
        let line = measure(run);
        lines.push(line.unwrap_or_else(|why| Line::not_measured(GOAL, what, crate::chain(&why))));
    }
    Ok(lines)
}

/// Acknowledgements.
#[derive(Debug, Default)]
struct Load {
    took: Samples,
    elapsed: Duration,
}

impl Load {
    fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Clients that each make one request after the other, a path and a connection each, until the time is over or no
/// path is left.
fn load(socket: &Path, paths: &[String], clients: usize, span: Option<Duration>) -> Result<Load, BenchError> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let client = || {
        let mut took = Samples::default();
        while span.is_none_or(|span| started.elapsed() < span) && !failed.load(Ordering::Relaxed) {
            let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let frame = enqueue_frame(std::slice::from_ref(path))?;
            let called = Instant::now();
            let accepted = enqueue(socket, &frame).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            took.push(called.elapsed());
            if accepted != 1 {
                failed.store(true, Ordering::Relaxed);
                return Err(BenchError::new(format!("queue one path: {accepted} were accepted")));
            }
        }
        Ok(took)
    };
    let mut load = Load::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        for thread in threads {
            let took = thread.join().map_err(|_| BenchError::new("run a client: it panicked"))??;
            load.took.extend(took);
        }
        Ok::<_, BenchError>(())
    })?;
    load.elapsed = started.elapsed();
    Ok(load)
}

/// A daemon in this process, whose database flushes as slowly as it is told to.
struct SlowDaemon {
    runtime: tokio::runtime::Runtime,
    running: Running,
}

impl SlowDaemon {
    fn start(world: &World, site: &Site<'_>, shim: Shim) -> Result<Self, BenchError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
        let runtime = runtime.doing("start a runtime")?;
        let setup = Setup {
            config: Config::load(&site.config_file()).map_err(|why| BenchError::new(why.to_string()))?,
            clock: Clock::system(),
            dirs: world.dirs()?,
            store: Some(Arc::new(fake_store(world)?)),
            engines: None,
            vfs: Some(shim.name().into()),
            inherited: Default::default(),
        };
        let running = runtime.block_on(start(setup)).doing("start a daemon in this process")?;
        Ok(Self { runtime, running })
    }

    fn stop(self) -> Result<(), BenchError> {
        self.running.stop().request();
        self.runtime.block_on(self.running.finish()).doing("end the daemon in this process")
    }
}

fn fake_store(world: &World) -> Result<FakeStore, BenchError> {
    let dirs = world.dirs()?;
    let store = FakeStore::new(dirs.store());
    for path in &world.paths {
        let path = StorePath::parse_str(path).doing("read a path of our own")?;
        store.add_simple(&path, &[]).doing("fill a store in memory")?;
    }
    Ok(store)
}

fn slow_disk(run: &Run<'_>) -> Result<Line, BenchError> {
    let shim = Shim::install("eka-bench-slow");
    let site = run.world.site("acks-slow", "", &["/bin/true"])?;
    let daemon = SlowDaemon::start(run.world, &site, shim)?;
    site.pause()?;
    shim.slow_flush(SLOW_FLUSH);
    let span = SPAN * u32::try_from(run.times).unwrap_or(u32::MAX);
    let (first, rest) = run.world.paths.split_at(run.world.paths.len() / 10);
    let one = load(&site.socket(), first, 1, Some(span));
    let before = shim.flushes();
    let all = load(&site.socket(), rest, CLIENTS, Some(span));
    let flushes = shim.flushes() - before;
    shim.slow_flush(Duration::ZERO);
    daemon.stop()?;
    let (one, all) = (one?, all?);
    let floor = 1.0 / SLOW_FLUSH.as_secs_f64();
    let rate = all.per_second();
    Ok(Line {
        goal: GOAL,
        what: "durable acknowledgements, 16 clients, each flush 4 ms longer".into(),
        figure: rate,
        unit: Unit::PerSecond,
        floor: Some(Floor { what: "one 4 ms flush per request", value: floor }),
        bound: format!(">= {GROUPING_MIN} times = {}", shown(GROUPING_MIN * floor, Unit::PerSecond)),
        verdict: Verdict::of(rate >= GROUPING_MIN * floor),
        note: format!(
            "one client alone {} ({:.1} times that); {:.1} requests per flush; call median {}, slowest {}",
            shown(one.per_second(), Unit::PerSecond),
            rate / one.per_second(),
            all.took.len() as f64 / flushes.max(1) as f64,
            shown(all.took.median_ms(), Unit::Ms),
            shown(all.took.max_ms(), Unit::Ms),
        ),
    })
}

fn real_disk(run: &Run<'_>) -> Result<Line, BenchError> {
    let (mut full, mut off) = (Vec::new(), Vec::new());
    let mut flush = Samples::default();
    for round in 0..ROUNDS * run.times {
        for (durability, rates) in [("full", &mut full), ("off", &mut off)] {
            let keys = format!("durability = \"{durability}\"");
            let site = run.world.site(&format!("acks-{durability}-{round}"), &keys, &["/bin/true"])?;
            let _daemon = site.start()?;
            site.pause()?;
            rates.push(load(&site.socket(), &run.world.paths, CLIENTS, Some(SPAN))?.per_second());
        }
        flush.extend(Disk::new(&run.world.path(""))?.flushes()?);
    }
    let (full, off) = (median(&full), median(&off));
    Ok(Line {
        goal: GOAL,
        what: "durable acknowledgements, 16 clients, this disk".into(),
        figure: full,
        unit: Unit::PerSecond,
        floor: Some(Floor { what: "the same without flushes", value: off }),
        bound: format!(">= {SHARE_MIN} of that = {}", shown(SHARE_MIN * off, Unit::PerSecond)),
        verdict: Verdict::of(full >= SHARE_MIN * off),
        note: format!(
            "medians of {} rounds of {SPAN:?} each; a flush {}, so one flush per request is {} at most",
            ROUNDS * run.times,
            shown(flush.median_ms(), Unit::Ms),
            shown(1000.0 / flush.median_ms(), Unit::PerSecond),
        ),
    })
}

fn long_run(run: &Run<'_>) -> Result<Line, BenchError> {
    let site = run.world.site("acks-long", "", &["/bin/true"])?;
    let _daemon = site.start()?;
    site.pause()?;
    let paths = run.world.paths.get(..LONG_CLIENTS * LONG_REQUESTS);
    let paths = paths.ok_or_else(|| BenchError::new("find enough paths in the private store"))?;
    let load = load(&site.socket(), paths, LONG_CLIENTS, None)?;
    let flushes = Disk::new(&run.world.path(""))?.flushes()?;
    let slowest = load.took.max_ms();
    Ok(Line {
        goal: GOAL,
        what: "8 clients x 10,000 requests, slowest call".into(),
        figure: slowest,
        unit: Unit::Ms,
        floor: Some(Floor { what: "slowest of 101 flushes", value: flushes.max_ms() }),
        bound: format!("<= {}", shown(CALL_MS_MAX, Unit::Ms)),
        verdict: Verdict::of(slowest <= CALL_MS_MAX),
        note: format!(
            "{} acknowledged, {}; median {}, p99 {}",
            load.took.len(),
            shown(load.per_second(), Unit::PerSecond),
            shown(load.took.median_ms(), Unit::Ms),
            shown(load.took.percentile_ms(99), Unit::Ms),
        ),
    })
}
