//! P5: what 60 small paths cost. Paths come in; our processor time from the request to the last receipt goes out,
//! beside that of `nix copy`, started for each path as a plain hook does, and once for all of them; and ours once more
//! with a request for each path.

use crate::Run;
use crate::error::BenchError;
use crate::pushing::{Caches, NixCopy, Requests, Took, ours};
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::{Samples, ms};

const GOAL: &str = "P5";
const PATHS: usize = 60;
/// Rounds, each with all four.
const ROUNDS: usize = 5;
/// The cheap ones are done more often.
const BATCHES_PER_ROUND: usize = 2;
const PARAMETERS: &str = "compression=zstd";
/// Our share of one `nix copy` for each path, and of one for all.
const OF_EACH_MAX: f64 = 1.0 / 30.0;
const OF_BATCH_MAX: f64 = 1.0 / 2.0;

/// What the runs of one kind took.
#[derive(Default)]
struct Taken {
    cpu: Samples,
    wall: Samples,
}

impl Taken {
    fn push(&mut self, took: Took) {
        self.cpu.push(took.cpu);
        self.wall.push(took.wall);
    }

    fn cpu(&self) -> String {
        shown(self.cpu.median_ms(), Unit::Ms)
    }

    fn wall(&self) -> String {
        shown(self.wall.median_ms(), Unit::Ms)
    }
}

/// Measures P5.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let closure = run.closure()?;
    let nix = NixCopy::find()?;
    let paths = closure.small(PATHS);
    let (mut together, mut each) = (Taken::default(), Taken::default());
    let (mut nix_together, mut nix_each) = (Taken::default(), Taken::default());
    let caches = || Caches::files(run, 1, PARAMETERS);
    for _ in 0..ROUNDS * run.times {
        for _ in 0..BATCHES_PER_ROUND {
            together.push(ours(run, closure, &caches()?, paths, Requests::Together)?);
            nix_together.push(nix.push(closure, &caches()?, paths, Requests::Together)?);
        }
        each.push(ours(run, closure, &caches()?, paths, Requests::Each)?);
        nix_each.push(nix.push(closure, &caches()?, paths, Requests::Each)?);
    }
    let figure = together.cpu.median_ms();
    let line = |peer: &'static str, theirs: &Taken, share: f64, note: String| {
        let floor = theirs.cpu.median_ms();
        Line {
            goal: GOAL,
            what: "60 small paths to file://, zstd, signed: processor time".into(),
            figure,
            unit: Unit::Ms,
            floor: Some(Floor { what: peer, value: floor }),
            bound: format!("<= 1/{:.0} = {}", 1.0 / share, shown(share * floor, Unit::Ms)),
            verdict: Verdict::of(figure <= share * floor),
            note: format!("1/{:.1} of it; {note}", floor / figure),
        }
    };
    let as_hooks = format!(
        "in 60 requests, one after the other as hooks make them, ours is {}, 1/{:.1} of it; wall {} against {}",
        each.cpu(),
        nix_each.cpu.median_ms() / each.cpu.median_ms(),
        each.wall(),
        nix_each.wall(),
    );
    let as_batch = format!(
        "medians of {}; wall {} against {}; ours is flushed to the disk, theirs not; best {} against {}",
        together.cpu.len(),
        together.wall(),
        nix_together.wall(),
        shown(ms(together.cpu.least()), Unit::Ms),
        shown(ms(nix_together.cpu.least()), Unit::Ms),
    );
    Ok(vec![
        line("one nix copy for each", &nix_each, OF_EACH_MAX, as_hooks),
        line("one nix copy for all", &nix_together, OF_BATCH_MAX, as_batch),
    ])
}
