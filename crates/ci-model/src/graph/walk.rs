//! What follows from needs: closures, dependants of dependants, how far each of many nodes reaches, the longest chain.
//! Nodes come in, sets and exact numbers go out. Nothing is sampled and nothing is recursive.

use super::{Graph, NodeId, NodeSet};
use nix_types::System;

/// Words of seeds that are followed in one pass, 64 seeds each.
const WORDS: usize = 8;
/// The same for graphs of more than [`WIDE_NODES_MAX`] nodes.
const WORDS_NARROW: usize = 1;
/// Up to so many nodes a pass follows [`WORDS`] words; its memory is 64 bytes a node, 64 MiB at most.
const WIDE_NODES_MAX: usize = 1 << 20;

impl Graph {
    /// All that these need, directly or not, and they themselves.
    #[must_use]
    pub fn closure_of(&self, ids: &[NodeId]) -> NodeSet {
        self.spread(ids, |id| self.inputs(id))
    }

    /// All that need one of these, directly or not, and they themselves.
    #[must_use]
    pub fn dependants_of(&self, ids: &[NodeId]) -> NodeSet {
        self.spread(ids, |id| self.dependants(id))
    }

    /// The nodes of a system.
    #[must_use]
    pub fn of_system(&self, system: &System) -> NodeSet {
        let has_it: Vec<bool> = self.kinds.iter().map(|kind| kind.facts.system == *system).collect();
        let ids = self.ids().filter(|id| has_it[self.nodes[id.index()].kind as usize]);
        ids.collect()
    }

    /// For each seed: how many nodes of `within` need it, directly or not, itself not counted. Exact.
    #[must_use]
    pub fn reach_counts(&self, seeds: &[NodeId], within: &NodeSet) -> Vec<usize> {
        self.reach_counts_each(seeds, &[within]).pop().unwrap_or_default()
    }

    /// [`Graph::reach_counts`] for several sets in one walk: a list of counts for each set, a count for each seed.
    #[must_use]
    pub fn reach_counts_each(&self, seeds: &[NodeId], withins: &[&NodeSet]) -> Vec<Vec<usize>> {
        if self.len() > WIDE_NODES_MAX {
            self.reach::<WORDS_NARROW>(seeds, withins)
        } else {
            self.reach::<WORDS>(seeds, withins)
        }
    }

    /// Nodes of the longest chain in which each needs the one before.
    #[must_use]
    pub fn longest_chain(&self) -> usize {
        let mut lens: Vec<u32> = Vec::with_capacity(self.len());
        for id in self.ids() {
            let longest = self.inputs(id).iter().map(|input| lens[input.index()]).max();
            lens.push(1 + longest.unwrap_or(0));
        }
        lens.into_iter().max().unwrap_or(0) as usize
    }

    /// A graph of these and all they need; every other node is left behind. Says which node each of the kept became.
    #[must_use]
    pub fn compacted(&self, keep: &[NodeId]) -> (Self, Vec<(NodeId, NodeId)>) {
        let mut graph = Self::default();
        let mut became = vec![None; self.len()];
        let mut moves = Vec::new();
        for id in self.closure_of(keep).iter() {
            let inputs: Vec<NodeId> =
                self.inputs(id).iter().filter_map(|input| became[input.index()]).collect();
            let new = graph.insert(&self.path(id), self.facts(id).clone(), &inputs);
            became[id.index()] = Some(new);
            moves.push((id, new));
        }
        (graph, moves)
    }

