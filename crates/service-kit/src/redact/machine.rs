//! Finds many texts in one pass (Aho and Corasick's automaton). In: texts, then bytes. Out: at each byte the longest text
//! that ends there, and how much of one may have begun. A byte costs the same whatever the texts are.

use std::collections::VecDeque;

use zeroize::Zeroizing;

/// A node for each beginning of a pattern; the root is 0.
pub(super) struct Machine {
    /// The node of each first byte; 0 for none.
    first: Box<[u32; 256]>,
    /// The byte that leads to each node.
    byte: Zeroizing<Vec<u8>>,
    /// Each node's first child and next sibling; 0 for none.
    child: Vec<u32>,
    sibling: Vec<u32>,
    /// The node of the longest end of this beginning that begins a pattern too.
    fall: Vec<u32>,
    /// Bytes from the root.
    depth: Vec<u32>,
    /// Bytes of the longest pattern that ends here.
    found: Vec<u32>,
}

impl Machine {
    pub(super) fn longest(&self) -> usize {
        self.found.iter().max().map_or(0, |bytes| *bytes as usize)
    }

    pub(super) fn new(patterns: &[Zeroizing<String>]) -> Self {
        let room = patterns.iter().map(|pattern| pattern.len()).sum::<usize>() + 1;
        let mut machine = Self {
            first: Box::new([0; 256]),
            byte: Zeroizing::new(Vec::with_capacity(room)),
            child: Vec::new(),
            sibling: Vec::new(),
            fall: Vec::new(),
            depth: Vec::new(),
            found: Vec::new(),
        };
        machine.add(0, 0);
        for pattern in patterns {
            let mut at = 0;
            for byte in pattern.bytes() {
                at = match machine.below(at, byte) {
                    Some(next) => next,
                    None => machine.grow(at, byte),
                };
            }
            machine.found[index(at)] = machine.depth[index(at)];
        }
        machine.link();
        machine
    }

    fn add(&mut self, byte: u8, depth: u32) -> u32 {
        let node = u32::try_from(self.byte.len()).unwrap_or(u32::MAX);
        self.byte.push(byte);
        for list in [&mut self.child, &mut self.sibling, &mut self.fall, &mut self.found] {
            list.push(0);
        }
        self.depth.push(depth);
        node
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let node = self.add(byte, self.depth[index(parent)] + 1);
        self.sibling[index(node)] = self.child[index(parent)];
        self.child[index(parent)] = node;
        if parent == 0 {
            self.first[usize::from(byte)] = node;
        }
        node
    }

    fn below(&self, parent: u32, byte: u8) -> Option<u32> {
        if parent == 0 {
            return Some(self.first[usize::from(byte)]).filter(|node| *node != 0);
        }
        let mut node = self.child[index(parent)];
        while node != 0 && self.byte[index(node)] != byte {
            node = self.sibling[index(node)];
        }
        (node != 0).then_some(node)
    }

    /// Finds where each node falls to, nearer ones first.
    fn link(&mut self) {
        let mut due = VecDeque::from([0]);
        while let Some(parent) = due.pop_front() {
            let mut node = self.child[index(parent)];
            while node != 0 {
                let byte = self.byte[index(node)];
                let fall = if parent == 0 { 0 } else { self.step(self.fall[index(parent)], byte) };
                self.fall[index(node)] = fall;
                self.found[index(node)] = self.found[index(node)].max(self.found[index(fall)]);
                due.push_back(node);
                node = self.sibling[index(node)];
            }
        }
    }

    pub(super) fn step(&self, from: u32, byte: u8) -> u32 {
        let mut at = from;
        loop {
            match self.below(at, byte) {
                Some(next) => return next,
                None if at == 0 => return 0,
                None => at = self.fall[index(at)],
            }
        }
    }

    pub(super) fn found(&self, node: u32) -> usize {
        index(self.found[index(node)])
    }

    pub(super) fn depth(&self, node: u32) -> usize {
        index(self.depth[index(node)])
    }
}

fn index(node: u32) -> usize {
    usize::try_from(node).unwrap_or(usize::MAX)
}
