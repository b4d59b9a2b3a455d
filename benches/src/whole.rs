//! P6 and P7: a whole closure, 760 MB in 551 paths, of every size. Paths come in; clock and processor time to one
//! destination, beside one `nix copy`, and to three go out.

use crate::Run;
use crate::error::BenchError;
use crate::pushing::{Caches, NixCopy, Requests, ours};
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::Samples;

const PARAMETERS: &str = "compression=zstd";
/// Rounds, each with all of them.
const ROUNDS: usize = 3;
const WALL_MAX: f64 = 0.5;
const CPU_MAX: f64 = 0.9;
const DESTINATIONS: usize = 3;
const DESTINATIONS_CPU_MAX: f64 = 1.3;

/// What several pushes took.
#[derive(Default)]
struct Taken {
    cpu: Samples,
    wall: Samples,
    peak_bytes: u64,
}

impl Taken {
    fn push(&mut self, took: crate::pushing::Took) {
        self.cpu.push(took.cpu);
        self.wall.push(took.wall);
        self.peak_bytes = self.peak_bytes.max(took.peak_bytes);
    }

    fn peak(&self) -> String {
        shown(self.peak_bytes as f64 / f64::from(1 << 20), Unit::MiB)
    }
}

/// Measures P6.
pub(crate) fn one(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let closure = run.closure()?;
    let nix = NixCopy::find()?;
    let (mut us, mut them) = (Taken::default(), Taken::default());
    let rounds = ROUNDS * run.times;
    for _ in 0..rounds {
        let caches = Caches::files(run, 1, PARAMETERS)?;
        them.push(nix.push(closure, &caches, closure.paths(), Requests::Together)?);
        drop(caches);
        let caches = Caches::files(run, 1, PARAMETERS)?;
        us.push(ours(run, closure, &caches, closure.paths(), Requests::Together)?);
    }
    let line = |what: &str, ours: &Samples, theirs: &Samples, share: f64, note: String| {
        let (figure, floor) = (ours.median_ms(), theirs.median_ms());
        Line {
            goal: "P6",
            what: what.into(),
            figure,
            unit: Unit::Ms,
            floor: Some(Floor { what: "one nix copy", value: floor }),
            bound: format!("<= {share} of it = {}", shown(share * floor, Unit::Ms)),
            verdict: Verdict::of(figure <= share * floor),
            note,
        }
    };
    let size = closure.nar_bytes() / 1_000_000;
    let count = closure.paths().len();
    let wall_note =
        format!("medians of {rounds}; {count} paths, {size} MB; ours flushed to the disk, theirs not");
    Ok(vec![
        line("a whole closure, zstd: wall", &us.wall, &them.wall, WALL_MAX, wall_note),
        line(
            "the same: processor time",
            &us.cpu,
            &them.cpu,
            CPU_MAX,
            format!("the daemon held {} at most", us.peak()),
        ),
    ])
}

/// Measures P7.
pub(crate) fn three(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let closure = run.closure()?;
    let (mut one, mut three) = (Taken::default(), Taken::default());
    let rounds = ROUNDS * run.times;
    for _ in 0..rounds {
        for (count, taken) in [(1, &mut one), (DESTINATIONS, &mut three)] {
            let caches = Caches::files(run, count, PARAMETERS)?;
            taken.push(ours(run, closure, &caches, closure.paths(), Requests::Together)?);
        }
    }
    let (figure, floor) = (three.cpu.median_ms(), one.cpu.median_ms());
    Ok(vec![Line {
        goal: "P7",
        what: "a whole closure to 3 destinations, zstd: processor time".into(),
        figure,
        unit: Unit::Ms,
        floor: Some(Floor { what: "to one", value: floor }),
        bound: format!("<= {DESTINATIONS_CPU_MAX} times = {}", shown(DESTINATIONS_CPU_MAX * floor, Unit::Ms)),
        verdict: Verdict::of(figure <= DESTINATIONS_CPU_MAX * floor),
        note: format!(
            "medians of {rounds}; wall {} against {}; the daemon held {} at most",
            shown(three.wall.median_ms(), Unit::Ms),
            shown(one.wall.median_ms(), Unit::Ms),
            three.peak(),
        ),
    }])
}
