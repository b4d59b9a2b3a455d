//! A seed and a size come in, a graph of nixpkgs' shape goes out: a little over half of it fetched files, a long chain of
//! stages at its root, hubs that nearly everything needs, and a heavy tail of needs. What it is called is invented.

use super::{DrvGraph, DrvRow, Flags, JobRow};
use crate::seed::Rng;

/// How large.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Derivations.
    pub drvs: usize,
    /// Of these, how many are stages of the root's chain, each needing the one before.
    pub stages: usize,
    /// Of a hundred, how many are fetched files.
    pub fetched_of_hundred: u64,
    /// Needs of a built one, on average, beside its source and the hubs; nixpkgs has about 13.
    pub needs: u64,
}

impl Shape {
    /// As nixpkgs is, with so many derivations.
    pub fn nixpkgs(drvs: usize) -> Self {
        Self { drvs, stages: 200.min(drvs / 4), fetched_of_hundred: 53, needs: 10 }
    }
}

/// Hubs: what nearly every build needs (a shell, a compiler, a build environment).
const HUBS: usize = 3;
/// Most needs of one derivation, beside its source and the hubs.
const NEEDS_MAX: u64 = 400;
/// One of so many attributes does not evaluate.
const ERROR_EVERY: u64 = 7;
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Makes a graph; the same seed gives the same one.
pub fn generate(shape: Shape, seed: u64) -> DrvGraph {
    let mut rng = Rng::new(seed);
    let mut graph = DrvGraph::default();
    let mut built: Vec<usize> = Vec::new();
    let mut source: Option<usize> = None;
    for index in 0..shape.drvs {
        let is_stage = built.len() < shape.stages && index % 2 == 1;
        let is_fetched = !is_stage && (index == 0 || rng.chance(shape.fetched_of_hundred));
        let inputs = if is_fetched {
            source = Some(index);
            fetched_inputs(&mut rng, &built)
        } else if is_stage {
            built.last().copied().into_iter().chain(source.take()).collect()
        } else {
            built_inputs(&mut rng, shape, &built, source.take())
        };
        let mut drv = row(&mut rng, index, is_fetched);
        drv.inputs = with_outputs(&graph, inputs);
        graph.drvs.push(drv);
        if !is_fetched {
            built.push(index);
            let job = if rng.below(ERROR_EVERY) == 0 { JobRow::Error } else { JobRow::Drv(index) };
            graph.jobs.push((format!("set{}.package{index}", index % 10), job));
        }
    }
    graph
}

/// A fetcher is itself a build where Nix does not fetch by itself.
fn fetched_inputs(rng: &mut Rng, built: &[usize]) -> Vec<usize> {
    if rng.chance(50) { hubs(built) } else { Vec::new() }
}

fn built_inputs(rng: &mut Rng, shape: Shape, built: &[usize], source: Option<usize>) -> Vec<usize> {
    let mut inputs = hubs(built);
    inputs.extend(source);
    if !built.is_empty() {
        // A heavy tail: the mean is a few times the median.
        let spread = 1 + rng.below(8);
        let needs = (rng.below(shape.needs + 1) * 8 / spread / 2).min(NEEDS_MAX);
        for _ in 0..needs {
            // Earlier ones are needed more: the product of two even choices leans to the start.
            let reach = 1 + rng.index(built.len());
            inputs.push(built[rng.index(reach)]);
        }
    }
    inputs.sort_unstable();
    inputs.dedup();
    inputs
}

/// The last stages so far.
fn hubs(built: &[usize]) -> Vec<usize> {
    let stages = built.len().min(200);
    built[stages.saturating_sub(HUBS)..stages].to_vec()
}

fn with_outputs(graph: &DrvGraph, inputs: Vec<usize>) -> Vec<(usize, Vec<String>)> {
    inputs.into_iter().map(|input| (input, vec![graph.drvs[input].outputs[0].clone()])).collect()
}

fn row(rng: &mut Rng, index: usize, is_fetched: bool) -> DrvRow {
    let outputs: &[&str] = match rng.below(10) {
        _ if is_fetched => &["out"],
        0 => &["bin", "dev", "out"],
        1 | 2 => &["dev", "out"],
        _ => &["out"],
    };
    let features: &[&str] = if !is_fetched && rng.chance(2) { &["big-parallel"] } else { &[] };
    DrvRow {
        hash: (0..32).map(|_| char::from(*rng.pick(DIGITS))).collect(),
        name: if is_fetched {
            format!("source-{index}.tar.xz")
        } else {
            format!("package-{index}-1.{}", index % 90)
        },
        system: if is_fetched && index.is_multiple_of(2) { "builtin".into() } else { "x86_64-linux".into() },
        outputs: outputs.iter().map(|output| (*output).into()).collect(),
        flags: Flags { fixed_output: is_fetched, content_addressed: false, prefers_local: is_fetched },
        features: features.iter().map(|feature| (*feature).into()).collect(),
        ninputsrcs: if is_fetched { 0 } else { 2 },
        inputs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_graph_of_the_shape_of_nixpkgs() {
        let graph = generate(Shape::nixpkgs(5000), 1);
        assert_eq!(graph.drvs.len(), 5000);
        assert_eq!(graph, generate(Shape::nixpkgs(5000), 1));
        assert_ne!(graph, generate(Shape::nixpkgs(5000), 2));
        let mean = graph.edges() as f64 / 5000.0;
        assert!((4.0..12.0).contains(&mean), "{mean} needs each");
        let fetched = graph.drvs.iter().filter(|drv| drv.flags.fixed_output).count();
        assert!((2000..3200).contains(&fetched), "{fetched} fetched");
        let mut dependants = vec![0; 5000];
        for (index, drv) in graph.drvs.iter().enumerate() {
            for (input, _) in &drv.inputs {
                assert!(*input < index);
                dependants[*input] += 1;
            }
        }
        assert!(dependants.iter().any(|count| *count > 2000), "there is no hub");
    }
}
