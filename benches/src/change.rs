//! P15: how long it takes to see what a change does. A real graph (or a generated one) and a head in which 20,000 of its
//! derivations are others come in; what the comparison takes, and what the graph's part of it takes alone, goes out.

use std::time::Instant;

use ci_model::attr::{Attr, Meta};
use ci_model::diff::{NoFacts, Outputs, compare};
use ci_model::flow::{Evaluation, EvaluationCost};
use ci_model::graph::{Graph, NodeId, NodeSet};
use nix_types::{AttrPath, DrvPath, System};
use test_kit::drv_graph::{DrvGraph, JobRow};

use crate::error::{BenchError, Doing};
use crate::report::{Line, Unit, Verdict};
use crate::stats::{median, ms};
use crate::{Run, graph, ingest};

/// Milliseconds to see what a change does, at most.
const CHANGE_MS_MAX: f64 = 2000.0;
/// Derivations that the change is of.
const CHANGED: usize = 20_000;
/// Measurements, of which the median counts.
const SAMPLES: usize = 3;
/// Of which how far each new derivation reaches is counted, beside the whole.
const SYSTEMS: [&str; 2] = ["x86_64-linux", "i686-linux"];

/// A graph that holds both sides.
struct Sides {
    graph: Graph,
    base: Vec<NodeId>,
    /// What each of the base became.
    head: Vec<NodeId>,
    changed: usize,
}

/// Measures P15.
pub(crate) fn run(_: &Run<'_>) -> Result<Vec<Line>, BenchError> {
    let (rows, of_what) = ingest::graph();
    let mut graph = graph::reloaded(&rows)?;
    let base: Vec<NodeId> = graph.ids().collect();
    let changed = upward_closed(&graph, CHANGED);
    let head = with_changes(&mut graph, &base, &changed)?;
    let sides = Sides { graph, base, head, changed: changed.len() };
    let line = |what: String, figure: f64, note: String| Line {
        goal: "P15",
        what,
        figure,
        unit: Unit::Ms,
        floor: None,
        bound: format!("<= {CHANGE_MS_MAX:.0} ms, exact"),
        verdict: Verdict::of(figure <= CHANGE_MS_MAX),
        note,
    };
    let (whole, said) = comparison(&rows, &sides)?;
    let (part, furthest) = reach(&sides)?;
    let of = format!("{} changed of {} derivations ({of_what})", sides.changed, sides.base.len());
    Ok(vec![
        line(format!("{of}: what becomes of attributes, what is to be built, why"), whole, said),
        line(
            "the same: how many need each of them, in all and for two systems".into(),
            part,
            format!("{furthest} at most"),
        ),
    ])
}

fn comparison(rows: &DrvGraph, sides: &Sides) -> Result<(f64, String), BenchError> {
    let [base, head] = [evaluation(rows, sides, &sides.base)?, evaluation(rows, sides, &sides.head)?];
    let mut took = Vec::new();
    let mut said = String::new();
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let (base, head) = (std::slice::from_ref(&base), std::slice::from_ref(&head));
        let comparison = compare(base, head, &sides.graph, &Outputs::default(), &NoFacts);
        took.push(ms(begun.elapsed()));
        said = format!(
            "{} attributes, {} of them changed, {} derivations to build, {} causes",
            head[0].attrs.len(),
            comparison.changes.len(),
            comparison.totals().to_build(),
            comparison.root_causes_total
        );
    }
    Ok((median(&took), said))
}

fn reach(sides: &Sides) -> Result<(f64, usize), BenchError> {
    let graph = &sides.graph;
    let mut took = Vec::new();
    let mut furthest = 0;
    for _ in 0..SAMPLES {
        let begun = Instant::now();
        let before = graph.closure_of(&sides.base);
        let after = graph.closure_of(&sides.head);
        let new: Vec<NodeId> = after.minus(&before).iter().collect();
        let mut withins = vec![after.clone()];
        for system in SYSTEMS {
            withins.push(graph.of_system(&system.parse::<System>().doing("name a system")?).and(&after));
        }
        let counts = graph.reach_counts_each(&new, &withins.iter().collect::<Vec<_>>());
        took.push(ms(begun.elapsed()));
        furthest = counts.first().and_then(|all| all.iter().max().copied()).unwrap_or(0);
        if new.len() != sides.changed {
            return Err(BenchError::new(format!(
                "find {} new derivations: there came {}",
                sides.changed,
                new.len()
            )));
        }
    }
    Ok((median(&took), furthest))
}

/// Of every job that is a derivation; `became` says which one on this side.
fn evaluation(rows: &DrvGraph, sides: &Sides, became: &[NodeId]) -> Result<Evaluation, BenchError> {
    let mut attrs = Vec::new();
    for (name, job) in &rows.jobs {
        let JobRow::Drv(drv) = job else { continue };
        attrs.push(Attr {
            path: name.parse::<AttrPath>().doing("name an attribute")?,
            drv: sides.graph.path(became[*drv]),
            name: rows.drvs[*drv].name.clone(),
            pname: None,
            version: None,
            system: sides.graph.facts(became[*drv]).system.clone(),
            outputs: Default::default(),
            traits: None,
            meta: Meta::default(),
        });
    }
    attrs.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Evaluation {
        job: "all".parse().doing("name a job")?,
        tree: "0".repeat(40).parse().doing("name a tree")?,
        attrs,
        errors: Vec::new(),
        cost: EvaluationCost::default(),
    })
}

/// So many nodes with all that need them: what follows from one cause, as far as that goes, and the rest from the top.
fn upward_closed(graph: &Graph, count: usize) -> NodeSet {
    let count = count.min(graph.len());
    let all: Vec<NodeId> = graph.ids().collect();
    let reach = graph.reach_counts(&all, &all.iter().copied().collect());
    let cause = all.iter().zip(reach).filter(|(_, reach)| *reach < count).max_by_key(|(_, reach)| *reach);
    let mut chosen = cause.map_or_else(NodeSet::default, |(cause, _)| graph.dependants_of(&[*cause]));
    for id in all.into_iter().rev() {
        if chosen.len() == count {
            break;
        }
        chosen.insert(id);
    }
    chosen
}

/// Puts another derivation in for each changed one; says what the head is made of.
fn with_changes(graph: &mut Graph, base: &[NodeId], changed: &NodeSet) -> Result<Vec<NodeId>, BenchError> {
    let mut became: Vec<NodeId> = Vec::with_capacity(base.len());
    for id in base {
        became.push(if changed.contains(*id) {
            let inputs: Vec<NodeId> = graph.inputs(*id).iter().map(|input| became[input.index()]).collect();
            let path = other(&graph.path(*id)).doing("name a derivation")?;
            graph.insert(&path, graph.facts(*id).clone(), &inputs)
        } else {
            *id
        });
    }
    Ok(became)
}

/// The same name, the hash turned around.
fn other(drv: &DrvPath) -> Result<DrvPath, nix_types::NotADrv> {
    let hash: String = drv.store_path().hash_part().chars().rev().collect();
    format!("/nix/store/{hash}-{}.drv", drv.drv_name()).parse()
}
