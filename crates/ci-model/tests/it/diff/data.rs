//! Real package sets, of which only names and edges are known, and generated ones where these are not at hand.

use std::collections::HashSet;

use ci_model::attr::Attr;
use ci_model::change::{Comparison, Difference, RootCause, SystemCounts};
use ci_model::diff::{NoFacts, Outputs, compare};
use ci_model::flow::Evaluation;
use ci_model::graph::{Graph, NodeFacts, NodeId};
use nix_types::DrvPath;
use test_kit::drv_graph::{DrvGraph, DrvRow, JobRow, Shape, generate, load};
use test_kit::seed::Rng;

use super::support::{attr, error, evaluation};

/// Puts a package set into a graph and gives its evaluation.
pub(crate) fn evaluated(set: &DrvGraph, graph: &mut Graph) -> Evaluation {
    let paths: Vec<DrvPath> = set.drvs.iter().map(|row| row.path("/nix/store").parse().unwrap()).collect();
    let mut ids: Vec<NodeId> = Vec::new();
    for (row, path) in set.drvs.iter().zip(&paths) {
        let inputs: Vec<NodeId> = row.inputs.iter().map(|(input, _)| ids[*input]).collect();
        ids.push(graph.insert(path, facts_of(row), &inputs));
    }
    let (mut attrs, mut errors) = (vec![], vec![]);
    for (name, job) in &set.jobs {
        match job {
            JobRow::Drv(at) => {
                let system = set.drvs[*at].system.parse().unwrap();
                attrs.push(Attr { system, ..attr(name, paths[*at].clone()) });
            }
            JobRow::Error | JobRow::ErrorFatal => errors.push(error(name)),
        }
    }
    evaluation(attrs, errors)
}

fn facts_of(row: &DrvRow) -> NodeFacts {
    NodeFacts {
        is_fod: row.flags.fixed_output,
        is_content_addressed: row.flags.content_addressed,
        prefers_local: row.flags.prefers_local,
        features: row.features.clone(),
        ..NodeFacts::ordinary(row.system.parse().unwrap())
    }
}

/// Attributes whose derivation is another one.
fn changed(comparison: &Comparison) -> usize {
    comparison.changes.iter().filter(|change| change.before != change.after).count()
}

/// Root causes as lines: name, attributes, derivations.
fn causes(comparison: &Comparison) -> Vec<String> {
    let line = |cause: &RootCause| format!("{} {} {}", cause.after.drv_name(), cause.attrs, cause.drvs);
    comparison.root_causes.iter().map(line).collect()
}

#[test]
fn a_day_of_corepkgs() {
    let (Some(a), Some(b)) = (load("corepkgs-A"), load("corepkgs-B")) else { return };
    let mut graph = Graph::default();
    let (base, head) = (evaluated(&a, &mut graph), evaluated(&b, &mut graph));
    let comparison = compare(&[base], &[head], &graph, &Outputs::default(), &NoFacts);
    assert_eq!(changed(&comparison), 165);
    let totals = comparison.totals();
    let expected =
        SystemCounts { bumped: 15, rebuilt: 150, unchanged: 2_192, drvs: 468, ..SystemCounts::default() };
    assert_eq!(totals, expected);
    // 12 more were written on the way to attributes that do not evaluate, and nobody asks for them.
    let paths = |set: &DrvGraph| -> HashSet<String> { set.drvs.iter().map(DrvRow::base_name).collect() };
    assert_eq!(paths(&b).difference(&paths(&a)).count(), 480);
    assert_eq!(comparison.errors.still.len(), 172);
    // Each bump begins with its source and the package itself.
    assert_eq!(
        causes(&comparison)[..4],
        [
            "libpsl-0.23.1.tar.lz 136 382",
            "libpsl-minimal-0.23.1 135 380",
            "p11-kit-0.26.5-github-source 96 158",
            "p11-kit-0.26.5 96 157",
        ]
    );
    assert!(comparison.root_causes.iter().all(|cause| cause.differences != [Difference::Unknown]));
    assert_eq!(
        (comparison.reach[0].attr.path.to_string(), comparison.reach[0].dependants),
        ("curl".into(), 377)
    );
    assert_eq!(comparison.unseen, 0);
}

#[test]
fn another_curl_under_nixpkgs() {
    let (Some(a), Some(b)) = (load("nixpkgs"), load("nixpkgs-curlbump")) else { return };
    let mut graph = Graph::default();
    let (mut base, head) = (evaluated(&a, &mut graph), evaluated(&b, &mut graph));
    let attrs = head.attrs.iter().map(|attr| &attr.path);
    let there: HashSet<_> = attrs.chain(head.errors.iter().map(|error| &error.path)).collect();
    base.attrs.retain(|attr| there.contains(&attr.path));
    base.errors.retain(|error| there.contains(&error.path));
    let comparison = compare(&[base], &[head], &graph, &Outputs::default(), &NoFacts);
    assert_eq!(changed(&comparison), 2_204);
    // With neither a text nor a hash to compare, all of it is traced to the new source and to curl itself.
    assert_eq!(causes(&comparison)[..2], ["curl-8.20.1.tar.xz 2204 25451", "curl-8.20.1 2204 24317"]);
    let name = |version: &str| Some(format!("curl-{version}"));
    let renamed = Difference::Env { name: "name".into(), from: name("8.20.0"), to: name("8.20.1") };
    assert_eq!(comparison.root_causes[1].differences, [renamed]);
    assert!(comparison.root_causes.iter().all(|cause| cause.attrs_alone == 0));
}

/// One derivation of a generated set is another one, and so is all that needs it, found by trying all ways up.
#[test]
fn a_generated_set_with_known_answers() {
    for seed in 0..8 {
        let a = generate(Shape::nixpkgs(600), seed);
        let mut rng = Rng::new(seed);
        let first = rng.index(a.drvs.len());
        let mut b = a.clone();
        let mut differs = vec![false; a.drvs.len()];
        for at in 0..b.drvs.len() {
            differs[at] = at == first || b.drvs[at].inputs.iter().any(|(input, _)| differs[*input]);
            if differs[at] {
                // Whatever the hash was, it is another one now.
                b.drvs[at].hash = b.drvs[at].hash.chars().rev().collect();
                assert_ne!(a.drvs[at].hash, b.drvs[at].hash);
            }
        }
        let mut needed = vec![false; a.drvs.len()];
        for at in (0..a.drvs.len()).rev() {
            needed[at] |= a.jobs.iter().any(|(_, job)| *job == JobRow::Drv(at));
            if needed[at] {
                b.drvs[at].inputs.iter().for_each(|(input, _)| needed[*input] = true);
            }
        }
        let mut graph = Graph::default();
        let (base, head) = (evaluated(&a, &mut graph), evaluated(&b, &mut graph));
        let comparison = compare(&[base], &[head], &graph, &Outputs::default(), &NoFacts);
        let attrs = a.jobs.iter().filter(|(_, job)| matches!(job, JobRow::Drv(at) if differs[*at])).count();
        let drvs = (0..a.drvs.len()).filter(|at| differs[*at] && needed[*at]).count();
        assert_eq!((changed(&comparison), comparison.totals().drvs), (attrs, drvs), "seed {seed}");
        let name = &a.drvs[first].name;
        let expected = if attrs > 0 { vec![format!("{name} {attrs} {drvs}")] } else { vec![] };
        assert_eq!(causes(&comparison), expected, "seed {seed}");
        assert!(comparison.root_causes.iter().all(|cause| cause.differences == [Difference::Unknown]));
    }
}
