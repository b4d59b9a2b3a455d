//! P10 as far as the graph goes: the memory of a real graph (or of a generated one), and how fast it is there again. Rows of a
//! graph come in, lines go out. What reading files and a database take is measured elsewhere.

use std::time::{Duration, Instant};

use ci_model::graph::{Graph, NodeFacts, NodeId, NodeSet};
use nix_types::DrvPath;
use test_kit::drv_graph::{DrvGraph, DrvRow};

use crate::error::{BenchError, Doing};
use crate::report::{Floor, Line, Unit, Verdict};
use crate::stats::{Samples, ms};
use crate::sys::allocated_bytes;

/// Bytes of a node with its edges, at most.
const NODE_BYTES_MAX: f64 = 150.0;
/// Milliseconds for a million rows, at most.
const RELOAD_MS_MAX: f64 = 1500.0;
/// Measurements, of which the median counts.
const SAMPLES: usize = 3;

/// The graph's part of P10.
pub(crate) fn memory(rows: &DrvGraph, of_what: &str) -> Result<Vec<Line>, BenchError> {
    let mut reloads = Samples::default();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let graph = reloaded(rows)?;
        reloads.push(begun.elapsed());
        drop(graph);
    }
    let before = allocated_bytes().doing("ask the allocator")?;
    let graph = reloaded(rows)?;
    let bytes = allocated_bytes().doing("ask the allocator")?.saturating_sub(before);
    let (nodes, edges) = (graph.len(), graph.edges());
    let each = bytes as f64 / nodes as f64;
    let per_million = reloads.median_ms() * 1e6 / (nodes + edges) as f64;
    let (down, up) = walks(&graph);
    Ok(vec![
        Line {
            goal: "P10",
            what: format!("the graph of {nodes} derivations ({of_what}) and {edges} needs: memory of each"),
            figure: each,
            unit: Unit::Bytes,
            floor: Some(Floor {
                what: "the needs alone, 4 bytes each",
                value: 4.0 * edges as f64 / nodes as f64,
            }),
            bound: format!("<= {NODE_BYTES_MAX:.0} with its needs"),
            verdict: Verdict::of(each <= NODE_BYTES_MAX),
            note: format!("it says so itself: {:.1}", graph.memory_bytes() as f64 / nodes as f64),
        },
        Line {
            goal: "P10",
            what: "its share of a reload, for a million rows".into(),
            figure: per_million,
            unit: Unit::Ms,
            floor: None,
            bound: format!("<= {RELOAD_MS_MAX:.0} ms, reading them included"),
            verdict: Verdict::of(per_million <= RELOAD_MS_MAX),
            note: format!(
                "{nodes} derivations in {:.0} ms; a walk over all needs {:.1} ms, over all users {:.1} ms",
                reloads.median_ms(),
                ms(down),
                ms(up)
            ),
        },
    ])
}

/// Made as it is from a database: paths as text, needs as numbers.
pub(crate) fn reloaded(rows: &DrvGraph) -> Result<Graph, BenchError> {
    let mut graph = Graph::default();
    let mut ids: Vec<NodeId> = Vec::with_capacity(rows.drvs.len());
    let mut inputs = Vec::new();
    for row in &rows.drvs {
        inputs.clear();
        inputs.extend(row.inputs.iter().map(|(input, _)| ids[*input]));
        ids.push(graph.insert(&path(row, &row.hash)?, facts(row)?, &inputs));
    }
    Ok(graph)
}

fn path(row: &DrvRow, hash: &str) -> Result<DrvPath, BenchError> {
    format!("/nix/store/{hash}-{}.drv", row.name).parse().doing("name a derivation")
}

fn facts(row: &DrvRow) -> Result<NodeFacts, BenchError> {
    Ok(NodeFacts {
        system: row.system.parse().doing("name a system")?,
        is_fod: row.flags.fixed_output,
        is_content_addressed: row.flags.content_addressed,
        prefers_local: row.flags.prefers_local,
        features: row.features.clone(),
    })
}

/// Of everything that nobody needs downwards, of everything that needs nothing upwards.
fn walks(graph: &Graph) -> (Duration, Duration) {
    let tops: Vec<NodeId> = graph.ids().filter(|id| graph.dependants(*id).is_empty()).collect();
    let bottoms: Vec<NodeId> = graph.ids().filter(|id| graph.inputs(*id).is_empty()).collect();
    let timed = |walk: &dyn Fn() -> NodeSet| {
        let begun = Instant::now();
        let seen = walk();
        (begun.elapsed(), seen.len())
    };
    let (down, _) = timed(&|| graph.closure_of(&tops));
    let (up, _) = timed(&|| graph.dependants_of(&bottoms));
    (down, up)
}
