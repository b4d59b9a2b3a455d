//! The derivations of both sides come in; those of the head that are in no closure of the base come out, by system: what
//! is new, and how much of it makes only what derivations of the base make, and so needs no build.

use std::collections::{BTreeMap, HashSet};

use nix_types::{Derivation, StorePath, System};

use super::pairs::World;
use crate::change::SystemCounts;
use crate::graph::{NodeId, NodeSet};

/// Counts the nodes of `new`.
pub(super) fn count(world: World<'_>, new: &NodeSet, systems: &mut BTreeMap<System, SystemCounts>) {
    let same = same_outputs(world, new);
    for id in new.iter() {
        let counts = systems.entry(world.graph.facts(id).system.clone()).or_default();
        counts.drvs += 1;
        counts.same_outputs += usize::from(same.contains(id));
    }
}

/// Those of `new` all of whose outputs have paths that derivations of the base have. That can only come from an output
/// that is fixed in advance, for any other path depends on all that its derivation says.
fn same_outputs(world: World<'_>, new: &NodeSet) -> NodeSet {
    let mut same = NodeSet::default();
    // An output's path holds the name, so only what is called the same can have the same.
    let names: HashSet<&str> = new.iter().map(|id| world.graph.name(id)).collect();
    let mut made: HashSet<StorePath> = HashSet::new();
    for id in world.base.iter().filter(|id| names.contains(world.graph.name(*id))) {
        made.extend(paths(world, id).unwrap_or_default());
    }
    for id in new.iter() {
        if paths(world, id).is_some_and(|paths| paths.iter().all(|path| made.contains(path))) {
            same.insert(id);
        }
    }
    same
}

/// The paths of all outputs, where they are known before the build.
fn paths(world: World<'_>, id: NodeId) -> Option<Vec<StorePath>> {
    let drv = world.read(id)?;
    let Derivation { outputs, .. } = drv.as_ref();
    outputs.values().map(|output| output.path.clone()).collect()
}
