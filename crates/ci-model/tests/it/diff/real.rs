//! Why things change, told of derivations that Nix itself wrote: `real/set.nix` says how.

use std::collections::HashMap;

use ci_model::change::Comparison;
use ci_model::diff::{Outputs, compare};
use ci_model::flow::Evaluation;
use ci_model::graph::{Graph, NodeFacts, NodeId};
use nix_types::derivation::parse;
use nix_types::{Derivation, DrvPath};

use super::packages::{causes, hashes};
use super::support::{attr, evaluation};

fn files() -> HashMap<DrvPath, Derivation> {
    let file = |line: &str| {
        let (path, text) = line.split_once(' ').unwrap();
        (path.parse().unwrap(), parse(text.as_bytes()).unwrap())
    };
    include_str!("real/drvs.txt").lines().map(file).collect()
}

fn evaluated(variant: &str) -> Evaluation {
    let lines = include_str!("real/attrs.txt").lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let attrs =
        lines.filter(|words| words[0] == variant).map(|words| attr(words[1], words[2].parse().unwrap()));
    evaluation(attrs.collect(), vec![])
}

fn insert(
    (graph, outputs): (&mut Graph, &mut Outputs),
    files: &HashMap<DrvPath, Derivation>,
    drv: &DrvPath,
) -> NodeId {
    let file = &files[drv];
    let inputs: Vec<NodeId> =
        file.input_drvs.keys().map(|input| insert((&mut *graph, &mut *outputs), files, input)).collect();
    let facts =
        NodeFacts { is_fod: file.is_fixed_output(), ..NodeFacts::ordinary(file.system.parse().unwrap()) };
    let id = graph.insert(drv, facts, &inputs);
    outputs.add(id, hashes(file).as_deref());
    id
}

fn compared(base: &str, head: &str) -> Comparison {
    let (files, mut graph, mut outputs) = (files(), Graph::default(), Outputs::default());
    let (base, head) = (evaluated(base), evaluated(head));
    for attr in base.attrs.iter().chain(&head.attrs) {
        insert((&mut graph, &mut outputs), &files, &attr.drv);
    }
    compare(&[base], &[head], &graph, &outputs, &files)
}

/// Root causes, new derivations, and those of them that are to be built.
fn told(base: &str, head: &str) -> (Vec<String>, usize, usize) {
    let comparison = compared(base, head);
    let totals = comparison.totals();
    (causes(&comparison), totals.drvs, totals.to_build())
}

#[test]
fn nothing_is_nothing() {
    assert!(compared("base", "base").is_empty());
}

#[test]
fn a_bump_has_two_causes_and_all_else_follows() {
    // Also what names curl without needing it, what exports its closure, and what has it in structured attributes.
    let bump = [
        "curl-8.2.tar.gz 4/0/5 hash \
         sha256:7759f94c149fcf23ab85fcfa460f3681525f458ba02bd5266e5cca038368d7cc \
         sha256:843e508ebb105421bbdef19c637062b6c2c143be9a328504e4f3ec11c91457ba, $name, $url",
        "curl-8.2 4/0/4 $name, $version",
    ];
    let bump = (bump.map(str::to_owned).to_vec(), 5, 5);
    assert_eq!(told("base", "curl"), bump);
    // Where paths are known only after the build, too.
    assert_eq!(told("ca", "ca-curl"), bump);
}

#[test]
fn a_flag_at_the_root_of_all_has_one_cause() {
    let flags = (vec!["cc-12 7/7/7 $flags".to_owned()], 7, 7);
    assert_eq!(told("base", "flags"), flags);
    assert_eq!(told("ca", "ca-flags"), flags);
}

#[test]
fn another_mirror_builds_only_what_has_derivations_for_content() {
    let causes = ["zlib-1.3.tar.gz 6/2/7 $url", "curl-8.1.tar.gz 4/0/5 $url"].map(str::to_owned).to_vec();
    assert_eq!(told("base", "mirror"), (causes, 8, 1));
}

#[test]
fn an_input_that_came_is_the_cause_where_it_is_used() {
    assert_eq!(told("base", "extra"), (vec!["struct-1 1/1/1 +extra-1, $deps".to_owned()], 2, 2));
    assert_eq!(told("extra", "base"), (vec!["struct-1 1/1/1 -extra-1, $deps".to_owned()], 1, 1));
}
