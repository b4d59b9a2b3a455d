//! The derivations of both sides come in; those of the head that are in no closure of the base come out, by system: what
//! is new, and how much of it makes only what derivations of the base make, and so needs no build.

use std::collections::{BTreeMap, HashSet};

use nix_types::System;

use super::outputs::{OutputHash, Outputs};
use super::pairs::World;
use crate::change::SystemCounts;
use crate::graph::{NodeId, NodeSet};

/// Counts the nodes of `new`.
pub(super) fn count(
    world: World<'_>,
    outputs: &Outputs,
    new: &NodeSet,
    systems: &mut BTreeMap<System, SystemCounts>,
) {
    let same = same_outputs(world, outputs, new);
    for id in new.iter() {
        let counts = systems.entry(world.graph.facts(id).system.clone()).or_default();
        counts.drvs += 1;
        counts.same_outputs += usize::from(same.contains(id));
    }
}

/// Those of `new` all of whose outputs have paths that derivations of the base have, be those in the head too or not. That
/// can only come from an output that is fixed in advance, for any other path depends on all that its derivation says.
fn same_outputs(world: World<'_>, outputs: &Outputs, new: &NodeSet) -> NodeSet {
    let name = |id: NodeId| world.graph.name(id);
    // An output's path holds the name, so only what is called the same can have the same.
    let names: HashSet<&str> = new.iter().map(name).collect();
    let mut made: HashSet<(&str, &OutputHash)> = HashSet::new();
    for id in world.base.iter().filter(|id| names.contains(name(*id))) {
        made.extend(outputs.of(id).unwrap_or_default().iter().map(|hash| (name(id), hash)));
    }
    let is_made = |id: NodeId| {
        outputs.of(id).is_some_and(|hashes| hashes.iter().all(|hash| made.contains(&(name(id), hash))))
    };
    new.iter().filter(|id| is_made(*id)).collect()
}
