//! Two evaluations of a repository come in, base and head, with a graph of the derivations of both; what the change does
//! comes out ([`compare`]): what became of each attribute ([`attrs`]), what must be built, why, and whether that is good
//! ([`judge`]). Pure: what derivations make is in [`Outputs`], and what their files say is asked of [`DrvFacts`], for root
//! causes alone.

mod attrs;
mod causes;
mod consequences;
mod differences;
mod drvs;
mod facts;
mod inputs;
mod meta;
mod names;
mod only;
mod outputs;
mod pairs;
mod reach;
mod renames;
mod shown;
mod texts;
mod translate;
mod verdict;

pub use attrs::{AttrDiff, Fixed, attrs};
pub use causes::ROOT_CAUSES_LISTED_MAX;
pub use differences::DIFFERENCES_LISTED_MAX;
pub use facts::{DrvFacts, NoFacts};
pub use outputs::{OutputHash, Outputs, output_hashes};
pub use pairs::COUNTERPARTS_MAX;
pub use reach::REACH_LISTED_MAX;
pub use verdict::{Judgement, MAX_REBUILD_COUNT, incomplete, judge};

use self::causes::Changed;
use self::pairs::World;
use crate::change::Comparison;
use crate::flow::Evaluation;
use crate::graph::{Graph, NodeId, NodeSet};

/// Compares base and head, which may be empty. The graph holds the derivations of both with all they need; what it does
/// not hold is counted in [`Comparison::unseen`], and then what depends on the graph is as good as what is there; where no
/// attribute of the head has another derivation than before, nothing depends on it, and nothing is counted.
/// It may hold others too. Of a node whose outputs are not known it is taken that they are to be built. Without a base there
/// is nothing to explain: there are no root causes, and no file is asked for.
#[must_use]
pub fn compare(
    base: &[Evaluation],
    head: &[Evaluation],
    graph: &Graph,
    outputs: &Outputs,
    facts: &dyn DrvFacts,
) -> Comparison {
    let AttrDiff { changes, mut systems, errors, fixed } = attrs(base, head);
    let (before, unseen_before) = all_drvs(graph, base);
    let (after, unseen_after) = all_drvs(graph, head);
    let world = World { graph, base: &before, facts };
    let new = after.minus(&before);
    drvs::count(world, outputs, &new, &mut systems);
    let mut changed: Vec<Changed> = changes
        .iter()
        .filter(|change| change.before != change.after)
        .filter_map(|change| {
            let (attr, system) = (change.attr.clone(), change.system.clone());
            Some(Changed { attr, system, before: change.before.clone(), after: change.after.clone()? })
        })
        .collect();
    changed.extend(fixed.into_iter().map(|Fixed { attr, system, drv }| Changed {
        attr,
        system,
        before: None,
        after: drv,
    }));
    changed.sort_by(|a, b| a.attr.cmp(&b.attr));
    let (root_causes, root_causes_total) =
        if base.is_empty() { (Vec::new(), 0) } else { causes::root_causes(world, &new, &changed) };
    let (reach, reach_total) = reach::furthest(graph, &after, &changed);
    // Where each attribute of the head is what one of the base is, no derivation can be new, seen or not.
    let unseen = if changed.is_empty() { 0 } else { unseen_before + unseen_after };
    Comparison { changes, systems, root_causes, root_causes_total, reach, reach_total, errors, unseen }
}

/// All that attributes need, and how many attributes have a derivation that is not in the graph.
fn all_drvs(graph: &Graph, of: &[Evaluation]) -> (NodeSet, usize) {
    let attrs = of.iter().flat_map(|evaluation| &evaluation.attrs);
    let ids: Vec<Option<NodeId>> = attrs.map(|attr| graph.id(&attr.drv)).collect();
    let seen: Vec<NodeId> = ids.iter().flatten().copied().collect();
    (graph.closure_of(&seen), ids.len() - seen.len())
}
