//! What derivations make, for all of a graph. The paths of outputs come in with each node, and their hashes are kept: a
//! path's hash is made of its folder, its name and all that decides its content, so that two derivations of one name with
//! equal hashes make the same. No file is read for that, so whether something is to be built never depends on files.

use std::collections::BTreeMap;

use nix_types::{StorePath, nix32};

use crate::graph::NodeId;

/// The hash of an output's path.
pub type OutputHash = [u8; 20];

/// The hashes of outputs, by node. About 35 bytes a derivation, room for more not included.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Where the hashes of each node end; they begin where those of the one before it end.
    ends: Vec<u32>,
    hashes: Vec<OutputHash>,
}

impl Outputs {
    /// Notes what a node makes: `None` where a path is known only after the build. Nodes come as they are given; one that
    /// was passed over makes something unknown, and one that is there stays as it is.
    ///
    /// # Panics
    /// Beyond 2^32 outputs, which no memory holds.
    pub fn add(&mut self, id: NodeId, hashes: Option<&[OutputHash]>) {
        if id.index() < self.ends.len() {
            return;
        }
        let end = |hashes: &[OutputHash]| u32::try_from(hashes.len()).expect("no memory holds 2^32 outputs");
        self.ends.resize(id.index(), end(&self.hashes));
        self.hashes.extend_from_slice(hashes.unwrap_or_default());
        self.ends.push(end(&self.hashes));
    }

    /// What a node makes; `None` where that is not known before the build.
    pub(super) fn of(&self, id: NodeId) -> Option<&[OutputHash]> {
        let end = *self.ends.get(id.index())? as usize;
        let start = id.index().checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.hashes[start..end]).filter(|hashes| !hashes.is_empty())
    }
}

/// The hashes of the outputs of one derivation; `None` where a path is known only after the build.
#[must_use]
pub fn output_hashes(outputs: &BTreeMap<String, Option<StorePath>>) -> Option<Vec<OutputHash>> {
    let hash = |path: &StorePath| nix32::decode_array(path.hash_part()).ok();
    outputs.values().map(|path| hash(path.as_ref()?)).collect()
}
