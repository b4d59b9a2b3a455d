//! What two derivations need comes in, one of the base and one of the head that takes its place; which of these inputs
//! take each other's place comes out, and which have come or gone. Names decide: the whole name, then the name without
//! its version, then without any digit (`python3.12-x`, `python3.13-x`), then what they need in turn; and where several
//! still have one name, the places where the texts of the two derivations speak of them. Nothing is guessed: what could
//! be either of two stays unclear.

use std::collections::{HashMap, HashSet};

use nix_types::{Derivation, StorePath, System};

use super::names::split_name;
use super::only::take_pairs;
use super::translate::hashes_in;
use crate::graph::{Graph, NodeId, NodeSet};

/// Inputs of two derivations, side by side. What both need is left out.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// Those that take each other's place.
    pub(super) pairs: Vec<(NodeId, NodeId)>,
    /// Those that have no counterpart at the head.
    pub(super) gone: Vec<NodeId>,
    /// Those that have none at the base, or were there before the change.
    pub(super) came: Vec<NodeId>,
    /// Those of the base of which several have one name.
    pub(super) unclear_before: Vec<NodeId>,
    /// Those of the head that have that name.
    pub(super) unclear_after: Vec<NodeId>,
}

/// Pairs the inputs. `base` is all that the base has: what a new derivation needs of it was not made by the change, so
/// it takes nobody's place.
pub(super) fn side_by_side(graph: &Graph, base: &NodeSet, before: NodeId, after: NodeId) -> Inputs {
    let (ours, theirs) = (graph.inputs(before), graph.inputs(after));
    let only = |these: &[NodeId], those: &[NodeId]| -> Vec<NodeId> {
        these.iter().filter(|id| those.binary_search(id).is_err()).copied().collect()
    };
    let mut gone = only(ours, theirs);
    let is_new = !base.contains(after);
    let (mut came, was_there): (Vec<_>, Vec<_>) =
        only(theirs, ours).into_iter().partition(|input| !is_new || !base.contains(*input));
    let system = |id: NodeId| &graph.facts(id).system;
    let mut pairs = take_pairs(&mut gone, &mut came, |id| Some((graph.name(id), system(id))));
    pairs.extend(take_pairs(&mut gone, &mut came, |id| Some((split_name(graph.name(id)).0, system(id)))));
    pairs.extend(take_pairs(&mut gone, &mut came, |id| Some(loosely(graph, id))));
    let shape = |id: NodeId| -> Vec<(String, &System)> {
        std::iter::once(id).chain(graph.inputs(id).iter().copied()).map(|id| loosely(graph, id)).collect()
    };
    let mut inputs = Inputs { pairs, gone, came, ..Inputs::default() };
    inputs.set_unclear_apart(graph);
    let sorted = |id| {
        let mut shape = shape(id);
        shape[1..].sort_unstable();
        Some(shape)
    };
    inputs.pairs.extend(take_pairs(&mut inputs.unclear_before, &mut inputs.unclear_after, sorted));
    inputs.came.extend(was_there);
    inputs
}

/// A name without version and digits, and where it is built.
fn loosely(graph: &Graph, id: NodeId) -> (String, &System) {
    let name = split_name(graph.name(id)).0;
    (name.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect(), &graph.facts(id).system)
}

impl Inputs {
    /// Is there something that could be either of two?
    pub(super) fn are_unclear(&self) -> bool {
        !self.unclear_before.is_empty() && !self.unclear_after.is_empty()
    }

    fn set_unclear_apart(&mut self, graph: &Graph) {
        if self.gone.is_empty() || self.came.is_empty() {
            return;
        }
        let names = |ids: &[NodeId]| -> HashSet<_> { ids.iter().map(|id| loosely(graph, *id)).collect() };
        let (before, after) = (names(&self.gone), names(&self.came));
        let is_clear = |id: &NodeId| {
            let name = loosely(graph, *id);
            !(before.contains(&name) && after.contains(&name))
        };
        (self.gone, self.unclear_before) = std::mem::take(&mut self.gone).into_iter().partition(is_clear);
        (self.came, self.unclear_after) = std::mem::take(&mut self.came).into_iter().partition(is_clear);
    }

    /// Pairs what is unclear by the variables of both derivations: two that stand at the same place of the same
    /// variable take each other's place, unless another place says otherwise.
    pub(super) fn pair_by_texts(
        &mut self,
        graph: &Graph,
        (before, after): (&Derivation, &Derivation),
        outputs: &mut dyn FnMut(NodeId) -> Vec<StorePath>,
    ) {
        let mut places = |ids: &[NodeId]| -> HashMap<String, NodeId> {
            let mut places = HashMap::new();
            for id in ids {
                places.extend(outputs(*id).iter().map(|path| (path.hash_part().to_owned(), *id)));
            }
            places
        };
        let (ours, theirs) = (places(&self.unclear_before), places(&self.unclear_after));
        let (mut forth, mut back) = (Votes::default(), Votes::default());
        for (name, text) in &before.env {
            let Some(other) = after.env.get(name) else { continue };
            let (text, other) = (named_in(text, &ours), named_in(other, &theirs));
            if text.len() != other.len() {
                continue;
            }
            for (from, to) in text.into_iter().zip(other) {
                if loosely(graph, from) == loosely(graph, to) {
                    forth.cast(from, to);
                    back.cast(to, from);
                }
            }
        }
        let agreed = |from: NodeId| forth.winner(from).filter(|to| back.winner(*to) == Some(from));
        let pairs: Vec<_> = self.unclear_before.iter().filter_map(|id| Some((*id, agreed(*id)?))).collect();
        self.unclear_before.retain(|id| agreed(*id).is_none());
        let taken: HashSet<NodeId> = pairs.iter().map(|(_, to)| *to).collect();
        self.unclear_after.retain(|id| !taken.contains(id));
        self.pairs.extend(pairs);
    }
}

fn named_in(text: &[u8], ids: &HashMap<String, NodeId>) -> Vec<NodeId> {
    hashes_in(text).filter_map(|hash| ids.get(std::str::from_utf8(hash).ok()?).copied()).collect()
}

/// For each node the one that it was found beside; `None` when there were two.
#[derive(Default)]
struct Votes(HashMap<NodeId, Option<NodeId>>);

impl Votes {
    fn cast(&mut self, of: NodeId, to: NodeId) {
        let known = self.0.entry(of).or_insert(Some(to));
        if *known != Some(to) {
            *known = None;
        }
    }

    fn winner(&self, of: NodeId) -> Option<NodeId> {
        self.0.get(&of).copied().flatten()
    }
}
