//! What can go wrong with a checkout: what was tried, on what, and what to do next. Text of repositories and servers is
//! shown in one line, bounded and without control characters.

use std::io;
use std::path::{Path, PathBuf};

use nix_store::process::ProcessError;
use service_kit::text::one_line;

/// Longest text of git or of a repository that an error shows, in characters.
const SAID_MAX: usize = 300;

/// What to do about a [`CheckoutError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass: try again later.
    Retry,
    /// It stays until somebody changes something.
    Permanent,
}

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// A text that names no repository we speak to.
    #[error("{remote} is no repository that can be fetched from: {why}")]
    Remote {
        /// As it was written, without what may be a password.
        remote: String,
        /// What is wrong and what is expected.
        why: &'static str,
    },
    /// A text that names no commit.
    #[error("{text:?} is no {what}: {why}")]
    Name {
        /// As it was written.
        text: String,
        /// What it should be.
        what: &'static str,
        /// What is expected.
        why: &'static str,
    },
    /// No repository where one was looked for.
    #[error("there is no git repository at {}: {why}", path.display())]
    NoRepository {
        /// Where.
        path: PathBuf,
        /// What is absent, or cannot be read, and the remedy.
        why: String,
    },
    /// A repository without files.
    #[error("{} is a bare git repository, which has no work tree; name a work tree of it, for example one that `git worktree add` makes", path.display())]
    Bare {
        /// Where.
        path: PathBuf,
    },
    /// The repository does not have it.
    #[error("{place} has no {what}; {remedy}")]
    Absent {
        /// Which repository.
        place: String,
        /// What was looked for.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An entry of a tree that is not written.
    #[error("the checkout of {tree} is refused: {path} {why}")]
    Entry {
        /// Which tree.
        tree: String,
        /// Which entry, quoted.
        path: String,
        /// Why, and the remedy.
        why: String,
    },
    /// A bound was reached.
    #[error("{what} is too large: more than {limit} {unit}; {remedy}")]
    TooLarge {
        /// What.
        what: String,
        /// The bound.
        limit: u64,
        /// Of what.
        unit: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A time limit was reached.
    #[error("could not {tried} within {} s; {matter}", after.as_secs())]
    TooLong {
        /// What was tried, on what.
        tried: String,
        /// The limit.
        after: std::time::Duration,
        /// What may be the matter.
        matter: &'static str,
    },
    /// Git failed.
    #[error("could not {tried}: git said {said:?}; {remedy}")]
    Git {
        /// What was tried, on what.
        tried: String,
        /// The last of what it said.
        said: String,
        /// What to do.
        remedy: &'static str,
        /// May it pass?
        class: Class,
    },
    /// Git said something that makes no sense.
    #[error(
        "could not {tried}: git answered {answer:?}, which was not expected; git 2.31 or later is needed"
    )]
    Answer {
        /// What was tried.
        tried: String,
        /// What it said.
        answer: String,
    },
    /// Git could not be started.
    #[error("could not {tried}")]
    Process {
        /// What was tried.
        tried: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// A file or folder of ours, or of a work tree.
    #[error("could not {tried} {}{}", path.display(), disk_remedy(source))]
    Disk {
        /// What was tried.
        tried: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else holds it.
    #[error("{what} is in use by another run; try again when that is over")]
    InUse {
        /// What.
        what: String,
    },
    /// A folder that is not ours to clean up.
    #[error("{} holds files and is no folder of checkouts; name an empty folder, or one that does not exist", path.display())]
    NotOurs {
        /// Which folder.
        path: PathBuf,
    },
}

impl CheckoutError {
    /// May it pass by itself?
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Git { class, .. } => *class,
            Self::TooLong { .. } | Self::InUse { .. } | Self::Process { .. } => Class::Retry,
            Self::Disk { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory => {
                    Class::Permanent
                }
                _ => Class::Retry,
            },
            Self::Remote { .. }
            | Self::Name { .. }
            | Self::NoRepository { .. }
            | Self::Bare { .. }
            | Self::Absent { .. }
            | Self::Entry { .. }
            | Self::TooLarge { .. }
            | Self::Answer { .. }
            | Self::NotOurs { .. } => Class::Permanent,
        }
    }

    pub(super) fn disk(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { tried, path, source }
    }

    pub(super) fn name(text: &str, what: &'static str, why: &'static str) -> Self {
        Self::Name { text: short(text), what, why }
    }
}

/// What to do about a disk that refuses.
fn disk_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room on its disk",
        io::ErrorKind::ReadOnlyFilesystem => "; its disk cannot be written to, name a folder on another one",
        _ => "",
    }
}

fn short(text: &str) -> String {
    let short: String = text.chars().take(SAID_MAX).collect();
    one_line(&short).to_string()
}

/// What git or a repository said, in one line.
pub(super) fn said(bytes: &[u8]) -> String {
    short(String::from_utf8_lossy(bytes).trim())
}

/// A path of a repository as it is shown: quoted, so that no byte of it steers a terminal.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let short: String = text.chars().take(SAID_MAX).collect();
    format!("{short:?}")
}
