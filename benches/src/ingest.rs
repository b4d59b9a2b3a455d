//! P10: how fast derivations are taken in. The `.drv` files of a real graph (or of a generated one, where there is none
//! on this machine) come in; derivations a second go out: read and parsed by all threads of this machine.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ci_model::drv::DrvRecord;
use ci_server::drvs::{Walked, walk};
use nix_types::DrvPath;
use test_kit::drv_graph::{self, DrvGraph, Shape};

use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::{Run, graph, store};

const GOAL: &str = "P10";
/// Derivations a second, at least.
const RATE_MIN: f64 = 20_000.0;
/// Of the graph that is made where no real one is there.
const GENERATED_DRVS: usize = 100_000;
/// Walks, of which the median counts.
const WALKS: usize = 3;

/// Measures P10.
pub(crate) fn run(run: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let (rows, of_what) = graph();
    let store = run.world.fresh("drvs")?;
    drv_graph::write_drv_files(&rows, &store).doing("write derivations")?;
    let roots = roots(&rows, &store)?;
    let parsed = parse(&roots, &store, rows.drvs.len(), of_what);
    let _ = std::fs::remove_dir_all(&store); // the world's folder goes at the end anyway
    let (line, drvs, took) = parsed?;
    let mut lines = vec![line];
    lines.extend(store::ingest(run, &drvs, took, of_what)?);
    lines.extend(graph::memory(&rows, of_what)?);
    Ok(lines)
}

/// The graph of nixpkgs where it is on this machine, and what to call it.
pub(crate) fn graph() -> (DrvGraph, &'static str) {
    match drv_graph::load("nixpkgs") {
        Some(graph) => (graph, "nixpkgs"),
        None => (drv_graph::generate(Shape::nixpkgs(GENERATED_DRVS), 1), "generated"),
    }
}

/// Those that nobody needs.
fn roots(graph: &DrvGraph, store: &Path) -> Result<Vec<DrvPath>, BenchError> {
    let mut needed = vec![false; graph.drvs.len()];
    for (input, _) in graph.drvs.iter().flat_map(|drv| &drv.inputs) {
        needed[*input] = true;
    }
    let folder = store.to_str().ok_or_else(|| BenchError::new("name the folder of derivations as text"))?;
    let roots = graph.drvs.iter().zip(needed).filter(|(_, needed)| !needed);
    roots.map(|(drv, _)| drv.path(folder).parse().doing("name a derivation")).collect()
}

fn parse(
    roots: &[DrvPath],
    store: &Path,
    drvs: usize,
    of_what: &str,
) -> Result<(Line, Vec<DrvRecord>, Duration), BenchError> {
    let mut took: Vec<Duration> = Vec::new();
    let mut walked = Walked::default();
    for _ in 0..WALKS {
        drop(std::mem::take(&mut walked)); // not in the time
        let begun = Instant::now();
        walked = walk(roots, &|_| false, &AtomicBool::new(false)).doing("read a closure")?;
        took.push(begun.elapsed());
    }
    if walked.drvs.len() != drvs {
        return Err(BenchError::new(format!("read {drvs} derivations: there came {}", walked.drvs.len())));
    }
    took.sort_unstable();
    let per_second = |took: Duration| drvs as f64 / took.as_secs_f64();
    let rate = per_second(took[WALKS / 2]);
    let edges: usize = walked.drvs.iter().map(|drv| drv.inputs.len()).sum();
    let line = Line {
        goal: GOAL,
        what: format!("{drvs} derivations ({of_what}) read and parsed"),
        figure: rate,
        unit: Unit::PerSecond,
        floor: Some(Floor { what: "the files read alone", value: per_second(read_alone(store)?) }),
        bound: format!("at least {RATE_MIN:.0} a second"),
        verdict: Verdict::of(rate >= RATE_MIN),
        note: format!("{edges} needs, {} MB of files", walked.bytes / 1_000_000),
    };
    Ok((line, walked.drvs, took[WALKS / 2]))
}

/// One thread that reads every file and looks at nothing.
fn read_alone(store: &Path) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    for entry in std::fs::read_dir(store).doing("list derivations")? {
        let file = entry.doing("list derivations")?.path();
        std::fs::read(file).doing("read a derivation")?;
    }
    Ok(begun.elapsed())
}
