//! What changed comes in, as derivations before and after; why it did comes out: the derivations that differ by
//! themselves, with what follows from each, most consequences first.
//!
//! A new attribute is no consequence of anything but itself. Of those that are new and need each other only the lowest
//! are told, and the others are among what follows from them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use nix_types::{DrvPath, System};

use super::consequences::{Consequences, follow};
use super::pairs::{World, pairs};
use crate::change::{CONSEQUENCES_LISTED_MAX, Difference, JobAttr, RootCause};
use crate::graph::{NodeId, NodeSet};

/// Most root causes that are listed; those from which less follows are left out beyond.
pub const ROOT_CAUSES_LISTED_MAX: usize = 1000;

/// An attribute whose derivation is another one than before, or that had none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Which one.
    pub(super) attr: JobAttr,
    /// Where it is built.
    pub(super) system: System,
    /// Its derivation at the base, if it had one.
    pub(super) before: Option<DrvPath>,
    /// Its derivation now.
    pub(super) after: DrvPath,
}

/// The root causes of `changed`, which are in order of their attributes. `new` is all that is in no closure of the base.
/// At most [`ROOT_CAUSES_LISTED_MAX`] of them, and how many there are.
pub(super) fn root_causes(world: World<'_>, new: &NodeSet, changed: &[Changed]) -> (Vec<RootCause>, usize) {
    let mut causes = unseen(world, changed);
    let attrs: Vec<(usize, NodeId)> =
        changed.iter().enumerate().filter_map(|(at, one)| Some((at, world.graph.id(&one.after)?))).collect();
    let roots = roots(world, new, changed, &attrs);
    let ids: Vec<NodeId> = roots.keys().copied().collect();
    let nodes: Vec<NodeId> = attrs.iter().map(|(_, id)| *id).collect();
    let followed = follow(world.graph, &ids, &nodes, new);
    causes.extend(roots.into_iter().zip(followed).map(|((after, root), consequences)| {
        let Consequences { attrs: count, attrs_alone, drvs, examples } = consequences;
        RootCause {
            before: root.before,
            after: world.graph.path(after),
            system: world.graph.facts(after).system.clone(),
            differences: root.differences,
            attrs: count,
            examples: examples.iter().map(|at| changed[attrs[*at].0].attr.clone()).collect(),
            drvs,
            attrs_alone,
        }
    }));
    let total = causes.len();
    causes.sort_by(|a, b| order(a).cmp(&order(b)));
    causes.truncate(ROOT_CAUSES_LISTED_MAX);
    (causes, total)
}

fn order(cause: &RootCause) -> (Reverse<usize>, Reverse<usize>, &str, &DrvPath) {
    (Reverse(cause.attrs), Reverse(cause.drvs), cause.after.drv_name(), &cause.after)
}

/// A derivation that differs by itself.
struct Root {
    before: Option<DrvPath>,
    differences: Vec<Difference>,
}

fn roots(
    world: World<'_>,
    new: &NodeSet,
    changed: &[Changed],
    attrs: &[(usize, NodeId)],
) -> BTreeMap<NodeId, Root> {
    let mut roots = BTreeMap::new();
    let mut starts = Vec::new();
    for (at, after) in attrs {
        let Some(before) = &changed[*at].before else { continue };
        match world.graph.id(before) {
            Some(before) => starts.push((before, *after)),
            None => {
                let differences = vec![Difference::Unknown];
                roots.insert(*after, Root { before: Some(before.clone()), differences });
            }
        }
    }
    let mut explained: BTreeSet<NodeId> = roots.keys().copied().collect();
    // Of several counterparts the closest one: if all that differs from it follows from elsewhere, so it is.
    let mut closest: HashMap<NodeId, super::pairs::Pair> = HashMap::new();
    for pair in pairs(world, starts) {
        explained.insert(pair.after);
        let is_closer =
            closest.get(&pair.after).is_none_or(|known| pair.differences.len() < known.differences.len());
        if is_closer {
            closest.insert(pair.after, pair);
        }
    }
    for (after, pair) in closest.into_iter().filter(|(_, pair)| !pair.differences.is_empty()) {
        let before = Some(world.graph.path(pair.before));
        roots.entry(after).or_insert(Root { before, differences: pair.differences });
    }
    for id in lowest_added(world, new, changed, attrs, &explained) {
        roots.insert(id, Root { before: None, differences: vec![Difference::New] });
    }
    roots
}

/// New derivations of new attributes that need no other such one.
fn lowest_added(
    world: World<'_>,
    new: &NodeSet,
    changed: &[Changed],
    attrs: &[(usize, NodeId)],
    explained: &BTreeSet<NodeId>,
) -> Vec<NodeId> {
    let added = attrs.iter().filter(|(at, id)| changed[*at].before.is_none() && new.contains(*id));
    let added: NodeSet = added.map(|(_, id)| *id).filter(|id| !explained.contains(id)).collect();
    let mut above = NodeSet::default();
    let mut lowest = Vec::new();
    for id in new.iter() {
        let needs_one =
            world.graph.inputs(id).iter().any(|input| added.contains(*input) || above.contains(*input));
        if needs_one {
            above.insert(id);
        } else if added.contains(id) {
            lowest.push(id);
        }
    }
    lowest
}

/// Changed attributes whose derivation is not in the graph: nothing can be said but that.
fn unseen(world: World<'_>, changed: &[Changed]) -> Vec<RootCause> {
    let mut causes: BTreeMap<&DrvPath, RootCause> = BTreeMap::new();
    for one in changed.iter().filter(|one| one.before.is_some() && world.graph.id(&one.after).is_none()) {
        let cause = causes.entry(&one.after).or_insert_with(|| RootCause {
            before: one.before.clone(),
            after: one.after.clone(),
            system: one.system.clone(),
            differences: vec![Difference::Unknown],
            attrs: 0,
            examples: Vec::new(),
            drvs: 0,
            attrs_alone: 0,
        });
        cause.attrs += 1;
        cause.attrs_alone += 1;
        if cause.examples.len() < CONSEQUENCES_LISTED_MAX {
            cause.examples.push(one.attr.clone());
        }
    }
    causes.into_values().collect()
}
