//! Questions about the local store, in our words. Store paths come in, what Nix knows of them comes out. Two real sides,
//! the database ([`SqliteStore`](crate::sqlite::SqliteStore)) and the daemon
//! ([`WorkerStore`](crate::worker::WorkerStore)), with a choice between them ([`LocalStore`](crate::local::LocalStore)),
//! and one for tests ([`FakeStore`](crate::fake::FakeStore)); the same tests run on all. Nothing here changes the store.
//! Calls block: give them a thread of their own.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use nix_types::drv_hash::HashError;
use nix_types::{DerivationError, DrvPath, StorePath, StorePathError};

use crate::daemon::DaemonError;

/// Most paths one closure may have.
pub const CLOSURE_MAX: usize = 1_000_000;

/// What Nix registered about a valid path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// The hash of its NAR as Nix wrote it: `sha256:` and base 16.
    pub nar_hash: String,
    /// The size of its NAR in bytes; 0 when Nix did not note it.
    pub nar_size: u64,
    /// What it refers to, sorted; itself among them if it does.
    pub references: Vec<StorePath>,
    /// What built it; `None` when Nix noted nothing, or nothing that is a store path.
    pub deriver: Option<StorePath>,
    /// When it was registered, in seconds since 1970.
    pub registration_time: u64,
    /// Was it built here (and not copied or downloaded)?
    pub ultimate: bool,
    /// Signatures, `name:base64` each.
    pub signatures: Vec<String>,
    /// The claim by which its content decides its path, `fixed:…` or `text:…`.
    pub ca: Option<String>,
}

/// What a content-addressed output was built to, as a cache keeps it in `realisations/<id>.doi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realisation {
    /// Which output of which derivation: `sha256:`, 64 digits of base 16, `!` and the output's name.
    pub id: String,
    /// The path it was built to.
    pub out_path: StorePath,
    /// Signatures, `name:base64` each.
    pub signatures: Vec<String>,
    /// The realisations it was built from, by id, and the paths they have.
    pub dependent_realisations: BTreeMap<String, StorePath>,
}

/// Which valid paths are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only what was built here.
    pub ultimate_only: bool,
    /// Only what was registered at this time or later, in seconds since 1970.
    pub registered_since: Option<u64>,
}

/// A place in the order of one store's listing. The default is before the first path. That of one store means nothing
/// to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub(crate) i64);

/// Some valid paths, in the order of their registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The paths.
    pub paths: Vec<StorePath>,
    /// Where to go on; `None` when these were the last.
    pub next: Option<Cursor>,
}

/// The door to the local store.
pub trait Store: Send + Sync {
    /// The folder of this store: `/nix/store`.
    fn store_dir(&self) -> &str;

    /// Is the path registered as valid?
    ///
    /// # Errors
    /// [`StoreError`]
    fn is_valid(&self, path: &StorePath) -> Result<bool, StoreError>;

    /// Those of the paths that are valid, in the order they were given in.
    ///
    /// # Errors
    /// [`StoreError`]
    fn valid_among(&self, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
        let mut valid = Vec::new();
        for path in paths {
            if self.is_valid(path)? {
                valid.push(path.clone());
            }
        }
        Ok(valid)
    }

    /// What is registered about it; `None` when it is not valid.
    ///
    /// # Errors
    /// [`StoreError`]
    fn path_info(&self, path: &StorePath) -> Result<Option<PathInfo>, StoreError>;

    /// The paths and everything they refer to, each once, each after all it refers to (itself apart). The order is the
    /// same for the same store and roots.
    ///
    /// # Errors
    /// [`StoreError::NotValid`] when a root is not valid; else as every question.
    fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, StoreError>;

    /// The valid outputs of a derivation, sorted. They come from its `.drv` file and what Nix noted of its outputs
    /// (content-addressed ones too); when the file is gone, or a content-addressed output has no note, from what the
    /// paths themselves name as their deriver. Empty when nothing of it is valid.
    ///
    /// # Errors
    /// [`StoreError`]
    fn outputs_of(&self, drv: &DrvPath) -> Result<Vec<StorePath>, StoreError>;

    /// The realisations Nix noted whose path this is, sorted by id. Empty when there are none: the path is not valid or
    /// not content-addressed, or this Nix keeps no such notes, or keeps them in the form of 2.35 and newer.
    ///
    /// # Errors
    /// [`StoreError`]
    fn realisations_of(&self, path: &StorePath) -> Result<Vec<Realisation>, StoreError>;

    /// Adds signatures, `name:base64` each, to those of a valid path.
    ///
    /// # Errors
    /// [`StoreError::NotValid`]; [`StoreError::is_without_daemon`] tells when only a Nix daemon could do it and there is
    /// none.
    fn add_signatures(&self, path: &StorePath, signatures: &[String]) -> Result<(), StoreError> {
        let _ = (path, signatures); // whoever only reads adds none
        Err(StoreError::OnlyRead { store_dir: self.store_dir().to_owned() })
    }

    /// At most `limit` valid paths behind `after`, in the order of their registration. Pages of one listing may see
    /// changes made between them; what is registered later comes later.
    ///
    /// # Errors
    /// [`StoreError`]
    fn valid_page(&self, filter: &Filter, after: Cursor, limit: usize) -> Result<Page, StoreError>;
}

