//! Attributes that changed come in; those from which most follows come out, with how many derivations of the head need
//! each, exactly; and how many attributes others need at all.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nix_types::System;

use super::causes::Changed;
use crate::change::Reach;
use crate::graph::{Graph, NodeId, NodeSet};

/// Most attributes of one system that are listed.
pub const REACH_LISTED_MAX: usize = 10;

/// The first attribute of each derivation that others need, furthest first, cut by system, and how many there were before
/// the cut. `head` is all that the head has; `changed` is in order of attributes.
pub(super) fn furthest(graph: &Graph, head: &NodeSet, changed: &[Changed]) -> (Vec<Reach>, usize) {
    let mut first: BTreeMap<NodeId, &Changed> = BTreeMap::new();
    for one in changed {
        if let Some(id) = graph.id(&one.after) {
            first.entry(id).or_insert(one);
        }
    }
    let seeds: Vec<NodeId> = first.keys().copied().collect();
    let counts = graph.reach_counts(&seeds, head);
    let mut all: Vec<(usize, &Changed)> = counts.into_iter().zip(first.into_values()).collect();
    all.retain(|(dependants, _)| *dependants > 0);
    all.sort_by_key(|(dependants, one)| (Reverse(*dependants), &one.attr));
    let total = all.len();
    let mut listed: BTreeMap<&System, usize> = BTreeMap::new();
    all.retain(|(_, one)| {
        let of_system = listed.entry(&one.system).or_default();
        *of_system += 1;
        *of_system <= REACH_LISTED_MAX
    });
    let shown = |(dependants, one): (usize, &Changed)| Reach {
        attr: one.attr.clone(),
        system: one.system.clone(),
        dependants,
    };
    (all.into_iter().map(shown).collect(), total)
}
