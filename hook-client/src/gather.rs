//! What is to be queued. In flow the flags' leftovers, standard input, Hydra's file, or Nix' two variables;
//! out flow the paths of all of them as one sequence, and one derivation. Whether they are store paths is
//! decided in the next stage.

use hook_wire::{Source, split_out_paths};

use crate::Sys;
use crate::args::{Word, Words};
use crate::hydra::HydraBuild;

/// Where paths and the derivation come from. Several places add up; the environment counts only when there is
/// no other.
pub(crate) struct Inputs<'a, S> {
    pub(crate) source: Source,
    /// The derivation, and how its place is called.
    pub(crate) drv: Option<(&'a [u8], &'static str)>,
    words: Option<Words<'a, S>>,
    list: &'a [u8],
    build: Option<HydraBuild<'a>>,
}

impl<'a, S: Sys> Inputs<'a, S> {
    /// Nix' post-build-hook: `OUT_PATHS` and `DRV_PATH`, of which either may be empty or absent.
    pub(crate) fn environment(sys: &'a S) -> Self {
        let drv = sys.env(b"DRV_PATH").filter(|drv| !drv.is_empty()).map(|drv| (drv, "DRV_PATH"));
        let list = sys.env(b"OUT_PATHS").unwrap_or_default();
        Self { source: Source::Hook, drv, words: None, list, build: None }
    }

    /// The command line, with what standard input and Hydra's file held.
    pub(crate) fn command_line(words: Words<'a, S>, list: &'a [u8], build: Option<HydraBuild<'a>>) -> Self {
        let source = if build.is_some() { Source::Hydra } else { Source::Hook };
        let drv = build.and_then(|build| build.drv).map(|drv| (drv, "drvPath"));
        Self { source, drv, words: Some(words), list, build }
    }

    /// Nothing but the environment was looked at.
    pub(crate) const fn are_environment(&self) -> bool {
        self.words.is_none()
    }

    /// All paths, as they were written.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &'a [u8]> {
        let arguments = self.words.clone().into_iter().flatten().filter_map(|word| match word {
            Word::Path(path) => Some(path),
            Word::Flag(..)
            | Word::Stdin
            | Word::Unknown(_)
            | Word::ValueMissing(_)
            | Word::ValueUnwanted(_) => None,
        });
        let outputs = self.build.into_iter().flat_map(|build| build.paths());
        arguments.chain(split_out_paths(self.list)).chain(outputs)
    }
}
