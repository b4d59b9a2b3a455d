//! Nix' own things as types. Text from outside (a hook's environment, the store database, a `.drv` file, the
//! configuration) comes in once; store paths, derivations and patterns come out, and code further in trusts them.
//! Pure: nothing here reads a file, a clock or a database; whether a path exists is for the `nix-store` crate.
#![forbid(unsafe_code)]

pub mod derivation;
pub mod drv_hash;
pub mod glob;
mod store_path;

pub use derivation::{Derivation, DerivationError};
pub use glob::{Glob, GlobError};
pub use store_path::{DrvPath, NotADrv, StorePath, StorePathError};
