//! What is evicted, and that it is read again: the cache beside a naive one that sorts all it has at every step.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use ci_model::flow::BuildState;
use ci_model::graph::NodeId;
use ci_model::graph::cache::{
    Cache, CacheReport, Known, Loaded, Loader, Metric, ReportLine, Tier, Value, miss_line,
};
use nix_types::DrvPath;
use proptest::prelude::*;

use crate::graph::small;

const NODES: usize = 24;

/// What was written down.
type Database = BTreeMap<DrvPath, (BuildState, u32)>;

struct Reader<'d>(&'d Database);

impl Loader<u32> for Reader<'_> {
    type Error = Infallible;

    fn load(&mut self, drv: &DrvPath) -> Result<Loaded<u32>, Infallible> {
        let (state, value) = self.0[drv];
        Ok(Loaded { state, value, took: Duration::from_millis(3) })
    }
}

struct Broken;

impl Loader<u32> for Broken {
    type Error = &'static str;

    fn load(&mut self, _: &DrvPath) -> Result<Loaded<u32>, &'static str> {
        Err("the disk is gone")
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, BuildState, u32),
    SetState(usize, BuildState),
    Get(usize),
    Pin(usize),
    Unpin(usize),
    Check(usize),
    Compact,
}

fn any_step() -> impl Strategy<Value = Step> {
    let state = || prop::sample::select(BuildState::ALL.to_vec());
    prop_oneof![
        4 => (0..NODES, state(), any::<u32>()).prop_map(|(node, state, value)| Step::Insert(node, state, value)),
        4 => (0..NODES, state()).prop_map(|(node, state)| Step::SetState(node, state)),
        4 => (0..NODES).prop_map(Step::Get),
        2 => (0..NODES).prop_map(Step::Pin),
        2 => (0..NODES).prop_map(Step::Unpin),
        2 => (0..NODES).prop_map(Step::Check),
        1 => Just(Step::Compact),
    ]
}

/// The naive one.
struct Model {
    capacity: usize,
    clock: u64,
    /// State, pins, last use.
    nodes: BTreeMap<usize, (BuildState, u32, u64)>,
    evicted: usize,
}

impl Model {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn shrink(&mut self, most: usize) {
        while self.nodes.len() > most {
            let candidates = self.nodes.iter().filter(|(_, (_, pins, _))| *pins == 0);
            let ranked =
                candidates.filter_map(|(node, (state, _, used))| Some((Tier::of(*state)?, *used, *node)));
            let Some((_, _, node)) = ranked.min() else { return };
            self.nodes.remove(&node);
            self.evicted += 1;
        }
    }

    /// Marks as used; brings in what is not there.
    fn touch(&mut self, node: usize, state: BuildState) {
        let used = self.tick();
        if let Some(known) = self.nodes.get_mut(&node) {
            known.2 = used;
        } else {
            self.shrink(self.capacity - 1);
            self.nodes.insert(node, (state, 0, used));
        }
    }
}

