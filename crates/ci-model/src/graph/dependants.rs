//! Who needs a node: lists that grow one by one, each of them a slice at any time. Short ones share an arena and move to
//! a larger place when theirs is full, leaving the old one to another list; long ones (what nearly everything needs)
//! have memory of their own. Adding one never looks at the others.

use super::NodeId;
use super::arena::{Arena, number};
use super::reserve;

/// Places of the arena: a list is in the smallest one that holds it. One that has a single part has it in its head.
const SIZES: [u32; 18] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768];
/// Longest list in the arena.
const SHARED_MAX: u32 = SIZES[SIZES.len() - 1];

/// A list for each node.
#[derive(Debug, Default)]
pub(super) struct Dependants {
    heads: Vec<Head>,
    shared: Arena<NodeId>,
    /// Places of each size that no list is in.
    free: [Vec<u32>; SIZES.len()],
    own: Vec<Vec<NodeId>>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    len: u32,
    /// Of one: itself. Up to [`SHARED_MAX`]: its place in the arena. Above: the number of its own memory.
    at: NodeId,
}

const EMPTY: Head = Head { len: 0, at: NodeId(0) };

impl Dependants {
    /// A list without parts for the next node.
    pub(super) fn add_node(&mut self) {
        reserve(&mut self.heads);
        self.heads.push(EMPTY);
    }

    /// Puts `dependant` at the end of the list of `node`.
    pub(super) fn push(&mut self, node: NodeId, dependant: NodeId) {
        let Head { len, at } = self.heads[node.index()];
        let at = match len {
            0 => dependant,
            1 => NodeId(self.place(0, &[at, dependant])),
            SHARED_MAX => NodeId(self.leave(at.0, dependant)),
            len if len > SHARED_MAX => {
                let own = &mut self.own[at.index()];
                reserve(own);
                own.push(dependant);
                at
            }
            len => match SIZES.binary_search(&len) {
                Ok(size) => NodeId(self.grow(at.0, size, dependant)),
                Err(_) => {
                    let parts = self.shared.slice_mut(at.0, len as usize + 1);
                    parts[len as usize] = dependant;
                    at
                }
            },
        };
        self.heads[node.index()] = Head { len: len + 1, at };
    }

    /// The list of `node`.
    pub(super) fn of(&self, node: NodeId) -> &[NodeId] {
        let head = &self.heads[node.index()];
        match head.len {
            0 => &[],
            1 => std::slice::from_ref(&head.at),
            len if len > SHARED_MAX => &self.own[head.at.index()],
            len => self.shared.slice(head.at.0, len as usize),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.shared.memory_bytes()
            + self.free.iter().map(|places| places.capacity() * size_of::<u32>()).sum::<usize>()
            + self.own.capacity() * size_of::<Vec<NodeId>>()
            + self.own.iter().map(|own| own.capacity() * size_of::<NodeId>()).sum::<usize>()
    }

    /// A place of this size that begins with `parts`.
    fn place(&mut self, size: usize, parts: &[NodeId]) -> u32 {
        if let Some(at) = self.free[size].pop() {
            self.shared.slice_mut(at, parts.len()).copy_from_slice(parts);
            return at;
        }
        let mut place = [NodeId(0); SHARED_MAX as usize];
        place[..parts.len()].copy_from_slice(parts);
        self.shared.push_all(&place[..SIZES[size] as usize])
    }

    /// From a full place to the next larger one.
    fn grow(&mut self, at: u32, size: usize, dependant: NodeId) -> u32 {
        let mut parts = self.shared.slice(at, SIZES[size] as usize).to_vec();
        parts.push(dependant);
        self.free[size].push(at);
        self.place(size + 1, &parts)
    }

    /// From the largest place to memory of its own.
    fn leave(&mut self, at: u32, dependant: NodeId) -> u32 {
        let mut parts = Vec::with_capacity(SHARED_MAX as usize * 2);
        parts.extend_from_slice(self.shared.slice(at, SHARED_MAX as usize));
        parts.push(dependant);
        self.free[SIZES.len() - 1].push(at);
        self.own.push(parts);
        number(self.own.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_all_lengths_grow_side_by_side() {
        let lens: Vec<u32> = (0..60).chain(700..780).chain([5000]).collect();
        let mut lists = Dependants::default();
        lens.iter().for_each(|_| lists.add_node());
        for round in 0..5000 {
            for (node, len) in lens.iter().enumerate() {
                if round < *len {
                    lists.push(NodeId::of(node), NodeId(round * 3));
                }
            }
        }
        for (node, len) in lens.iter().enumerate() {
            let expected: Vec<NodeId> = (0..*len).map(|round| NodeId(round * 3)).collect();
            assert_eq!(lists.of(NodeId::of(node)), expected, "the list of {len}");
        }
    }

    #[test]
    fn places_that_lists_left_are_used_again() {
        let mut lists = Dependants::default();
        let mut before = 0;
        for node in 0..20 {
            lists.add_node();
            for dependant in 0..SHARED_MAX {
                lists.push(NodeId(node), NodeId(dependant));
            }
            let now: usize = lists.free.iter().map(Vec::len).sum();
            assert!(node == 0 || now == before, "list {node} left {now} places after {before}");
            before = now;
        }
    }
}
