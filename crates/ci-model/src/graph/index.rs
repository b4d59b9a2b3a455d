//! Hashes of store paths come in, nodes go out: an open table of four bytes a place. Who makes derivations chooses their
//! hashes as well as they can compute, so places are drawn with a key of this process.

use std::hash::{BuildHasher, RandomState};

use super::{HASH_BYTES, NodeId};

/// Smallest table, a power of two.
const PLACES_MIN: usize = 64;

/// Which node has which hash; the hashes themselves are the nodes'.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// A node's number plus one, 0 where there is none.
    places: Vec<u32>,
    len: usize,
    key: RandomState,
}

impl Index {
    /// The node for which `is_it` says so, of those that may have this hash.
    pub(super) fn find(&self, hash: &[u8; HASH_BYTES], is_it: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.first(hash);
        loop {
            let id = NodeId(self.places[at].checked_sub(1)?);
            if is_it(id) {
                return Some(id);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
    }

    /// Puts a node in that is not there yet.
    pub(super) fn add<'h>(
        &mut self,
        id: NodeId,
        hash: &[u8; HASH_BYTES],
        hash_of: impl Fn(NodeId) -> &'h [u8; HASH_BYTES],
    ) {
        // At most seven of eight places are taken.
        if (self.len + 1) * 8 > self.places.len() * 7 {
            self.grow(hash_of);
        }
        self.put(id, hash);
        self.len += 1;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u32>()
    }

    fn grow<'h>(&mut self, hash_of: impl Fn(NodeId) -> &'h [u8; HASH_BYTES]) {
        let wider = (self.places.len() * 2).max(PLACES_MIN);
        let before = std::mem::replace(&mut self.places, vec![0; wider]);
        for id in before.into_iter().filter_map(|place| place.checked_sub(1)).map(NodeId) {
            self.put(id, hash_of(id));
        }
    }

    fn put(&mut self, id: NodeId, hash: &[u8; HASH_BYTES]) {
        let mut at = self.first(hash);
        while self.places[at] != 0 {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = id.0 + 1;
    }

    #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
    fn first(&self, hash: &[u8; HASH_BYTES]) -> usize {
        self.key.hash_one(hash) as usize & (self.places.len() - 1)
    }
}
