//! P5: what 60 small paths cost. Paths come in; our processor time from the request to the last receipt goes out,
//! beside that of `nix copy`, started for each path as a plain hook does, and once for all of them.

use crate::Run;
use crate::closure::Closure;
use crate::error::BenchError;
use crate::pushing::{Caches, NixCopy, Requests, Took, ours};
use crate::report::{Floor, Line, Unit, Verdict, shown};
use crate::stats::{Samples, ms};

const GOAL: &str = "P5";
const PATHS: usize = 60;
/// Rounds, each with all four.
const ROUNDS: usize = 5;
const PARAMETERS: &str = "compression=zstd";
/// Our share of one `nix copy` for each path, and of one for all.
const OF_EACH_MAX: f64 = 1.0 / 30.0;
const OF_BATCH_MAX: f64 = 1.0 / 2.0;

/// Measures P5.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let closure = run.closure()?;
    let nix = NixCopy::find()?;
    let mut lines = Vec::new();
    for (requests, rounds, share) in
        [(Requests::Each, ROUNDS, OF_EACH_MAX), (Requests::Together, 2 * ROUNDS, OF_BATCH_MAX)]
    {
        lines.push(compare(run, closure, &nix, requests, rounds * run.times, share)?);
    }
    Ok(lines)
}

fn compare(
    run: &Run<'_>,
    closure: &Closure,
    nix: &NixCopy,
    requests: Requests,
    rounds: usize,
    share: f64,
) -> Result<Line, BenchError> {
    let paths = closure.small(PATHS);
    let (mut our_cpu, mut their_cpu) = (Samples::default(), Samples::default());
    let (mut our_wall, mut their_wall) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let Took { cpu, wall, .. } =
            ours(run, closure, &Caches::files(run, 1, PARAMETERS)?, paths, requests)?;
        our_cpu.push(cpu);
        our_wall.push(wall);
        let Took { cpu, wall, .. } =
            nix.push(closure, &Caches::files(run, 1, PARAMETERS)?, paths, requests)?;
        their_cpu.push(cpu);
        their_wall.push(wall);
    }
    let (figure, floor) = (our_cpu.median_ms(), their_cpu.median_ms());
    let (what, peer) = match requests {
        Requests::Each => ("60 small paths in 60 requests, processor time", "one nix copy per path"),
        Requests::Together => ("60 small paths in one request, processor time", "one nix copy for all"),
    };
    Ok(Line {
        goal: GOAL,
        what: what.into(),
        figure,
        unit: Unit::Ms,
        floor: Some(Floor { what: peer, value: floor }),
        bound: format!("<= 1/{:.0} = {}", 1.0 / share, shown(share * floor, Unit::Ms)),
        verdict: Verdict::of(figure <= share * floor),
        note: format!(
            "medians of {rounds}; 1/{:.1} of it; wall {} against {}; ours flushed to the disk, theirs not; best {} against {}",
            floor / figure,
            shown(our_wall.median_ms(), Unit::Ms),
            shown(their_wall.median_ms(), Unit::Ms),
            shown(ms(our_cpu.least()), Unit::Ms),
            shown(ms(their_cpu.least()), Unit::Ms),
        ),
    })
}
