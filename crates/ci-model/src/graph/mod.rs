//! Derivations and what they need. Derivations come in, those they need before them; their needs, who needs them, and
//! whatever follows from that go out. A [`Graph`] only grows and is an index over what a database holds: it can be thrown
//! away and made again. What becomes of a derivation (its state, who pins it) is in [`cache`], which evicts what is over
//! and old.
//!
//! A need comes in before who needs it, so numbers ascend from needs to dependants: every walk in ascending order is a
//! topological one, there can be no cycle, and nothing here is recursive.

mod arena;
pub mod cache;

mod dependants;
mod index;
mod set;
mod walk;

use std::collections::HashMap;
use std::sync::Arc;

use nix_types::{DrvPath, System, nix32};

use self::arena::{Arena, number};
use self::dependants::Dependants;
use self::index::Index;
pub use self::set::NodeSet;
use crate::attr::BuildTraits;

/// Bytes of a store path's hash.
const HASH_BYTES: usize = 20;
/// When there is no room for another node, room for this share of them is added, or for [`GROWTH_MIN`].
const GROWTH_DIVISOR: usize = 8;
/// Fewest nodes room is made for.
const GROWTH_MIN: usize = 256;

/// A derivation of one graph. Numbers are given from 0, in the order of insertion, so needs have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// Its number, below [`Graph::len`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    fn of(index: usize) -> Self {
        Self(number(index))
    }
}

/// What a scheduler asks of a derivation, beside its needs. Most nodes share theirs with many others, and what is
/// shared is kept once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeFacts {
    /// Where it is built.
    pub system: System,
    /// Is the content fixed in advance?
    pub is_fod: bool,
    /// Is its output's path known only after the build?
    pub is_content_addressed: bool,
    /// `preferLocalBuild`
    pub prefers_local: bool,
    /// `requiredSystemFeatures`, sorted.
    pub features: Vec<String>,
}

impl NodeFacts {
    /// Those that a derivation's file says.
    #[must_use]
    pub fn of(system: System, traits: &BuildTraits) -> Self {
        Self {
            system,
            is_fod: traits.is_fod,
            is_content_addressed: traits.is_content_addressed,
            prefers_local: traits.prefers_local,
            features: traits.required_features.clone(),
        }
    }

    /// Those of an ordinary build.
    #[must_use]
    pub fn ordinary(system: System) -> Self {
        Self {
            system,
            is_fod: false,
            is_content_addressed: false,
            prefers_local: false,
            features: Vec::new(),
        }
    }
}

/// Derivations with their needs and their dependants. About 140 bytes a node at seven needs each.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    index: Index,
    /// Each with its length before it.
    names: Arena<u8>,
    inputs: Arena<NodeId>,
    dependants: Dependants,
    kinds: Vec<Arc<Kind>>,
    kind_ids: HashMap<Arc<Kind>, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    hash: [u8; HASH_BYTES],
    name_at: u32,
    inputs_at: u32,
    inputs_len: u32,
    kind: u32,
}

/// What many nodes share.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    store_dir: String,
    facts: NodeFacts,
}

impl Graph {
    /// Puts a derivation in, with all it needs, each of which is in already. One that is there stays as it is: a
    /// derivation's path decides its content. `inputs` may come in any order and more than once.
    ///
    /// # Panics
    /// When an input is no node of this graph, and beyond 2^32 nodes or needs, which no memory holds.
    pub fn insert(&mut self, drv: &DrvPath, facts: NodeFacts, inputs: &[NodeId]) -> NodeId {
        let hash = hash_of(drv);
        if let Some(known) = self.find(drv, &hash) {
            return known;
        }
        let id = NodeId::of(self.nodes.len());
        let mut inputs = inputs.to_vec();
        inputs.sort_unstable();
        inputs.dedup();
        assert!(
            inputs.last().is_none_or(|last| *last < id),
            "an input is a node of this graph: insert() gave it"
        );
        self.dependants.add_node();
        for input in &inputs {
            self.dependants.push(*input, id);
        }
        let node = Node {
            hash,
            name_at: self.keep_name(drv.drv_name()),
            inputs_at: self.inputs.push_all(&inputs),
            inputs_len: number(inputs.len()),
            kind: self.kind_of(drv.store_path().store_dir(), facts),
        };
        reserve(&mut self.nodes);
        self.nodes.push(node);
        let nodes = &self.nodes;
        self.index.add(id, &hash, |of| &nodes[of.index()].hash);
        id
    }

