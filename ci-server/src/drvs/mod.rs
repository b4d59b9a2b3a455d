//! The closure of derivations, read from their files.
//!
//! In flow the derivations somebody asks about; out flows what is kept of each in their closure that is not known yet,
//! inputs before their users, and beside it which cannot be used. Files are read and parsed by several threads, with no
//! process and no database; a derivation that is known is not read again, nor is anything below it. Leaves out whether
//! anything is built.

mod order;
mod walk;

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use ci_model::drv::{DrvRecord, RecordError};
use nix_types::{DerivationError, DrvPath};

/// Threads that read at once, at most.
pub const READERS_MAX: usize = 16;
/// Most derivations of one walk. The whole of nixpkgs has some hundred thousand.
pub const DRVS_MAX: usize = 5_000_000;

/// Most bytes of names that one walk holds. The whole of nixpkgs has less than 2 GiB.
pub const HELD_BYTES_MAX: u64 = 4 << 30;

/// What one walk found.
#[derive(Debug, Default)]
pub struct Walked {
    /// What was not known and can be used with all it needs, inputs before their users.
    pub drvs: Vec<DrvRecord>,
    /// What cannot be used ([`DrvsError::Read`], [`Parse`](DrvsError::Parse), [`Record`](DrvsError::Record) and
    /// [`Cycle`](DrvsError::Cycle)), in order of their paths, circles last.
    pub unusable: Vec<Unusable>,
    /// Derivations that are not among [`Walked::drvs`], with the place in [`Walked::unusable`] of what they are, or
    /// need: the first of it where it is several.
    pub left_out: HashMap<DrvPath, usize>,
    /// Bytes of files that were read.
    pub bytes: u64,
}

/// A derivation that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// Which one.
    pub drv: DrvPath,
    /// Why.
    pub why: DrvsError,
}

/// Why a closure cannot be read, or a derivation of it not be used.
#[derive(Debug, thiserror::Error)]
pub enum DrvsError {
    /// A file is gone: collected since it was written. Evaluating again writes it again.
    #[error(
        "the derivation {0} is no longer in the store; it was collected since it was evaluated; evaluate it again"
    )]
    Gone(DrvPath),
    /// It cannot be read.
    #[error("cannot read the derivation {drv}; see that the store is there and that this user may read it")]
    Read {
        /// Which one.
        drv: DrvPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is damaged, or of a form that is not read.
    #[error("cannot use the derivation {drv}; mend its file or what writes it, as its reason says")]
    Parse {
        /// Which one.
        drv: DrvPath,
        /// Why.
        #[source]
        source: DerivationError,
    },
    /// It says what cannot be right.
    #[error("cannot use the derivation {drv}; correct the code that it is written by")]
    Record {
        /// Which one.
        drv: DrvPath,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Derivations that need each other: no Nix writes that.
    #[error(
        "the derivation {0} needs itself, over others; its file is damaged, and \
         `nix-store --verify --check-contents --repair` mends it"
    )]
    Cycle(DrvPath),
    /// More than anybody has.
    #[error("the closure has more than {DRVS_MAX} derivations; ask for fewer attributes at once")]
    TooMany,
    /// More names than anybody has.
    #[error("the closure has more than {HELD_BYTES_MAX} bytes of names; ask for fewer attributes at once")]
    TooLarge,
    /// The caller wants no more.
    #[error("cancelled")]
    Cancelled,
}

impl DrvsError {
    /// May evaluating again mend it?
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }
}

/// Reads the closure of `roots` but for what `is_known`, with the threads this machine has.
///
/// Derivations that cannot be used are left out with all that need them, and are told.
///
/// # Errors
/// [`DrvsError::Gone`] names a derivation that may be written again; [`DrvsError::TooMany`], [`DrvsError::TooLarge`] and
/// [`DrvsError::Cancelled`].
pub fn walk(
    roots: &[DrvPath],
    is_known: &(dyn Fn(&DrvPath) -> bool + Sync),
    cancelled: &AtomicBool,
) -> Result<Walked, DrvsError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(READERS_MAX);
    walk_with(threads, roots, is_known, cancelled)
}

/// [`walk`] with so many threads.
///
/// # Errors
/// As [`walk`].
pub fn walk_with(
    threads: usize,
    roots: &[DrvPath],
    is_known: &(dyn Fn(&DrvPath) -> bool + Sync),
    cancelled: &AtomicBool,
) -> Result<Walked, DrvsError> {
    let found = walk::read_all(threads, roots, is_known, cancelled, HELD_BYTES_MAX)?;
    Ok(order::inputs_first(found))
}