fn needs() -> Vec<Vec<usize>> {
    (0..NODES).map(|node| if node < 4 { Vec::new() } else { vec![node % 4, node / 2] }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn the_right_one_is_evicted_and_none_is_wrong(capacity in 1usize..20, steps in prop::collection::vec(any_step(), 0..120)) {
        let graph = small(&needs());
        let paths: Vec<DrvPath> = graph.ids().map(|id| graph.path(id)).collect();
        let mut cache = Cache::over(graph, capacity);
        let mut database: Database = paths.iter().map(|path| (path.clone(), (BuildState::Queued, 0))).collect();
        let mut model = Model { capacity, clock: 0, nodes: BTreeMap::new(), evicted: 0 };
        for step in steps {
            step_both(&step, &paths, &mut cache, &mut database, &mut model)?;
            compare(&paths, &cache, &database, &model)?;
        }
        for path in &paths {
            let id = cache.graph().id(path).unwrap();
            let known = cache.get(id, &mut Reader(&database)).unwrap();
            prop_assert_eq!((known.state, *known.value), database[path]);
        }
    }
}

fn step_both(
    step: &Step,
    paths: &[DrvPath],
    cache: &mut Cache<u32>,
    database: &mut Database,
    model: &mut Model,
) -> Result<(), TestCaseError> {
    let id = |cache: &Cache<u32>, node: usize| cache.graph().id(&paths[node]).unwrap();
    match *step {
        Step::Insert(node, state, value) => {
            database.insert(paths[node].clone(), (state, value));
            cache.insert(id(cache, node), state, value);
            model.touch(node, state);
            model.nodes.get_mut(&node).unwrap().0 = state;
            model.shrink(model.capacity);
        }
        Step::SetState(node, state) => {
            database.get_mut(&paths[node]).unwrap().0 = state;
            let known = cache.set_state(id(cache, node), state);
            prop_assert_eq!(known, model.nodes.contains_key(&node));
            if known {
                model.touch(node, state);
                model.nodes.get_mut(&node).unwrap().0 = state;
                model.shrink(model.capacity);
            }
        }
        Step::Get(node) => {
            let id = id(cache, node);
            let Known { state, value } = cache.get(id, &mut Reader(database)).unwrap();
            prop_assert_eq!((state, *value), database[&paths[node]]);
            model.touch(node, state);
        }
        Step::Pin(node) => {
            let id = id(cache, node);
            cache.pin(id, &mut Reader(database)).unwrap();
            model.touch(node, database[&paths[node]].0);
            model.nodes.get_mut(&node).unwrap().1 += 1;
        }
        Step::Unpin(node) => {
            let had = model.nodes.get(&node).is_some_and(|(_, pins, _)| *pins > 0);
            prop_assert_eq!(cache.unpin(id(cache, node)), had);
            if had {
                model.touch(node, BuildState::Queued);
                model.nodes.get_mut(&node).unwrap().1 -= 1;
                model.shrink(model.capacity);
            }
        }
        Step::Check(node) => {
            let id = id(cache, node);
            let inputs: Vec<DrvPath> =
                cache.graph().inputs(id).iter().map(|id| cache.graph().path(*id)).collect();
            cache.touch_buildable_check(id);
            for path in inputs.iter().chain([&paths[node]]) {
                let used = model.tick();
                let node = paths.iter().position(|other| other == path).unwrap();
                if let Some(known) = model.nodes.get_mut(&node) {
                    known.2 = used;
                }
            }
        }
        Step::Compact => {
            let all: Vec<NodeId> = cache.graph().ids().collect();
            let moves = cache.compact(&all);
            prop_assert_eq!(moves.len(), NODES);
        }
    }
    Ok(())
}

fn compare(
    paths: &[DrvPath],
    cache: &Cache<u32>,
    database: &Database,
    model: &Model,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(cache.len(), model.nodes.len());
    let is_pinned = |(state, pins, _): &&(BuildState, u32, u64)| *pins > 0 || *state == BuildState::Building;
    prop_assert_eq!(cache.pinned(), model.nodes.values().filter(is_pinned).count());
    for (node, path) in paths.iter().enumerate() {
        let id = cache.graph().id(path).unwrap();
        let known = cache.peek(id).map(|known| (known.state, *known.value));
        prop_assert_eq!(known, model.nodes.contains_key(&node).then(|| database[path]));
    }
    for tier in Tier::ALL {
        let in_it = |known: &&(BuildState, u32, u64)| known.1 == 0 && Tier::of(known.0) == Some(tier);
        prop_assert_eq!(cache.candidates(tier), model.nodes.values().filter(in_it).count());
    }
    let metrics = cache.metrics();
    prop_assert_eq!(sum(&metrics, "eka_ci_graph_nodes_total"), model.nodes.len() as f64);
    prop_assert_eq!(sum(&metrics, "eka_ci_graph_evictions_total"), model.evicted as f64);
    Ok(())
}

/// All values of a metric, over its labels.
fn sum(metrics: &[Metric], name: &str) -> f64 {
    let of = |metric: &Metric| match &metric.value {
        Value::Gauge(value) => *value,
        Value::Counter(count) => *count as f64,
        Value::Histogram(histogram) => histogram.count() as f64,
    };
    metrics.iter().filter(|metric| metric.name == name).map(of).sum()
}

#[test]
fn every_documented_metric_is_there_with_its_labels() {
    let metrics = Cache::<u32>::over(small(&needs()), 10).metrics();
    let names: BTreeSet<(&str, Option<&str>)> =
        metrics.iter().map(|metric| (metric.name, metric.label.map(|(label, _)| label))).collect();
    let documented = [
        ("eka_ci_graph_nodes_total", Some("state")),
        ("eka_ci_graph_memory_bytes_estimate", None),
        ("eka_ci_graph_cache_hits_total", Some("operation")),
        ("eka_ci_graph_cache_misses_total", Some("operation")),
        ("eka_ci_graph_eviction_candidates_total", Some("tier")),
        ("eka_ci_graph_evictions_total", Some("tier")),
        ("eka_ci_graph_ref_count_histogram", Some("has_dependents")),
        ("eka_ci_graph_cache_reloads_total", None),
        ("eka_ci_graph_cache_reload_duration_seconds", None),
        ("eka_ci_graph_pinned_nodes_total", None),
        ("eka_ci_graph_cache_capacity", None),
        ("eka_ci_graph_cache_utilization", None),
        ("eka_ci_graph_cache_size", None),
    ];
    assert_eq!(names, BTreeSet::from(documented));
    let tiers: Vec<&str> = Tier::ALL.map(Tier::label).to_vec();
    assert_eq!(tiers, ["tier1_transitive_failure", "tier2_completed_failure", "tier3_completed_success"]);
    let unique: BTreeSet<_> = metrics.iter().map(|metric| (metric.name, metric.label)).collect();
    assert_eq!(unique.len(), metrics.len(), "a metric is there twice");
}

#[test]
fn metrics_say_what_happened() {
    let graph = small(&needs());
    let ids: Vec<NodeId> = graph.ids().collect();
    let database: Database = graph.ids().map(|id| (graph.path(id), (BuildState::Success, 7))).collect();
    let mut cache = Cache::over(graph, 2);
    for id in &ids[..3] {
        cache.insert(*id, BuildState::Success, 7);
    }
    cache.pin(ids[0], &mut Reader(&database)).unwrap();
    let _known = cache.get(ids[0], &mut Reader(&database)).unwrap();
    let metrics = cache.metrics();
    let value = |name: &str| sum(&metrics, name);
    assert_eq!(value("eka_ci_graph_cache_size"), 2.0);
    assert_eq!(value("eka_ci_graph_cache_utilization"), 1.0);
    assert_eq!(value("eka_ci_graph_evictions_total"), 2.0);
    assert_eq!(value("eka_ci_graph_ref_count_histogram"), 2.0);
    assert_eq!(value("eka_ci_graph_cache_reloads_total"), 1.0);
    assert_eq!(value("eka_ci_graph_cache_reload_duration_seconds"), 1.0);
    assert_eq!(
        (value("eka_ci_graph_cache_hits_total"), value("eka_ci_graph_cache_misses_total")),
        (1.0, 1.0)
    );
    assert_eq!(value("eka_ci_graph_pinned_nodes_total"), 1.0);
    assert_eq!(value("eka_ci_graph_eviction_candidates_total"), 1.0);
    assert!(value("eka_ci_graph_memory_bytes_estimate") > 1000.0);
}

#[test]
fn what_cannot_be_read_is_an_error_and_leaves_no_trace() {
    let mut cache = Cache::<u32>::over(small(&needs()), 2);
    let id = cache.graph().ids().next().unwrap();
    assert_eq!(cache.get(id, &mut Broken), Err("the disk is gone"));
    assert_eq!(cache.pin(id, &mut Broken), Err("the disk is gone"));
    assert_eq!((cache.len(), cache.pinned(), cache.unpin(id)), (0, 0, false));
    assert_eq!(sum(&cache.metrics(), "eka_ci_graph_cache_reloads_total"), 0.0);
}

#[test]
fn an_evicted_node_keeps_its_dependants() {
    let mut cache = Cache::<u32>::over(small(&needs()), 1);
    let ids: Vec<NodeId> = cache.graph().ids().collect();
    let before = cache.graph().dependants_of(&[ids[1]]);
    for id in &ids {
        cache.insert(*id, BuildState::Success, 0);
    }
    assert_eq!((cache.len(), cache.peek(ids[1])), (1, None));
    assert_eq!(cache.graph().dependants_of(&[ids[1]]), before);
}

#[test]
fn a_million_evicted_nodes_leave_nothing_behind() {
    let mut cache = Cache::<u32>::over(small(&vec![Vec::new(); 3000]), 100);
    let ids: Vec<NodeId> = cache.graph().ids().collect();
    let mut most = 0;
    for round in 0..334 {
        for id in &ids {
            cache.insert(*id, BuildState::Success, 0);
        }
        if round == 0 {
            most = cache.memory_bytes();
        }
    }
    // A table's own count of its room goes up and down a little; an entry for each eviction would be 12 MB.
    assert_eq!(cache.len(), 100);
    assert!(cache.memory_bytes() < most + 10_000, "{} bytes after {most}", cache.memory_bytes());
    let moves = cache.compact(&[]);
    assert_eq!((moves.len(), cache.graph().len(), cache.len()), (100, 100, 100));
    assert!(cache.memory_bytes() < most);
}

#[test]
fn live_nodes_may_be_more_than_the_capacity() {
    let mut cache = Cache::<u32>::over(small(&needs()), 3);
    let ids: Vec<NodeId> = cache.graph().ids().collect();
    for id in &ids[..10] {
        cache.insert(*id, BuildState::Building, 0);
    }
    assert_eq!((cache.len(), cache.pinned()), (10, 10));
    for id in &ids[..10] {
        assert!(cache.set_state(*id, BuildState::Success));
    }
    assert_eq!((cache.len(), cache.pinned()), (3, 0));
}

#[test]
fn lines_for_the_log_are_those_that_are_documented() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let info = |text: &str| ReportLine::Info(text.into());
    let warning = |text: &str| ReportLine::Warning(text.into());
    let mut report = CacheReport::default();
    let status = "Cache status: 45000/100000 nodes (45.0% utilized), 123 pinned";
    assert_eq!(report.due(minutes(0), 45_000, 100_000, 123), [info(status)]);
    let elevated = "Cache utilization elevated (82.3%): Monitor for potential capacity issues";
    assert_eq!(report.due(minutes(1), 82_300, 100_000, 123), [warning(elevated)]);
    assert_eq!(report.due(minutes(2), 82_300, 100_000, 123), []);
    let high =
        "Cache utilization HIGH (93.1%): Consider increasing EKA_CI_GRAPH_LRU_CAPACITY (current: 100000)";
    assert_eq!(report.due(minutes(3), 93_100, 100_000, 123), [warning(high)]);
    assert_eq!(report.due(minutes(4), 93_100, 100_000, 123), []);
    assert_eq!(report.due(minutes(8), 93_100, 100_000, 0).len(), 2);

    let at = |nodes| CacheReport::default().due(minutes(0), nodes, 1000, 0).len();
    assert_eq!([799, 800, 899, 900, 2000].map(at), [1, 2, 2, 2, 2]);
    let drv = "/nix/store/q1rm5rl861j6yy2mi0avl6n6p2s32pf7-x.drv";
    assert_eq!(miss_line(&drv.parse().unwrap()), format!("Cache miss: reloading {drv}"));
}