/// Gives every valid path that `filter` wants to `each`, page by page, in the order of registration.
///
/// # Errors
/// The store's, or the first of `each`.
pub fn all_valid<E: From<StoreError>>(
    store: &dyn Store,
    filter: &Filter,
    mut each: impl FnMut(Vec<StorePath>) -> Result<(), E>,
) -> Result<(), E> {
    const PAGE: usize = 1000;
    let mut next = Some(Cursor::default());
    while let Some(after) = next {
        let page = store.valid_page(filter, after, PAGE)?;
        next = page.next;
        if !page.paths.is_empty() {
            each(page.paths)?;
        }
    }
    Ok(())
}

/// What to do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may pass: ask again later.
    Retry,
    /// Asking again gives the same answer until somebody changes something.
    GiveUp,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path belongs to another store.
    #[error(
        "{path} does not lie in this store, {store_dir}; set NIX_STORE_DIR as the Nix that made it has it"
    )]
    NotInThisStore {
        /// The path.
        path: StorePath,
        /// Our store's folder.
        store_dir: String,
    },
    /// Nix has not made a database yet.
    #[error("there is no store database {}; it appears with the first use of Nix, or NIX_STATE_DIR names another folder", database.display())]
    NoDatabase {
        /// Where it should be.
        database: PathBuf,
    },
    /// The database cannot be opened.
    #[error("cannot open the store database {} to read; without write access to its folder that works only while Nix has it open: start nix-daemon, or run as the owner of the store", database.display())]
    Open {
        /// The database.
        database: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is not a database of a Nix we know.
    #[error("the store database {} has no {missing}; this program reads the databases of Nix 2.0 and newer", database.display())]
    Schema {
        /// The database.
        database: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A question failed.
    #[error("cannot read {what} from the store database {}", database.display())]
    Query {
        /// What was asked.
        what: &'static str,
        /// The database.
        database: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The database holds something that is no store path.
    #[error("the store database {} holds a malformed path; `nix-store --verify` checks the store", database.display())]
    Malformed {
        /// The database.
        database: PathBuf,
        /// What is wrong.
        #[source]
        source: StorePathError,
    },
    /// The path is not valid.
    #[error(
        "{path} is not valid in the store: it was never built or copied here, or was collected as garbage"
    )]
    NotValid {
        /// The path.
        path: StorePath,
    },
    /// A closure larger than [`CLOSURE_MAX`].
    #[error("the closure has more than {CLOSURE_MAX} paths; ask for fewer roots at once")]
    ClosureTooLarge,
    /// A `.drv` file cannot be read.
    #[error("cannot read the derivation {drv}")]
    ReadDrv {
        /// The derivation.
        drv: DrvPath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A `.drv` file cannot be understood.
    #[error("cannot understand the derivation {drv}")]
    Derivation {
        /// The derivation.
        drv: DrvPath,
        /// Why.
        #[source]
        source: DerivationError,
    },
    /// The hash under which Nix notes outputs cannot be worked out.
    #[error("cannot work out what Nix calls the outputs of {drv}")]
    DrvHash {
        /// The derivation.
        drv: DrvPath,
        /// Why.
        #[source]
        source: Box<HashError<StoreError>>,
    },
    /// The Nix daemon does not answer.
    #[error("cannot ask the Nix daemon for {what}")]
    Daemon {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: DaemonError,
    },
    /// The database is only read.
    #[error("{store_dir} cannot be changed without the Nix daemon; start nix-daemon")]
    OnlyRead {
        /// The store's folder.
        store_dir: String,
    },
    /// A test wants it so.
    #[error("the store does not answer: {why}")]
    Down {
        /// What the test said.
        why: String,
    },
}

impl StoreError {
    /// Is it that there is no Nix daemon, which alone may change the store?
    #[must_use]
    pub fn is_without_daemon(&self) -> bool {
        match self {
            Self::OnlyRead { .. } => true,
            Self::Daemon { source: DaemonError::Connect { .. }, .. } => true,
            _ => false, // something else is wrong
        }
    }

    /// Ask again, or not?
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NoDatabase { .. }
            | Self::Open { .. }
            | Self::Query { .. }
            | Self::ReadDrv { .. }
            | Self::Daemon {
                source: DaemonError::Connect { .. } | DaemonError::Broken { .. } | DaemonError::Refused { .. },
                ..
            }
            | Self::OnlyRead { .. }
            | Self::Down { .. } => Class::Retry,
            Self::NotInThisStore { .. }
            | Self::Schema { .. }
            | Self::Malformed { .. }
            | Self::NotValid { .. }
            | Self::ClosureTooLarge
            | Self::Derivation { .. }
            | Self::DrvHash { .. }
            | Self::Daemon { source: DaemonError::Protocol { .. }, .. } => Class::GiveUp,
        }
    }
}

/// Is the path of this store at all?
pub(crate) fn ours(store_dir: &str, path: &StorePath) -> Result<(), StoreError> {
    if path.store_dir() == store_dir {
        Ok(())
    } else {
        Err(StoreError::NotInThisStore { path: path.clone(), store_dir: store_dir.to_owned() })
    }
}
