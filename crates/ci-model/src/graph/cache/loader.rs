//! The door to what was written down: a derivation goes in, its state and the rest come out.

use std::time::Duration;

use nix_types::DrvPath;

use crate::flow::BuildState;

/// What is known of a derivation that was evicted.
pub trait Loader<V> {
    /// Why it cannot be said.
    type Error;

    /// What was written down last about this derivation.
    ///
    /// # Errors
    /// Whatever keeps it from being read; nothing is remembered then.
    fn load(&mut self, drv: &DrvPath) -> Result<Loaded<V>, Self::Error>;
}

/// What was written down about a derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    /// Its state.
    pub state: BuildState,
    /// The rest.
    pub value: V,
    /// How long it took to read.
    pub took: Duration,
}

/// What is remembered of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'c, V> {
    /// Its state.
    pub state: BuildState,
    /// The rest.
    pub value: &'c V,
}
