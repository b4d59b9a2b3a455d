//! Commits and work trees come in; folders with exactly what git has for them come out, read-only, with fixed times,
//! and the names of the files in which two of them differ. A repository is somebody else's: nothing that it configures
//! or carries (hooks, filters, attributes, submodules, helpers, transports) is ever run, a person's own repository is
//! never written to, and everything is counted before it is written. Leaves out what the files mean.

mod base;
mod door;
mod error;
mod fetch;
mod git;
mod hash;
mod links;
mod listing;
mod local;
mod mirror;
mod names;
mod odd;
mod places;
mod read;
mod remote;
mod worktree;
mod write;

use std::time::Duration;

pub use base::DefaultBase;
pub use error::{CheckoutError, Class};
pub use fetch::{Fetched, Wanted};
pub use mirror::{Mirror, Mirrors};
pub use names::{RefName, Rev};
pub use places::{Placed, Places};
pub use read::Blob;
pub use remote::{Credential, Remote};
pub use worktree::{Snapshot, Worktree};

/// How much is taken from a repository. What is beyond is refused by name, not cut off.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Most bytes that a mirror may take on disk. One that has grown beyond is made anew.
    pub mirror_bytes: u64,
    /// Most packs in a mirror, before it is made anew: each fetch adds one.
    pub mirror_packs: usize,
    /// Longest that one fetch may take.
    pub fetch: Duration,
    /// Longest that git may take to list the files of a work tree.
    pub list: Duration,
    /// Longest that any other command of git may take, and the writing of a checkout.
    pub read: Duration,
    /// Most bytes in the files of a checkout.
    pub tree_bytes: u64,
    /// Most bytes in one file.
    pub file_bytes: u64,
    /// Most files, links and folders of a checkout.
    pub entries: usize,
    /// Most folders above a file.
    pub depth: usize,
    /// Longest path in a checkout, in bytes.
    pub path_bytes: usize,
    /// Most bytes of names of files that differ between two commits.
    pub changed_bytes: usize,
    /// Most bytes of checkouts that nobody uses and that are kept for the next one of the same tree.
    pub kept_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            mirror_bytes: 16 << 30,
            mirror_packs: 500,
            fetch: Duration::from_secs(30 * 60),
            list: Duration::from_secs(60),
            read: Duration::from_secs(5 * 60),
            tree_bytes: 4 << 30,
            file_bytes: 1 << 30,
            entries: 500_000,
            depth: 64,
            path_bytes: 1024,
            changed_bytes: 64 << 20,
            kept_bytes: 8 << 30,
        }
    }
}
