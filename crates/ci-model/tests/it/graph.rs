//! The graph against a naive one, and on graphs of real package sets.

use std::collections::{BTreeMap, BTreeSet};

use ci_model::graph::{Graph, NodeFacts, NodeId, NodeSet};
use nix_types::{DrvPath, System, derivation};
use proptest::prelude::*;
use test_kit::drv_graph::{self, DrvGraph, DrvRow, Shape};
use test_kit::seed::Rng;

/// Rows as nodes; what is row 5 is node 5.
pub(crate) fn graph_of(rows: &DrvGraph) -> Graph {
    let mut graph = Graph::default();
    let ids = add(&mut graph, rows);
    assert!(ids.into_iter().eq(graph.ids()));
    graph
}

fn add(graph: &mut Graph, rows: &DrvGraph) -> Vec<NodeId> {
    let mut ids: Vec<NodeId> = Vec::new();
    for row in &rows.drvs {
        let inputs: Vec<NodeId> = row.inputs.iter().map(|(input, _)| ids[*input]).collect();
        ids.push(graph.insert(&path(row), facts(row), &inputs));
    }
    ids
}

fn path(row: &DrvRow) -> DrvPath {
    row.path("/nix/store").parse().unwrap()
}

fn facts(row: &DrvRow) -> NodeFacts {
    NodeFacts {
        system: row.system.parse().unwrap(),
        is_fod: row.flags.fixed_output,
        is_content_addressed: row.flags.content_addressed,
        prefers_local: row.flags.prefers_local,
        features: row.features.clone(),
    }
}

fn drv(number: usize) -> DrvPath {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let hash: String = (0..32u32).map(|at| char::from(DIGITS[number >> (at * 5).min(60) & 31])).collect();
    format!("/nix/store/{hash}-n{number}.drv").parse().unwrap()
}

fn system(name: &str) -> System {
    name.parse().unwrap()
}

/// Nodes by number, each with what it needs.
pub(crate) fn small(needs: &[Vec<usize>]) -> Graph {
    let mut graph = Graph::default();
    for (index, needs) in needs.iter().enumerate() {
        let inputs: Vec<_> = needs.iter().map(|input| graph.id(&drv(*input)).unwrap()).collect();
        let facts = NodeFacts::ordinary(system(if index % 3 == 0 { "builtin" } else { "x86_64-linux" }));
        graph.insert(&drv(index), facts, &inputs);
    }
    graph
}

fn any_needs(nodes: usize) -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..6), 1..nodes).prop_map(
        |nodes| {
            let of = |index: usize, needs: Vec<prop::sample::Index>| match index {
                0 => Vec::new(),
                index => needs.iter().map(|need| need.index(index)).collect(),
            };
            nodes.into_iter().enumerate().map(|(index, needs)| of(index, needs)).collect()
        },
    )
}

/// For each node all it needs and itself, by the definition.
fn naive_closures(needs: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let mut closures: Vec<BTreeSet<usize>> = Vec::new();
    for (index, needs) in needs.iter().enumerate() {
        let mut closure = BTreeSet::from([index]);
        needs.iter().for_each(|need| closure.extend(closures[*need].iter().copied()));
        closures.push(closure);
    }
    closures
}

fn indexes(set: &NodeSet) -> BTreeSet<usize> {
    assert_eq!(set.iter().count(), set.len());
    set.iter().map(NodeId::index).collect()
}

