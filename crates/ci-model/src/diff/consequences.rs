//! Derivations that differ by themselves come in, and the attributes that changed; what follows from each of them comes
//! out, exactly. One walk in ascending order follows 512 of them at a time: a node has a bit for each that it needs.

use crate::change::CONSEQUENCES_LISTED_MAX;
use crate::graph::{Graph, NodeId, NodeSet};

/// Words of bits that are followed in one walk; 64 bytes for each derivation that is reached.
const WORDS: usize = 8;
const BITS: usize = WORDS * 64;

/// What follows from a derivation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Consequences {
    /// Attributes that need it.
    pub(super) attrs: usize,
    /// Attributes that need none of the others.
    pub(super) attrs_alone: usize,
    /// New derivations that need it, itself included when it is new.
    pub(super) drvs: usize,
    /// Places of the first such attributes.
    pub(super) examples: Vec<usize>,
}

/// Follows each of `roots`, which are ascending and each there once. `attrs` are the derivations of attributes.
pub(super) fn follow(graph: &Graph, roots: &[NodeId], attrs: &[NodeId], new: &NodeSet) -> Vec<Consequences> {
    let drvs = graph.reach_counts(roots, new);
    let of = |(root, drvs): (&NodeId, usize)| Consequences {
        drvs: drvs + usize::from(new.contains(*root)),
        ..Consequences::default()
    };
    let mut all: Vec<Consequences> = roots.iter().zip(drvs).map(of).collect();
    let walk = Walk::new(graph, roots, attrs);
    // How many roots each attribute needs, and the last of them.
    let mut needs = vec![(0_usize, 0_usize); attrs.len()];
    for (block, roots) in roots.chunks(BITS).enumerate() {
        let rows = walk.rows(roots);
        for (at, attr) in attrs.iter().enumerate() {
            for bit in walk
                .place(*attr)
                .map_or([0; WORDS], |place| rows[place])
                .into_iter()
                .enumerate()
                .flat_map(bits)
            {
                let root = block * BITS + bit;
                needs[at] = (needs[at].0 + 1, root);
                all[root].attrs += 1;
                if all[root].examples.len() < CONSEQUENCES_LISTED_MAX {
                    all[root].examples.push(at);
                }
            }
        }
    }
    for (_, root) in needs.into_iter().filter(|(count, _)| *count == 1) {
        all[root].attrs_alone += 1;
    }
    all
}

fn bits((word, mut bits): (usize, u64)) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = bits.trailing_zeros();
        bits &= bits.checked_sub(1)?;
        Some(word * 64 + bit as usize)
    })
}

/// The nodes between roots and attributes.
struct Walk<'a> {
    graph: &'a Graph,
    /// Ascending: needs before users.
    nodes: Vec<NodeId>,
    /// A node's place in `nodes`, plus one; 0 for others.
    places: Vec<u32>,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Graph, roots: &[NodeId], attrs: &[NodeId]) -> Self {
        let nodes: Vec<NodeId> = graph.dependants_of(roots).and(&graph.closure_of(attrs)).iter().collect();
        let mut places = vec![0; graph.len()];
        for (place, id) in (1..).zip(&nodes) {
            places[id.index()] = place;
        }
        Self { graph, nodes, places }
    }

    fn place(&self, id: NodeId) -> Option<usize> {
        let place = self.places[id.index()] as usize;
        place.checked_sub(1)
    }

    /// For each node the roots it needs, itself included.
    fn rows(&self, roots: &[NodeId]) -> Vec<[u64; WORDS]> {
        let mut rows = vec![[0; WORDS]; self.nodes.len()];
        for (bit, root) in roots.iter().enumerate() {
            if let Some(place) = self.place(*root) {
                rows[place][bit / 64] |= 1 << (bit % 64);
            }
        }
        for (place, id) in self.nodes.iter().enumerate() {
            let mut row = rows[place];
            for input in self.graph.inputs(*id) {
                let Some(input) = self.place(*input) else { continue };
                (0..WORDS).for_each(|word| row[word] |= rows[input][word]);
            }
            rows[place] = row;
        }
        rows
    }
}
