//! A derivation's path and a way to read derivations come in; the hash under which Nix records what a
//! content-addressed derivation was built to comes out. Nix hashes a derivation with its inputs replaced by *their*
//! hashes and a download replaced by the hash of its content, so that two files which mean the same share one record.
//! The walk keeps its own stack: chains of several hundred inputs are ordinary. Reads no file by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::derivation::{Derivation, print};
use crate::hash::Sha256;
use crate::store_path::DrvPath;

/// Most derivations one walk reads.
pub const WALK_MAX: usize = 1_000_000;

/// A SHA-256 in base 16, 64 characters.
pub type HexHash = String;

/// Why there is no hash. `E` is the reader's own error.
#[derive(Debug, thiserror::Error)]
pub enum HashError<E> {
    /// A derivation could not be read.
    #[error("cannot read {drv}, an input of {root}")]
    Read {
        /// Which.
        drv: DrvPath,
        /// For whom.
        root: DrvPath,
        /// Why.
        #[source]
        source: E,
    },
    /// A derivation is its own input, which no store of Nix has.
    #[error("{0} is an input of itself; `nix-store --verify --check-contents` checks the store")]
    Cycle(DrvPath),
    /// More than [`WALK_MAX`] derivations.
    #[error("{0} has more than {WALK_MAX} inputs")]
    TooMany(DrvPath),
}

/// The hash (base 16) that stands for `root` in Nix' records of built outputs, each input of it read once by `read`.
///
/// # Errors
/// [`HashError`] when an input cannot be read.
pub fn of<E>(
    root: &DrvPath,
    mut read: impl FnMut(&DrvPath) -> Result<Derivation, E>,
) -> Result<HexHash, HashError<E>> {
    let mut known: HashMap<DrvPath, HexHash> = HashMap::new();
    let mut open: Vec<(DrvPath, Derivation)> = Vec::new();
    let mut on_stack: BTreeSet<DrvPath> = BTreeSet::new();
    let mut next = Some(root.clone());
    loop {
        if let Some(drv) = next.take() {
            if !on_stack.insert(drv.clone()) {
                return Err(HashError::Cycle(drv));
            }
            if known.len() + open.len() >= WALK_MAX {
                return Err(HashError::TooMany(root.clone()));
            }
            let derivation = read(&drv).map_err(|source| HashError::Read {
                drv: drv.clone(),
                root: root.clone(),
                source,
            })?;
            open.push((drv, derivation));
        }
        let Some((drv, derivation)) = open.last() else {
            return Err(HashError::Cycle(root.clone()));
        };
        let fixed = derivation.is_fixed_output();
        next = derivation.input_drvs.keys().find(|input| !fixed && !known.contains_key(*input)).cloned();
        if next.is_some() {
            continue;
        }
        let hash = one(derivation, &known, drv == root);
        if drv == root {
            return Ok(hash);
        }
        on_stack.remove(drv);
        known.insert(drv.clone(), hash);
        open.pop();
    }
}

/// The hash of a derivation all of whose inputs' hashes are `known`; the paths of its own outputs are left out when
/// it is the one that was asked for.
fn one(derivation: &Derivation, known: &HashMap<DrvPath, HexHash>, masked: bool) -> HexHash {
    if derivation.is_fixed_output()
        && let Some(output) = derivation.outputs.values().next()
    {
        let path = output.path.as_ref().map_or("", |path| path.as_str());
        return Sha256::of(format!("fixed:out:{}:{}:{path}", output.hash_algo, output.hash).as_bytes()).hex();
    }
    let mut inputs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (drv, outputs) in &derivation.input_drvs {
        if let Some(hash) = known.get(drv) {
            inputs.entry(hash.clone()).or_default().extend(outputs.iter().cloned());
        }
    }
    Sha256::of(&print::hashed_form(derivation, &inputs, masked)).hex()
}
