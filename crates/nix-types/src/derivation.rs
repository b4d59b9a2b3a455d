//! The bytes of a `.drv` file come in, the derivation comes out: its outputs, inputs, builder and environment; and
//! [`Derivation::print`] writes the very same bytes again. The format has a fixed depth, so reading takes one pass and
//! no recursion. Strings of the builder's world (arguments, environment) stay bytes, for Nix does not ask them to be
//! UTF-8. Derivations which take outputs of derivations made at build time (`DrvWithVersion`) are refused by name.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::store_path::{DrvPath, NotADrv, StorePath, StorePathError};

pub(crate) mod print;
mod read;

pub use read::{parse, view};

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

/// What a `.drv` file says, borrowed from its bytes: for walks over many of them. In the order it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrvView<'a> {
    /// Never empty.
    pub outputs: Vec<OutputView<'a>>,
    /// Paths of derivations, and which of their outputs. Each is a derivation's path.
    pub input_drvs: Vec<InputView<'a>>,
    /// Other store paths.
    pub input_srcs: Vec<Cow<'a, str>>,
    /// As in [`Derivation`].
    pub system: Cow<'a, str>,
    /// As in [`Derivation`].
    pub builder: Cow<'a, [u8]>,
    /// As in [`Derivation`].
    pub args: Vec<Cow<'a, [u8]>>,
    /// As in [`Derivation`].
    pub env: Vec<VariableView<'a>>,
}

/// A derivation's path, and outputs of it.
pub type InputView<'a> = (Cow<'a, str>, Vec<Cow<'a, str>>);
/// Name and value.
pub type VariableView<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// As [`Output`], borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputView<'a> {
    /// `out`, `dev`, …
    pub name: Cow<'a, str>,
    /// A store path.
    pub path: Option<Cow<'a, str>>,
    /// As in [`Output`].
    pub hash_algo: Cow<'a, str>,
    /// As in [`Output`].
    pub hash: Cow<'a, str>,
}

impl DrvView<'_> {
    /// As [`Derivation::is_fixed_output`].
    #[must_use]
    pub fn is_fixed_output(&self) -> bool {
        matches!(&*self.outputs, [output] if output.name == "out" && !output.hash.is_empty())
    }

    /// As [`Derivation::has_unknown_paths`].
    #[must_use]
    pub fn has_unknown_paths(&self) -> bool {
        self.outputs.iter().any(|output| output.path.is_none())
    }

    /// A variable of the environment, when it is there.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&[u8]> {
        self.env.iter().find(|(key, _)| **key == *name.as_bytes()).map(|(_, value)| &**value)
    }

    /// As [`Derivation::env_str`].
    #[must_use]
    pub fn env_str(&self, name: &str) -> Option<&str> {
        self.env(name).and_then(|value| std::str::from_utf8(value).ok())
    }
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
