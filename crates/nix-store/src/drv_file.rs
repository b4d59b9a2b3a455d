//! A derivation's path comes in, what its `.drv` file says, or the hash under which Nix notes its outputs, comes out.
//! Reads files of the store and nothing else.

use std::fs::File;
use std::io::{self, Read};

use nix_types::derivation::{self, DRV_BYTES_MAX};
use nix_types::{Derivation, DerivationError, DrvPath, drv_hash};

use crate::store::StoreError;

/// The derivation's file; `None` when it is gone, or of the newer form this program does not read. One that is too
/// large is refused after [`DRV_BYTES_MAX`].
pub(crate) fn read(drv: &DrvPath) -> Result<Option<Derivation>, StoreError> {
    let bytes = match bounded(drv) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::ReadDrv { drv: drv.clone(), source }),
    };
    match derivation::parse(&bytes) {
        Ok(derivation) => Ok(Some(derivation)),
        Err(DerivationError::Dynamic) => Ok(None),
        Err(source) => Err(StoreError::Derivation { drv: drv.clone(), source }),
    }
}

fn bounded(drv: &DrvPath) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(drv.as_str())?.take(DRV_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The hash Nix up to 2.34 notes realisations under, in base 16.
pub(crate) fn hash_of(drv: &DrvPath) -> Result<String, StoreError> {
    let read = |input: &DrvPath| {
        read(input)?.ok_or_else(|| StoreError::NotValid { path: input.store_path().clone() })
    };
    drv_hash::of(drv, read)
        .map_err(|source| StoreError::DrvHash { drv: drv.clone(), source: Box::new(source) })
}
