//! Which machine the figures are of. The kernel's words come in, a header for the report goes out.

use std::fmt;
use std::fs;

use serde::Serialize;

use crate::error::BenchError;
use crate::error::Doing;
use crate::floor::{self, Disk};
use crate::report::{Unit, shown};
use crate::stats::Samples;
use crate::world::World;

/// Spawns behind the floor in the header.
const SPAWNS: usize = 101;
/// A disk that flushes faster is none.
const FLUSH_MS_MIN: f64 = 0.01;

/// The machine, as it was before the first figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    /// Processes that ran or wanted to run, over the last minute.
    load: f64,
    /// Median of appending 200 bytes and flushing them.
    flush_ms: f64,
    /// Median of starting and ending an empty program.
    spawn_ms: f64,
    optimised: bool,
}

impl Machine {
    /// Looks around.
    pub(crate) fn look(world: &World) -> Result<Self, BenchError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let empty = floor::empty(world)?;
        let mut spawns = Samples::default();
        for _ in 0..SPAWNS {
            spawns.push(empty.run().doing("start bench-empty")?.took);
        }
        Ok(Self {
            processor: model.map_or("unknown processor", |(_, model)| model).trim().into(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            flush_ms: Disk::new(&world.path(""))?.flushes()?.median_ms(),
            spawn_ms: spawns.median_ms(),
            optimised: !cfg!(debug_assertions),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} x {}, Linux {}; a flush {}, a spawn {}; load {:.2} before the run",
            self.processors,
            self.processor,
            self.kernel,
            shown(self.flush_ms, Unit::Ms),
            shown(self.spawn_ms, Unit::Ms),
            self.load
        )?;
        if self.load > 0.5 {
            writeln!(f, "WARNING: the machine is busy with something else; run this again when it is not")?;
        }
        if self.flush_ms < FLUSH_MS_MIN {
            writeln!(f, "WARNING: a flush costs nothing here; name a folder on a real disk with --dir")?;
        }
        if !self.optimised {
            writeln!(f, "WARNING: built without optimisation; use `make bench`")?;
        }
        Ok(())
    }
}
