//! Derivations of base and head that take each other's place come in, those of changed attributes; all pairs further
//! down that they lead to come out, needs before their users, each with what is different about it by itself. What is
//! the same on both sides is never looked at, so the work is bounded by what changed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use nix_types::{Derivation, DrvPath, StorePath};

use super::differences::{bounded, own};
use super::facts::DrvFacts;
use super::inputs::{Inputs, side_by_side};
use super::shown::shown;
use super::texts::Unmatched;
use super::translate::Dictionary;
use crate::change::Difference;
use crate::graph::{Graph, NodeId, NodeSet};

/// Most derivations of the base that one of the head is compared with. Two are seen where a change merges what was
/// built twice; beyond that somebody plays with us.
pub const COUNTERPARTS_MAX: usize = 4;
/// Most differences that are kept of all pairs together, 600 bytes each at most; of every pair beyond, one is kept.
const DIFFERENCES_KEPT_MAX: usize = 100_000;

/// Two derivations that take each other's place.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) before: NodeId,
    pub(super) after: NodeId,
    /// What differs by itself. Empty when everything follows from pairs further down.
    pub(super) differences: Vec<Difference>,
}

/// What everything is asked of.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) graph: &'a Graph,
    /// All derivations of the base.
    pub(super) base: &'a NodeSet,
    pub(super) facts: &'a dyn DrvFacts,
}

/// All pairs, in ascending order of what is new in them.
pub(super) fn pairs(world: World<'_>, starts: impl IntoIterator<Item = (NodeId, NodeId)>) -> Vec<Pair> {
    let mut found = find(world, starts);
    found.sort_unstable_by_key(|(before, after, _)| (*after, *before));
    let mut compare = Compare { world, known: HashMap::new(), dictionary: Dictionary::default() };
    let mut kept = 0;
    let pair = |(before, after, inputs)| {
        let mut differences = compare.differences(before, after, &inputs);
        if kept >= DIFFERENCES_KEPT_MAX {
            differences.truncate(1);
            differences.shrink_to_fit();
        }
        kept += differences.len();
        Pair { before, after, differences }
    };
    found.into_iter().map(pair).collect()
}

type Found = (NodeId, NodeId, Inputs);

fn find(world: World<'_>, starts: impl IntoIterator<Item = (NodeId, NodeId)>) -> Vec<Found> {
    let mut seen = HashSet::new();
    let mut counterparts: HashMap<NodeId, usize> = HashMap::new();
    let mut is_to_do = |pair: &(NodeId, NodeId)| {
        if pair.0 == pair.1 || seen.contains(pair) {
            return false;
        }
        let count = counterparts.entry(pair.1).or_default();
        *count += 1;
        *count <= COUNTERPARTS_MAX && seen.insert(*pair)
    };
    let mut open: Vec<_> = starts.into_iter().filter(&mut is_to_do).collect();
    let mut found = Vec::new();
    while let Some((before, after)) = open.pop() {
        let mut inputs = side_by_side(world.graph, world.base, before, after);
        if inputs.are_unclear()
            && let (Some(ours), Some(theirs)) = (world.read(before), world.read(after))
        {
            inputs.pair_by_texts(world.graph, (&ours, &theirs), &mut |id| world.output_paths(id));
        }
        open.extend(inputs.pairs.iter().copied().filter(&mut is_to_do));
        found.push((before, after, inputs));
    }
    found
}

impl<'a> World<'a> {
    /// What the file of a node says, when it is there.
    pub(super) fn read(&self, id: NodeId) -> Option<Cow<'a, Derivation>> {
        self.facts.get(&self.graph.path(id))
    }

    fn output_paths(&self, id: NodeId) -> Vec<StorePath> {
        let Some(drv) = self.read(id) else { return Vec::new() };
        drv.outputs.values().filter_map(|output| output.path.clone()).collect()
    }
}

/// What is remembered of a derivation that was compared.
struct Known {
    path: DrvPath,
    outputs: Vec<(String, Option<StorePath>)>,
}

impl Known {
    fn of(path: DrvPath, drv: &Derivation) -> Self {
        let outputs = drv.outputs.iter().map(|(name, output)| (name.clone(), output.path.clone())).collect();
        Self { path, outputs }
    }

    /// Notes that `to` takes the place of `self`, wherever a dictionary does not say so yet.
    fn becomes(&self, to: &Self, known: Option<&Dictionary>, into: &mut Dictionary) {
        let mut path = |from: &StorePath, to: &StorePath| {
            if known.is_none_or(|known| known.of(from) != Some(to)) {
                into.path(from, to);
            }
        };
        path(self.path.store_path(), to.path.store_path());
        for (name, from) in &self.outputs {
            let counterpart = to.outputs.iter().find(|(other, _)| other == name);
            if let (Some(from), Some((_, Some(to)))) = (from, counterpart) {
                path(from, to);
            }
        }
        for (name, from) in &self.outputs {
            if from.is_none() {
                into.placeholder(name, &self.path, &to.path);
            }
        }
    }
}