proptest! {
    #[test]
    fn a_graph_is_what_a_naive_one_is(needs in any_needs(60), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let graph = small(&needs);
        let ids: Vec<NodeId> = graph.ids().collect();
        let picked: Vec<NodeId> = picks.iter().map(|pick| ids[pick.index(ids.len())]).collect();
        let closures = naive_closures(&needs);
        prop_assert_eq!(graph.len(), needs.len());
        for id in &ids {
            let direct: BTreeSet<usize> = needs[id.index()].iter().copied().collect();
            let users: Vec<usize> = (0..needs.len()).filter(|user| needs[*user].contains(&id.index())).collect();
            prop_assert_eq!(graph.inputs(*id).iter().map(|id| id.index()).collect::<Vec<_>>(), direct.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(graph.dependants(*id).iter().map(|id| id.index()).collect::<Vec<_>>(), users);
            prop_assert_eq!(graph.path(*id), drv(id.index()));
            prop_assert_eq!(graph.id(&drv(id.index())), Some(*id));
        }
        let below: BTreeSet<usize> = picked.iter().flat_map(|id| closures[id.index()].iter().copied()).collect();
        prop_assert_eq!(indexes(&graph.closure_of(&picked)), below);
        let above = |id: &NodeId| (0..needs.len()).filter(|user| closures[*user].contains(&id.index())).collect::<BTreeSet<_>>();
        prop_assert_eq!(indexes(&graph.dependants_of(&picked)), picked.iter().flat_map(above).collect());

        let all: NodeSet = graph.ids().collect();
        let builtin = graph.of_system(&system("builtin"));
        prop_assert_eq!(indexes(&builtin), (0..needs.len()).filter(|index| index % 3 == 0).collect());
        let counts = graph.reach_counts_each(&picked, &[&all, &builtin]);
        for (at, id) in picked.iter().enumerate() {
            prop_assert_eq!(counts[0][at], above(id).len() - 1);
            prop_assert_eq!(counts[1][at], above(id).iter().filter(|user| *user % 3 == 0 && **user != id.index()).count());
        }

        let (less, moves) = graph.compacted(&picked);
        prop_assert_eq!(less.len(), graph.closure_of(&picked).len());
        for (old, new) in moves {
            prop_assert_eq!(less.path(new), graph.path(old));
            let paths = |graph: &Graph, ids: &[NodeId]| ids.iter().map(|id| graph.path(*id)).collect::<Vec<_>>();
            prop_assert_eq!(paths(&less, less.inputs(new)), paths(&graph, graph.inputs(old)));
        }
    }

    #[test]
    fn a_set_of_nodes_is_a_set(a in prop::collection::btree_set(0usize..200, 0..40), b in prop::collection::btree_set(0usize..200, 0..40)) {
        let ids: Vec<NodeId> = small(&vec![Vec::new(); 200]).ids().collect();
        let set = |of: &BTreeSet<usize>| of.iter().map(|index| ids[*index]).collect::<NodeSet>();
        let (x, y) = (set(&a), set(&b));
        let mut both = x.clone();
        both.union_with(&y);
        prop_assert_eq!(indexes(&both), &a | &b);
        prop_assert_eq!(indexes(&x.and(&y)), &a & &b);
        prop_assert_eq!(indexes(&x.minus(&y)), &a - &b);
        prop_assert_eq!(x.intersects(&y), !a.is_disjoint(&b));
        prop_assert_eq!(x.is_subset(&y), a.is_subset(&b));
        prop_assert_eq!(x == y, a == b);
        let from = ids[100];
        prop_assert_eq!(x.iter_from(from).map(NodeId::index).collect::<Vec<_>>(), a.range(100..).copied().collect::<Vec<_>>());
        for id in &ids {
            prop_assert_eq!(x.contains(*id), a.contains(&id.index()));
            both.remove(*id);
        }
        prop_assert!(both.is_empty());
    }
}

#[test]
fn how_far_many_seeds_reach_is_exact() {
    let rows = drv_graph::generate(Shape::nixpkgs(2_500), 5);
    let graph = graph_of(&rows);
    let within: NodeSet = graph.ids().filter(|id| id.index() % 5 != 0).collect();
    // More than a few passes hold, in no order, some of them twice.
    let mut seeds: Vec<NodeId> = graph.ids().chain(graph.ids().filter(|id| id.index() % 7 == 0)).collect();
    let mut rng = Rng::new(9);
    for at in (1..seeds.len()).rev() {
        seeds.swap(at, rng.index(at + 1));
    }
    let expected: Vec<usize> = seeds
        .iter()
        .map(|seed| graph.dependants_of(&[*seed]).and(&within).len() - usize::from(within.contains(*seed)))
        .collect();
    assert!(graph.reach_counts(&seeds, &within) == expected, "a count differs");
    assert!(expected.iter().any(|count| *count > 1_000), "nothing reaches far");
    assert!(graph.reach_counts(&[], &within).is_empty());
}

#[test]
fn two_revisions_in_one_graph_share_what_they_share() {
    let (Some(base), Some(head)) = (drv_graph::load("corepkgs-A"), drv_graph::load("corepkgs-B")) else {
        return;
    };
    let mut graph = Graph::default();
    let [before, after] = [&base, &head].map(|rows| add(&mut graph, rows));
    assert_eq!(graph.len(), 6_902 + 480);
    let new = graph.closure_of(&after).minus(&graph.closure_of(&before));
    assert_eq!(new.len(), 480);
    assert_eq!(graph.closure_of(&before).len(), 6_902);
}

#[test]
fn derivation_files_of_a_graph_are_the_graph() {
    const STORE: &str = "/nix/store";
    let rows = drv_graph::generate(Shape::nixpkgs(400), 11);
    let folder = tempfile::tempdir().unwrap();
    drv_graph::write_drv_files(&rows, folder.path()).unwrap();
    for row in &rows.drvs {
        let text = std::fs::read_to_string(folder.path().join(row.base_name())).unwrap();
        let here = folder.path().to_str().unwrap();
        let drv = derivation::parse(text.replace(here, STORE).as_bytes()).unwrap();
        let inputs = row.inputs.iter().map(|(input, outputs)| {
            (path(&rows.drvs[*input]), outputs.iter().cloned().collect::<BTreeSet<String>>())
        });
        assert_eq!(drv.input_drvs, inputs.collect());
        assert_eq!(
            (drv.system.as_str(), drv.is_fixed_output()),
            (row.system.as_str(), row.flags.fixed_output)
        );
        assert_eq!(drv.outputs.keys().collect::<Vec<_>>(), row.outputs.iter().collect::<Vec<_>>());
        for (name, output) in &drv.outputs {
            let expected = drv_graph::output_path(row, name, here).map(|path| path.replace(here, STORE));
            assert_eq!(output.path.as_ref().map(|path| path.as_str().to_owned()), expected);
        }
        assert_eq!(drv.input_srcs.len(), row.ninputsrcs);
    }
}

#[test]
fn the_same_derivation_twice_is_one_node() {
    let mut graph = small(&[vec![], vec![0]]);
    let [zero, one] = [0, 1].map(|number| graph.id(&drv(number)).unwrap());
    let again = graph.insert(&drv(1), NodeFacts::ordinary(system("aarch64-linux")), &[]);
    assert_eq!((again, graph.len(), graph.edges()), (one, 2, 1));
    assert_eq!(graph.facts(one).system, system("x86_64-linux"));
    assert_eq!(graph.dependants(zero), [one]);
    let twice = graph.insert(&drv(2), NodeFacts::ordinary(system("builtin")), &[one, zero, one]);
    assert_eq!((graph.inputs(twice), graph.dependants(one)), (&[zero, one][..], &[twice][..]));
}

#[test]
fn paths_that_share_a_hash_are_told_apart() {
    let mut graph = Graph::default();
    let hash = "q1rm5rl861j6yy2mi0avl6n6p2s32pf7";
    let paths = ["/nix/store", "/other/store"].iter().flat_map(|dir| {
        ["a", "b"].map(|name| format!("{dir}/{hash}-{name}.drv").parse::<DrvPath>().unwrap())
    });
    let paths: Vec<_> = paths.collect();
    let ids: Vec<_> =
        paths.iter().map(|path| graph.insert(path, NodeFacts::ordinary(system("builtin")), &[])).collect();
    assert_eq!(graph.len(), 4);
    for (path, id) in paths.iter().zip(ids) {
        assert_eq!((graph.path(id), graph.id(path)), (path.clone(), Some(id)));
    }
}

#[test]
#[should_panic(expected = "an input is a node of this graph")]
fn a_need_that_is_not_there_is_our_mistake() {
    let other = small(&[vec![], vec![], vec![]]);
    let id = other.id(&drv(2)).unwrap();
    small(&[vec![]]).insert(&drv(1), NodeFacts::ordinary(system("builtin")), &[id]);
}

#[test]
fn a_chain_of_a_million_overflows_nothing() {
    const LEN: usize = 1_000_000;
    let mut graph = Graph::default();
    let mut last: Vec<NodeId> = Vec::new();
    for number in 0..LEN {
        last = vec![graph.insert(&drv(number), NodeFacts::ordinary(system("x86_64-linux")), &last)];
    }
    let first = graph.id(&drv(0)).unwrap();
    assert_eq!(graph.longest_chain(), LEN);
    assert_eq!(graph.closure_of(&last).len(), LEN);
    let all = graph.dependants_of(&[first]);
    assert_eq!(all.len(), LEN);
    assert_eq!(graph.reach_counts(&[first, last[0]], &all), [LEN - 1, 0]);
}

#[test]
fn a_hub_may_be_needed_by_everything() {
    const USERS: usize = 150_000;
    let mut graph = small(&[vec![]]);
    let hub = graph.id(&drv(0)).unwrap();
    for number in 1..=USERS {
        graph.insert(&drv(number), NodeFacts::ordinary(system("x86_64-linux")), &[hub]);
    }
    assert_eq!(graph.dependants(hub).len(), USERS);
    assert!(graph.memory_bytes() / USERS <= 100, "{} bytes a node", graph.memory_bytes() / USERS);
}

#[test]
fn nixpkgs_is_as_it_was_counted() {
    let Some(rows) = drv_graph::load("nixpkgs") else {
        let graph = graph_of(&drv_graph::generate(Shape::nixpkgs(20_000), 3));
        assert_eq!(graph.len(), 20_000);
        assert!(
            graph.memory_bytes() / graph.len() <= 160,
            "{} bytes a node",
            graph.memory_bytes() / graph.len()
        );
        return;
    };
    let graph = graph_of(&rows);
    assert_eq!((graph.len(), graph.edges(), graph.longest_chain()), (96_726, 706_194, 282));
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for id in graph.ids() {
        let users = most.entry(graph.name(id)).or_default();
        *users = (*users).max(graph.dependants(id).len());
    }
    let bash = most.iter().filter(|(name, _)| name.starts_with("bash-")).map(|(_, users)| *users).max();
    let stdenv = most.iter().filter(|(name, _)| name.starts_with("stdenv-")).map(|(_, users)| *users).max();
    assert_eq!((bash, stdenv), (Some(92_260), Some(63_224)));
    assert_eq!(graph.ids().map(|id| graph.inputs(id).len()).max(), Some(2_255));
    let systems = ["x86_64-linux", "i686-linux", "builtin"].map(|name| graph.of_system(&system(name)).len());
    assert_eq!(systems, [93_056, 3_520, 150]);
    assert!(graph.memory_bytes() <= 150 * graph.len(), "{} bytes a node", graph.memory_bytes() / graph.len());
    let all: NodeSet = graph.ids().collect();
    let seeds: Vec<NodeId> = graph.ids().step_by(5_000).collect();
    let expected: Vec<usize> = seeds.iter().map(|seed| graph.dependants_of(&[*seed]).len() - 1).collect();
    assert_eq!(graph.reach_counts(&seeds, &all), expected);
    eprintln!("{:.1} bytes a node", graph.memory_bytes() as f64 / graph.len() as f64);
}
