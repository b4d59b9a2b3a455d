//! Sets of a graph's nodes: a bit for each node up to the largest member.

use super::NodeId;

const WORD_BITS: usize = 64;

/// Some nodes of one graph. Sets of graphs that have grown since are still good: what is new is not in them.
#[derive(Clone, Debug, Default)]
pub struct NodeSet {
    words: Vec<u64>,
    len: usize,
}

impl NodeSet {
    /// An empty one with room for the first `nodes` nodes.
    #[must_use]
    pub fn with_capacity(nodes: usize) -> Self {
        Self { words: vec![0; nodes.div_ceil(WORD_BITS)], len: 0 }
    }

    /// Puts a node in; says whether it was not there.
    pub fn insert(&mut self, id: NodeId) -> bool {
        let (word, bit) = place(id);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes a node out; says whether it was there.
    pub fn remove(&mut self, id: NodeId) -> bool {
        let (word, bit) = place(id);
        let was_there = self.contains(id);
        if was_there {
            self.words[word] &= !bit;
            self.len -= 1;
        }
        was_there
    }

    /// Is it a member?
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        let (word, bit) = place(id);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Has it none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its members, ascending: needs before their dependants.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.iter_from(NodeId(0))
    }

    /// Its members from one on, ascending.
    pub fn iter_from(&self, first: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let (start, bit) = place(first);
        let words = self.words.iter().enumerate().skip(start);
        words.flat_map(move |(index, word)| {
            let word = if index == start { word & !(bit - 1) } else { *word };
            Bits(word).map(move |bit| NodeId::of(index * WORD_BITS + bit))
        })
    }

    /// Takes in all members of another.
    pub fn union_with(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
        self.count();
    }

    /// Keeps what is in the other too.
    pub fn intersect_with(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        self.count();
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for (word, other) in left.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
        left.count();
        left
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.intersect_with(other);
        both
    }

    /// Is there one that is in both?
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(word, other)| word & other != 0)
    }

    /// Are all members of this set in the other?
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        let theirs = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter().zip(theirs).all(|(word, other)| word & !other == 0)
    }

    fn count(&mut self) {
        self.len = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }
}

impl PartialEq for NodeSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.is_subset(other)
    }
}

impl Eq for NodeSet {}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(ids: I) -> Self {
        let mut set = Self::default();
        set.extend(ids);
        set
    }
}

impl Extend<NodeId> for NodeSet {
    fn extend<I: IntoIterator<Item = NodeId>>(&mut self, ids: I) {
        for id in ids {
            self.insert(id);
        }
    }
}

fn place(id: NodeId) -> (usize, u64) {
    (id.index() / WORD_BITS, 1 << (id.index() % WORD_BITS))
}

/// The places of the ones of a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}
