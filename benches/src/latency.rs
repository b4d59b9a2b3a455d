//! P9: from the request to the first sign of its delivery. A daemon with an idle `command` destination comes in; the
//! time until that command has started and called us back goes out. The command is this very program, see [`stamp`].

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use crate::Run;
use crate::error::{BenchError, Doing};
use crate::floor::Disk;
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::Samples;
use crate::sys::Program;
use crate::wire::{acknowledged, enqueue_frame, send};
use crate::world::until;

const GOAL: &str = "P9";
/// Requests behind a median.
const REQUESTS: usize = 100;
const LATENCY_MS_MAX: f64 = 20.0;
const FLUSHES: f64 = 2.0;
/// The hidden first argument that makes this program a destination.
pub(crate) const STAMP: &str = "stamp";

/// What the destination does: it calls back as its first act.
pub(crate) fn stamp(socket: &Path) -> std::io::Result<()> {
    UnixStream::connect(socket).map(drop)
}

/// Measures P9.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let world = run.world;
    let callback = world.path("stamp.sock");
    let listener = UnixListener::bind(&callback).doing("listen for the destination")?;
    let (bench, callback) = (world.programs.bench.to_string_lossy(), callback.to_string_lossy());
    let site = world.site("latency", "", &[&bench, STAMP, &callback])?;
    let _daemon = site.start()?;
    let alone =
        Program::new(&world.programs.bench, &[STAMP, &callback], &[]).doing("prepare the destination")?;
    let mut disk = Disk::new(&world.path(""))?;
    let (mut ours, mut floor, mut flushes) = (Samples::default(), Samples::default(), Samples::default());
    let mut acks = Samples::default();
    for path in world.paths.iter().take(REQUESTS * run.times) {
        let frame = enqueue_frame(std::slice::from_ref(path))?;
        let started = Instant::now();
        let answer = send(&site.socket(), &frame)?;
        let acking = std::thread::spawn(move || acknowledged(answer).map(|_| started.elapsed()));
        listener.accept().doing("hear from the destination")?;
        ours.push(started.elapsed());
        acks.push(acking.join().map_err(|_| BenchError::new("wait for an answer"))??);
        until("deliver a path", || Ok(site.counts()?.live == 0))?;
        flushes.push(disk.flush()?);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| alone.run());
            let heard = listener.accept().doing("hear from the program alone");
            floor.push(started.elapsed());
            running
                .join()
                .map_err(|_| BenchError::new("run the program alone"))?
                .doing("run the program alone")?;
            heard.map(drop)
        })?;
    }
    let (latency, flush) = (ours.median_ms(), flushes.median_ms());
    let bound = LATENCY_MS_MAX + FLUSHES * flush;
    Ok(vec![Line {
        goal: GOAL,
        what: "request to start of an idle destination's command, p50".into(),
        figure: latency,
        unit: Unit::Ms,
        floor: Some(Floor { what: "the command alone", value: floor.median_ms() }),
        bound: format!("<= 20 ms + 2 flushes = {}", shown(bound, Unit::Ms)),
        verdict: Verdict::of(latency <= bound),
        note: format!(
            "{} requests, p95 {}, slowest {}; acknowledged after {}; a flush {}",
            ours.len(),
            shown(ours.percentile_ms(95), Unit::Ms),
            shown(ours.max_ms(), Unit::Ms),
            shown(acks.median_ms(), Unit::Ms),
            shown(flush, Unit::Ms),
        ),
    }])
}