    /// The node of a derivation.
    #[must_use]
    pub fn id(&self, drv: &DrvPath) -> Option<NodeId> {
        self.find(drv, &hash_of(drv))
    }

    /// The derivation of a node.
    ///
    /// # Panics
    /// Like every question about a node: when it is one of another graph.
    #[must_use]
    pub fn path(&self, id: NodeId) -> DrvPath {
        let node = &self.nodes[id.index()];
        let dir = &self.kinds[node.kind as usize].store_dir;
        let text = format!("{dir}/{}-{}.drv", nix32::encode(&node.hash), self.name(id));
        DrvPath::parse_str(&text).expect("it is made of the parts of a path that was one")
    }

    /// The derivation's name, without `.drv`.
    #[must_use]
    pub fn name(&self, id: NodeId) -> &str {
        let at = self.nodes[id.index()].name_at;
        let len = self.names.slice(at, 1)[0];
        let bytes = &self.names.slice(at, 1 + usize::from(len))[1..];
        std::str::from_utf8(bytes).expect("it was text when it came in")
    }

    /// What a scheduler asks of it.
    #[must_use]
    pub fn facts(&self, id: NodeId) -> &NodeFacts {
        &self.kinds[self.nodes[id.index()].kind as usize].facts
    }

    /// What it needs itself, ascending.
    #[must_use]
    pub fn inputs(&self, id: NodeId) -> &[NodeId] {
        let node = &self.nodes[id.index()];
        self.inputs.slice(node.inputs_at, node.inputs_len as usize)
    }

    /// Who needs it itself, ascending.
    #[must_use]
    pub fn dependants(&self, id: NodeId) -> &[NodeId] {
        self.dependants.of(id)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Every node, needs before their dependants.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        (0..number(self.nodes.len())).map(NodeId)
    }

    /// How many needs there are.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.nodes.iter().map(|node| node.inputs_len as usize).sum()
    }

    /// The memory it holds, in bytes, room for more included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.index.memory_bytes()
            + self.names.memory_bytes()
            + self.inputs.memory_bytes()
            + self.dependants.memory_bytes()
            + self.kinds.capacity() * size_of::<Arc<Kind>>()
            + self.kind_ids.capacity() * (size_of::<(Arc<Kind>, u32)>() + 1)
            + self.kinds.iter().map(|kind| kind.memory_bytes()).sum::<usize>()
    }

    fn find(&self, drv: &DrvPath, hash: &[u8; HASH_BYTES]) -> Option<NodeId> {
        self.index.find(hash, |id| {
            let node = &self.nodes[id.index()];
            node.hash == *hash
                && self.name(id) == drv.drv_name()
                && self.kinds[node.kind as usize].store_dir == drv.store_path().store_dir()
        })
    }

    fn keep_name(&mut self, name: &str) -> u32 {
        let mut bytes = Vec::with_capacity(1 + name.len());
        bytes.push(u8::try_from(name.len()).expect("a store path's name has at most 211 bytes"));
        bytes.extend_from_slice(name.as_bytes());
        self.names.push_all(&bytes)
    }

    fn kind_of(&mut self, store_dir: &str, facts: NodeFacts) -> u32 {
        let kind = Kind { store_dir: store_dir.to_owned(), facts };
        if let Some(known) = self.kind_ids.get(&kind) {
            return *known;
        }
        let kind = Arc::new(kind);
        let id = number(self.kinds.len());
        self.kinds.push(Arc::clone(&kind));
        self.kind_ids.insert(kind, id);
        id
    }
}

impl Kind {
    fn memory_bytes(&self) -> usize {
        let features = &self.facts.features;
        size_of::<Self>()
            + self.store_dir.capacity()
            + features.capacity() * size_of::<String>()
            + features.iter().map(String::capacity).sum::<usize>()
    }
}

fn hash_of(drv: &DrvPath) -> [u8; HASH_BYTES] {
    let bytes = nix32::decode(drv.store_path().hash_part());
    let bytes = bytes.expect("the hash of a store path is in base 32");
    bytes.try_into().expect("32 digits of base 32 are 20 bytes")
}

/// Makes room for one more, without ever holding twice what is needed.
fn reserve<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact((vec.len() / GROWTH_DIVISOR).max(GROWTH_MIN));
    }
}