/// Compares pairs whose inputs were compared before.
struct Compare<'a> {
    world: World<'a>,
    known: HashMap<NodeId, Known>,
    /// What takes the place of what, first come first served.
    dictionary: Dictionary,
}

impl Compare<'_> {
    fn differences(&mut self, before: NodeId, after: NodeId, inputs: &Inputs) -> Vec<Difference> {
        let mut found = self.of_shape(inputs);
        match (self.world.read(before), self.world.read(after)) {
            (Some(ours), Some(theirs)) => {
                self.note(before, after, &ours, &theirs);
                self.of_outputs_used(&ours, &theirs, inputs, &mut found);
                let exceptions = self.exceptions(before, after, inputs);
                let unmatched = self.unmatched(inputs);
                found.extend(own(&ours, &theirs, &[&exceptions, &self.dictionary], unmatched));
            }
            _ => self.without_files(before, after, &mut found),
        }
        if found.is_empty() && inputs.pairs.is_empty() {
            found.push(Difference::Unknown);
        }
        bounded(found)
    }

    /// What the graph says by itself.
    fn of_shape(&self, inputs: &Inputs) -> Vec<Difference> {
        let names = |ids: &[NodeId]| -> Vec<String> {
            let mut names: Vec<_> =
                ids.iter().map(|id| shown(self.world.graph.name(*id).as_bytes())).collect();
            names.sort_unstable();
            names
        };
        let mut found: Vec<_> =
            names(&inputs.came).into_iter().map(|name| Difference::InputAdded { name }).collect();
        found.extend(names(&inputs.gone).into_iter().map(|name| Difference::InputRemoved { name }));
        if !inputs.unclear_before.is_empty() || !inputs.unclear_after.is_empty() {
            found.push(Difference::Unknown);
        }
        found
    }

    /// What names and systems say where there is no file.
    fn without_files(&self, before: NodeId, after: NodeId, found: &mut Vec<Difference>) {
        let graph = self.world.graph;
        let (from, to) = (graph.name(before), graph.name(after));
        if from != to {
            let (from, to) = (Some(shown(from.as_bytes())), Some(shown(to.as_bytes())));
            found.push(Difference::Env { name: "name".into(), from, to });
        }
        let (from, to) = (&graph.facts(before).system, &graph.facts(after).system);
        if from != to {
            found.push(Difference::System { from: from.clone(), to: to.clone() });
        }
    }

    fn note(&mut self, before: NodeId, after: NodeId, ours: &Derivation, theirs: &Derivation) {
        let graph = self.world.graph;
        for (id, drv) in [(before, ours), (after, theirs)] {
            self.known.entry(id).or_insert_with(|| Known::of(graph.path(id), drv));
        }
        if let (Some(from), Some(to)) = (self.known.get(&before), self.known.get(&after)) {
            from.becomes(to, None, &mut self.dictionary);
        }
    }

    /// What the common dictionary has otherwise: an input that another derivation replaces by another one, or one that
    /// stays here and is replaced elsewhere.
    fn exceptions(&self, before: NodeId, after: NodeId, inputs: &Inputs) -> Dictionary {
        let mut exceptions = Dictionary::default();
        let theirs = self.world.graph.inputs(after);
        let ours = self.world.graph.inputs(before).iter();
        let both = ours.filter(|id| theirs.binary_search(id).is_ok()).map(|id| (*id, *id));
        for (from, to) in both.chain(inputs.pairs.iter().copied()).chain([(before, after)]) {
            if let (Some(from), Some(to)) = (self.known.get(&from), self.known.get(&to)) {
                from.becomes(to, Some(&self.dictionary), &mut exceptions);
            }
        }
        exceptions
    }

    /// Outputs of what has come or gone, which texts speak of.
    fn unmatched(&self, inputs: &Inputs) -> Unmatched {
        let mut unmatched = Unmatched::default();
        for id in inputs.gone.iter().chain(&inputs.unclear_before) {
            self.world.output_paths(*id).iter().for_each(|path| unmatched.before.add(path));
        }
        for id in inputs.came.iter().chain(&inputs.unclear_after) {
            self.world.output_paths(*id).iter().for_each(|path| unmatched.after.add(path));
        }
        unmatched
    }

    fn of_outputs_used(
        &self,
        ours: &Derivation,
        theirs: &Derivation,
        inputs: &Inputs,
        found: &mut Vec<Difference>,
    ) {
        let mut note = |path: &DrvPath| {
            found.push(Difference::InputOutputs { name: shown(path.drv_name().as_bytes()) });
        };
        for (path, outputs) in &ours.input_drvs {
            if theirs.input_drvs.get(path).is_some_and(|other| other != outputs) {
                note(path);
            }
        }
        let path = |id: NodeId| self.known.get(&id).map(|known| &known.path);
        for (from, to) in &inputs.pairs {
            let (Some(from), Some(to)) = (path(*from), path(*to)) else { continue };
            let (ours, theirs) = (ours.input_drvs.get(from), theirs.input_drvs.get(to));
            if ours.zip(theirs).is_some_and(|(ours, theirs)| ours != theirs) {
                note(to);
            }
        }
    }
}
