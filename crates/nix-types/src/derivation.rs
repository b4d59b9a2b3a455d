//! The bytes of a `.drv` file come in, the derivation comes out: its outputs, inputs, builder and environment; and
//! [`Derivation::print`] writes the very same bytes again. The format has a fixed depth, so reading takes one pass and
//! no recursion. Strings of the builder's world (arguments, environment) stay bytes, for Nix does not ask them to be
//! UTF-8. Derivations which take outputs of derivations made at build time (`DrvWithVersion`) are refused by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::store_path::{DrvPath, NotADrv, StorePath, StorePathError};

pub(crate) mod print;
mod read;

pub use read::parse;

/// Most bytes of a `.drv` file. The largest of a whole package set is a few MiB.
pub const DRV_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a `.drv` file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derivation {
    /// By output name (`out`, `dev`, …); never empty when it was read from a file.
    pub outputs: BTreeMap<String, Output>,
    /// The derivations whose outputs this one needs, and which of their outputs.
    pub input_drvs: BTreeMap<DrvPath, BTreeSet<String>>,
    /// The other store paths it needs.
    pub input_srcs: BTreeSet<StorePath>,
    /// `x86_64-linux`, `builtin`, …
    pub system: String,
    /// The program that builds.
    pub builder: Vec<u8>,
    /// The builder's arguments.
    pub args: Vec<Vec<u8>>,
    /// The builder's environment; attributes of the derivation among it.
    pub env: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One output of a derivation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Where it will be; `None` when only the built content decides.
    pub path: Option<StorePath>,
    /// `sha256`, `r:sha256`, …; empty for an output that depends on its inputs alone.
    pub hash_algo: String,
    /// The content's hash in base 16 when it is fixed in advance, else empty.
    pub hash: String,
}

impl Derivation {
    /// Is the content of its one output fixed in advance (a download, say)?
    #[must_use]
    pub fn is_fixed_output(&self) -> bool {
        match self.outputs.iter().next() {
            Some((name, output)) => self.outputs.len() == 1 && name == "out" && !output.hash.is_empty(),
            None => false,
        }
    }

    /// Is there an output whose path is known only after the build?
    #[must_use]
    pub fn has_unknown_paths(&self) -> bool {
        self.outputs.values().any(|output| output.path.is_none())
    }

    /// A variable of the environment, when it is there and is UTF-8.
    #[must_use]
    pub fn env_str(&self, name: &str) -> Option<&str> {
        self.env.get(name.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The bytes of the `.drv` file.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        print::file(self)
    }
}

/// Why bytes are no derivation. `at` counts bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DerivationError {
    /// More than [`DRV_BYTES_MAX`].
    #[error(
        "the derivation file has {0} bytes, more than {DRV_BYTES_MAX}; it is no derivation, or needs a newer version of this program"
    )]
    TooLarge(usize),
    /// A newer form of the file.
    #[error(
        "the derivation takes its inputs from derivations made at build time, which this version does not read; name its outputs instead"
    )]
    Dynamic,
    /// Something else than the format asks for.
    #[error(
        "the derivation file is damaged: {wanted} expected at byte {at}; `nix-store --verify --check-contents --repair` mends it"
    )]
    Expected {
        /// What the format asks for here.
        wanted: &'static str,
        /// Where.
        at: usize,
    },
    /// Bytes behind the end.
    #[error(
        "the derivation file has more bytes behind its end at byte {at}; `nix-store --verify --check-contents --repair` mends it"
    )]
    Trailing {
        /// Where the derivation ends.
        at: usize,
    },
    /// A name that is not UTF-8.
    #[error("{what} at byte {at} of the derivation file is not UTF-8")]
    NotUtf8 {
        /// Of what.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// The same key twice.
    #[error("{what} ending at byte {at} of the derivation file is there twice")]
    Twice {
        /// Of what.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A path that is none.
    #[error("a path at byte {at} of the derivation file is malformed")]
    Path {
        /// Where.
        at: usize,
        /// Why.
        #[source]
        fault: StorePathError,
    },
    /// An input derivation that is none.
    #[error("an input at byte {at} of the derivation file is not a derivation")]
    InputDrv {
        /// Where.
        at: usize,
        /// Why.
        #[source]
        fault: NotADrv,
    },
}

#[cfg(test)]
mod tests;