    fn spread<'g>(&'g self, ids: &[NodeId], next: impl Fn(NodeId) -> &'g [NodeId]) -> NodeSet {
        let mut seen = NodeSet::with_capacity(self.len());
        let mut open: Vec<NodeId> = ids.iter().copied().filter(|id| seen.insert(*id)).collect();
        while let Some(id) = open.pop() {
            open.extend(next(id).iter().copied().filter(|id| seen.insert(*id)));
        }
        seen
    }

    fn reach<const W: usize>(&self, seeds: &[NodeId], withins: &[&NodeSet]) -> Vec<Vec<usize>> {
        let affected = self.dependants_of(seeds);
        let mut order: Vec<usize> = (0..seeds.len()).collect();
        order.sort_unstable_by_key(|at| seeds[*at]);
        let mut counts = vec![vec![0; seeds.len()]; withins.len()];
        // Which seeds of the pass each node needs; of nodes below the pass's first seed, none.
        let mut reached = vec![[0; W]; self.len()];
        let mut below = 0;
        for block in order.chunks(W * 64) {
            let first = seeds[block[0]].index();
            reached[below..first].fill([0; W]);
            below = first;
            for (counts, sums) in
                counts.iter_mut().zip(self.pass(seeds, block, &affected, withins, &mut reached))
            {
                for (column, at) in block.iter().enumerate() {
                    counts[*at] = sums.of(column);
                }
            }
        }
        counts
    }

    /// Follows the seeds of one block upwards through all that need them.
    fn pass<const W: usize>(
        &self,
        seeds: &[NodeId],
        block: &[usize],
        affected: &NodeSet,
        withins: &[&NodeSet],
        reached: &mut [[u64; W]],
    ) -> Vec<Sums<W>> {
        let mut sums: Vec<Sums<W>> = withins.iter().map(|_| Sums::default()).collect();
        let mut own = block.iter().enumerate().peekable();
        for id in affected.iter_from(seeds[block[0]]) {
            let mut needs = [0; W];
            for input in self.inputs(id) {
                let theirs = &reached[input.index()];
                (0..W).for_each(|word| needs[word] |= theirs[word]);
            }
            if needs != [0; W] {
                for (sums, _) in sums.iter_mut().zip(withins).filter(|(_, within)| within.contains(id)) {
                    sums.add(needs);
                }
            }
            while let Some((column, _)) = own.next_if(|(_, at)| seeds[**at] == id) {
                needs[column / 64] |= 1 << (column % 64);
            }
            reached[id.index()] = needs;
        }
        sums
    }
}

/// A count for each of `W * 64` columns, kept as the binary digits of all of them side by side: to add a row of bits
/// takes as long as to carry, two steps on average.
#[derive(Debug, Default)]
struct Sums<const W: usize> {
    digits: Vec<[u64; W]>,
}

impl<const W: usize> Sums<W> {
    /// Adds one to each column whose bit is set.
    fn add(&mut self, mut carry: [u64; W]) {
        for digit in &mut self.digits {
            let mut left = 0;
            for word in 0..W {
                let both = digit[word] & carry[word];
                digit[word] ^= carry[word];
                carry[word] = both;
                left |= both;
            }
            if left == 0 {
                return;
            }
        }
        self.digits.push(carry);
    }

    fn of(&self, column: usize) -> usize {
        let bit = |digit: &[u64; W]| (digit[column / 64] >> (column % 64) & 1) as usize;
        self.digits.iter().enumerate().map(|(place, digit)| bit(digit) << place).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::NodeFacts;

    #[test]
    fn narrow_and_wide_passes_count_the_same() {
        let mut graph = Graph::default();
        for number in 0..1_500_u32 {
            let hash = nix_types::nix32::encode(&[&number.to_le_bytes()[..], &[7; 16]].concat());
            let drv = format!("/nix/store/{hash}-n.drv").parse().expect("a derivation's path");
            let inputs = [number / 2, number / 3, number.saturating_sub(1)];
            let inputs: Vec<NodeId> =
                inputs.into_iter().filter(|input| *input < number).map(NodeId).collect();
            graph.insert(&drv, NodeFacts::ordinary(System::builtin()), &inputs);
        }
        let all: NodeSet = graph.ids().collect();
        let seeds: Vec<NodeId> = graph.ids().collect();
        let wide = graph.reach::<WORDS>(&seeds, &[&all]);
        assert_eq!(wide, graph.reach::<WORDS_NARROW>(&seeds, &[&all]));
        // Each needs the one before, so all after it need it.
        assert_eq!(wide[0], (0..1_500).rev().collect::<Vec<usize>>());
    }
}
