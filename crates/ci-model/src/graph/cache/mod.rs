//! What becomes of a graph's derivations, within `graph_lru_capacity`. States and whatever else is kept of a node come in,
//! with what a database says when an evicted one is asked for; they go out again, never another than was put in last.
//!
//! Only what is over is ever evicted: first what failed because of something else, then what failed itself, then what
//! succeeded, each of them longest unused first. What waits, is being built or is pinned stays, beyond the capacity if need
//! be. What a node needs and who needs it is the [`Graph`]'s and is not evicted with it; [`Cache::compact`] leaves behind
//! what nobody asks for any more. Every operation takes constant time, but for those that say otherwise.

mod counters;
mod loader;
mod tiers;
mod words;

use std::collections::HashMap;

use self::counters::Counters;
pub use self::counters::{
    HISTOGRAM_BOUNDS, Histogram, Metric, Operation, REF_COUNT_BOUNDS, Value, state_label,
};
pub use self::loader::{Known, Loaded, Loader};
pub use self::tiers::Tier;
use self::tiers::{Linked, Links, Order};
pub use self::words::{CacheReport, REPORT_EVERY, ReportLine, miss_line};
use super::arena::number;
use super::{Graph, NodeId};
use crate::flow::BuildState;

/// `graph_lru_capacity` where nothing else is said, in nodes.
pub const CAPACITY_DEFAULT: usize = 100_000;

/// The states of a graph's nodes.
#[derive(Debug)]
pub struct Cache<V> {
    graph: Graph,
    capacity: usize,
    /// Which slot a node has: an entry for each that is remembered, none for any other.
    at: HashMap<NodeId, u32>,
    slots: Vec<Option<Slot<V>>>,
    /// Slots that are empty.
    free: Vec<u32>,
    order: Order,
    states: [usize; BuildState::ALL.len()],
    pinned: usize,
    counters: Counters,
}

#[derive(Debug)]
struct Slot<V> {
    id: NodeId,
    state: BuildState,
    pins: u32,
    links: Links,
    value: V,
}

impl<V> Slot<V> {
    fn is_pinned(&self) -> bool {
        self.pins > 0 || self.state == BuildState::Building
    }

    fn tier(&self) -> Option<Tier> {
        if self.is_pinned() { None } else { Tier::of(self.state) }
    }
}

impl<V> Linked for Vec<Option<Slot<V>>> {
    fn links(&mut self, at: u32) -> &mut Links {
        let slot = self[at as usize].as_mut().expect("a slot in a tier is taken: it leaves the tier first");
        &mut slot.links
    }
}

impl<V> Cache<V> {
    /// An empty one over a graph. A capacity of 0 counts as 1.
    #[must_use]
    pub fn over(graph: Graph, capacity: usize) -> Self {
        Self {
            graph,
            capacity: capacity.max(1),
            at: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: Order::default(),
            states: [0; BuildState::ALL.len()],
            pinned: 0,
            counters: Counters::default(),
        }
    }

    /// The graph, whole.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph, to put derivations in.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Remembers what a node is, whatever it was.
    pub fn insert(&mut self, id: NodeId, state: BuildState, value: V) {
        if let Some(at) = self.at.get(&id).copied() {
            self.change(at, |slot| {
                slot.state = state;
                slot.value = value;
            });
        } else {
            self.take_in(id, state, value);
        }
        self.evict_down_to(self.capacity);
    }

    /// Another state. False when the node is not remembered: what was written down will be loaded when it is asked for.
    pub fn set_state(&mut self, id: NodeId, state: BuildState) -> bool {
        let Some(at) = self.at.get(&id).copied() else { return false };
        self.change(at, |slot| slot.state = state);
        self.evict_down_to(self.capacity);
        true
    }

