//! What is asked of derivations: what their files say. Who has them decides how: all in memory, or read when asked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::BuildHasher;

use nix_types::{Derivation, DrvPath};

/// What the files of derivations say.
pub trait DrvFacts {
    /// What this one says; `None` when its file is not there to read. Asked a few times about derivations that differ and
    /// take each other's place, so it should not be read from a disk each time. They are compared pair by pair, needs
    /// before their users, so whoever reads no more than so many files should read the first that are asked for.
    fn get(&self, drv: &DrvPath) -> Option<Cow<'_, Derivation>>;
}

impl<S: BuildHasher> DrvFacts for HashMap<DrvPath, Derivation, S> {
    fn get(&self, drv: &DrvPath) -> Option<Cow<'_, Derivation>> {
        self.get(drv).map(Cow::Borrowed)
    }
}

/// No file is there: only names and shape tell derivations apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFacts;

impl DrvFacts for NoFacts {
    fn get(&self, _: &DrvPath) -> Option<Cow<'_, Derivation>> {
        None
    }
}
