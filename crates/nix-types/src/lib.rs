//! Nix' own things as types. Text from outside (a hook's environment, the store database, a `.drv` file, a cache's
//! files, keys, the configuration) comes in once; store paths, derivations, hashes, signatures, narinfo, cache URLs and
//! patterns come out, and code further in trusts them.
//! Pure: nothing here reads a file, a clock or a database; whether a path exists is for the `nix-store` crate.
#![forbid(unsafe_code)]

mod attr_path;
pub mod cache_info;
pub mod cache_url;
pub mod derivation;
pub mod drv_hash;
pub mod glob;
pub mod hash;
pub mod narinfo;
pub mod nix32;
pub mod realisation;
pub mod signature;
pub mod ssh_url;
mod store_path;
mod system;
mod text;

pub use attr_path::{ATTR_PATH_BYTES_MAX, ATTR_PATH_DEPTH_MAX, AttrPath, NotAnAttrPath};
pub use cache_info::{CacheInfo, CacheInfoError};
pub use cache_url::{CacheUrl, CacheUrlError};
pub use derivation::{Derivation, DerivationError};
pub use glob::{Glob, GlobError};
pub use hash::{HashError, Sha256};
pub use narinfo::{NarInfo, NarInfoError};
pub use realisation::{DrvOutput, Realisation, RealisationError};
pub use signature::{PublicKey, SecretKey, Signature, fingerprint};
pub use ssh_url::{SshUrl, SshUrlError};
pub use store_path::{DrvPath, NotADrv, StorePath, StorePathError};
pub use system::{NotASystem, SYSTEM_BYTES_MAX, System};