    /// What a node is; read again when it was evicted.
    ///
    /// # Errors
    /// The loader's.
    pub fn get<L: Loader<V>>(&mut self, id: NodeId, loader: &mut L) -> Result<Known<'_, V>, L::Error> {
        let at = self.find(id, Operation::Get, loader)?;
        let slot = self.slot(at);
        Ok(Known { state: slot.state, value: &slot.value })
    }

    /// What a node is, when it is remembered. Counts as no use.
    #[must_use]
    pub fn peek(&self, id: NodeId) -> Option<Known<'_, V>> {
        let slot = self.slot(*self.at.get(&id)?);
        Some(Known { state: slot.state, value: &slot.value })
    }

    /// Keeps a node from being evicted until [`Cache::unpin`] was called as often. For what is leased.
    ///
    /// # Errors
    /// The loader's; it is not pinned then.
    pub fn pin<L: Loader<V>>(&mut self, id: NodeId, loader: &mut L) -> Result<(), L::Error> {
        let at = self.find(id, Operation::Pin, loader)?;
        self.change(at, |slot| slot.pins += 1);
        Ok(())
    }

    /// Takes one pin back. False when there was none.
    pub fn unpin(&mut self, id: NodeId) -> bool {
        let Some(at) = self.at.get(&id).copied().filter(|at| self.slot(*at).pins > 0) else { return false };
        self.change(at, |slot| slot.pins -= 1);
        self.evict_down_to(self.capacity);
        true
    }

    /// Says that it was asked whether a node can be built: it and what it needs are in use. Loads nothing. Takes as long as
    /// it has needs.
    pub fn touch_buildable_check(&mut self, id: NodeId) {
        let Self { graph, at, slots, order, counters, .. } = self;
        for id in graph.inputs(id).iter().chain([&id]) {
            match at.get(id) {
                Some(at) => {
                    counters.hit(Operation::BuildableCheck);
                    order.touch(slots, *at);
                }
                None => counters.miss(Operation::BuildableCheck),
            }
        }
    }

    /// How many nodes are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Is none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// How many may be remembered, those that may not be evicted aside.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many are pinned, or being built.
    #[must_use]
    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// How many of a tier could be evicted.
    #[must_use]
    pub fn candidates(&self, tier: Tier) -> usize {
        self.order.len(tier)
    }

    /// Leaves behind every node that is not remembered and that neither one of `keep` nor one that is remembered needs.
    /// Says which node each of the others became; numbers from before mean nothing any more. Takes as long as the graph is
    /// large.
    pub fn compact(&mut self, keep: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let keep: Vec<NodeId> = keep.iter().copied().chain(self.at.keys().copied()).collect();
        let (graph, moves) = self.graph.compacted(&keep);
        let slots = &mut self.slots;
        let mut at = HashMap::with_capacity(self.at.len());
        for (old, new) in &moves {
            let Some(slot_at) = self.at.get(old) else { continue };
            if let Some(slot) = &mut slots[*slot_at as usize] {
                slot.id = *new;
            }
            at.insert(*new, *slot_at);
        }
        self.at = at;
        self.graph = graph;
        moves
    }

    /// The memory of the graph and of this, in bytes; what values point to is not in it.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.graph.memory_bytes()
            + self.slots.capacity() * size_of::<Option<Slot<V>>>()
            + self.free.capacity() * size_of::<u32>()
            + self.at.capacity() * (size_of::<(NodeId, u32)>() + 1)
    }

    /// Every documented metric of the graph, each with all its labels.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        let gauges = counters::Gauges {
            states: &self.states,
            memory_bytes: self.memory_bytes(),
            candidates: Tier::ALL.map(|tier| self.order.len(tier)),
            pinned: self.pinned,
            len: self.len(),
            capacity: self.capacity,
        };
        self.counters.metrics(&gauges)
    }

    fn slot(&self, at: u32) -> &Slot<V> {
        self.slots[at as usize].as_ref().expect("a slot that a node has is taken")
    }

    /// The slot of a node, marked as used; one is made when it has none.
    fn find<L: Loader<V>>(
        &mut self,
        id: NodeId,
        operation: Operation,
        loader: &mut L,
    ) -> Result<u32, L::Error> {
        if let Some(at) = self.at.get(&id).copied() {
            self.counters.hit(operation);
            self.order.touch(&mut self.slots, at);
            return Ok(at);
        }
        self.counters.miss(operation);
        let loaded = loader.load(&self.graph.path(id))?;
        self.counters.reloaded(loaded.took);
        Ok(self.take_in(id, loaded.state, loaded.value))
    }

    /// Makes room, then puts a node in, so that it is not the one that has to go.
    fn take_in(&mut self, id: NodeId, state: BuildState, value: V) -> u32 {
        self.evict_down_to(self.capacity - 1);
        let slot = Slot { id, state, pins: 0, links: Links::default(), value };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                super::reserve(&mut self.slots);
                self.slots.push(None);
                number(self.slots.len() - 1)
            }
        };
        self.count(&slot, true);
        let tier = slot.tier();
        self.slots[at as usize] = Some(slot);
        self.order.put(&mut self.slots, at, tier);
        self.at.insert(id, at);
        at
    }

    /// Changes a slot, and with it the counts and the tier.
    fn change(&mut self, at: u32, change: impl FnOnce(&mut Slot<V>)) {
        self.order.take(&mut self.slots, at);
        if let Some(mut slot) = self.slots[at as usize].take() {
            self.count(&slot, false);
            change(&mut slot);
            self.count(&slot, true);
            let tier = slot.tier();
            self.slots[at as usize] = Some(slot);
            self.order.put(&mut self.slots, at, tier);
        }
    }

    fn count(&mut self, slot: &Slot<V>, is_new: bool) {
        let one = |count: &mut usize| *count = if is_new { *count + 1 } else { *count - 1 };
        if let Some(at) = BuildState::ALL.iter().position(|state| *state == slot.state) {
            one(&mut self.states[at]);
        }
        if slot.is_pinned() {
            one(&mut self.pinned);
        }
    }

    fn evict_down_to(&mut self, most: usize) {
        while self.at.len() > most {
            let Some((tier, at)) = self.order.first() else { return };
            self.order.take(&mut self.slots, at);
            let Some(slot) = self.slots[at as usize].take() else { return };
            self.count(&slot, false);
            self.at.remove(&slot.id);
            self.free.push(at);
            self.counters.evicted(tier, self.graph.dependants(slot.id).len());
        }
    }
}
