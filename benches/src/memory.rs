//! P4: the memory of the daemon. A fresh daemon and 100,000 requests that nobody delivers come in; what the kernel
//! counts as its resident memory goes out, before, after, and behind a restart.

use std::time::Duration;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::report::{Line, Unit, Verdict, shown};
use crate::sys::{Memory, memory_of};
use crate::wire::{enqueue, enqueue_frame, paths_per_frame};
use crate::world::{Daemon, pause, until};

const GOAL: &str = "P4";
const IDLE_MIB_MAX: f64 = 12.0;
const LOADED_MIB_MAX: f64 = 64.0;
/// A daemon that has started or settled has nothing left to do by then.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures P4.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let site = run.world.site("memory", "", &["/bin/true"])?;
    let daemon = site.start()?;
    site.pause()?;
    let idle = settled(&daemon)?;
    let paths = &run.world.paths;
    let per_frame = paths.first().map_or(1, |path| paths_per_frame(path.len()));
    let started = std::time::Instant::now();
    for paths in paths.chunks(per_frame) {
        enqueue(&site.socket(), &enqueue_frame(paths)?)?;
    }
    let took = started.elapsed();
    let counts = site.counts()?;
    if counts.live != paths.len() as u64 {
        return Err(BenchError::new(format!("queue {} deliveries: there are {}", paths.len(), counts.live)));
    }
    let loaded = settled(&daemon)?;
    drop(daemon);
    let daemon = site.start()?;
    until("see all deliveries again", || Ok(site.counts()?.live == counts.live))?;
    let again = settled(&daemon)?;
    let line = |what: &str, figure: u64, most: f64, note: String| {
        let figure = mib(figure);
        Line {
            goal: GOAL,
            what: what.into(),
            figure,
            unit: Unit::MiB,
            floor: None,
            bound: format!("<= {}", shown(most, Unit::MiB)),
            verdict: Verdict::of(figure <= most),
            note,
        }
    };
    let rate = paths.len() as f64 / took.as_secs_f64();
    let now = |memory: Memory| format!("{} at the end", shown(mib(memory.now_bytes), Unit::MiB));
    Ok(vec![
        line(
            "eka-queue idle",
            idle.now_bytes,
            IDLE_MIB_MAX,
            format!("at most {} since its start", shown(mib(idle.peak_bytes), Unit::MiB)),
        ),
        line(
            "eka-queue, 100,000 queued, peak",
            loaded.peak_bytes,
            LOADED_MIB_MAX,
            format!("{}; queued by {per_frame} a frame, {} paths", now(loaded), shown(rate, Unit::PerSecond)),
        ),
        line("the same after kill -9 and a restart, peak", again.peak_bytes, LOADED_MIB_MAX, now(again)),
    ])
}

fn settled(daemon: &Daemon<'_, '_>) -> Result<Memory, BenchError> {
    pause(SETTLE);
    memory_of(daemon.pid()).doing("ask for the daemon's memory")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
