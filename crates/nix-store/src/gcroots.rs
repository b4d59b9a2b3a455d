//! Store paths to keep come in; roots that Nix' garbage collector really honours come out, one per path. Two
//! kinds: empty files in a real folder below Nix' own roots, where we may write there; else symlinks in a folder of ours
//! which the Nix daemon is told of. Which paths to keep, and until when, is for the caller; a root does not bring a path
//! back, so ask whether the path is valid *after* it was added.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix_types::StorePath;

use crate::daemon::{Daemon, DaemonError};
use crate::dirs::StoreDirs;
use crate::store::{StoreError, ours};

mod left;
mod links;
mod marks;

pub use left::LeftRoots;
use links::Links;
use marks::Marks;

/// Our folder below Nix' roots. Whoever keeps paths has a folder of its own in it: nobody takes another's roots for
/// left-overs.
pub const FOLDER: &str = "eka-queue";
/// Most bytes of the name of such a folder that are told in full.
const NAME_BYTES_MAX: usize = 200;

/// The roots of this program, of the kind that works here.
pub enum GcRoots {
    /// Files that the collector finds itself.
    Direct(Roots),
    /// Links in our own folder that the daemon was told of.
    Indirect(IndirectRoots),
}

/// Empty files in a real folder below Nix' roots, named like the paths that they keep.
pub struct Roots {
    marks: Marks,
}

/// Links in a folder of ours, each registered with the Nix daemon.
pub struct IndirectRoots {
    links: Links,
    socket: PathBuf,
    /// Why there are no direct ones.
    because: NotHonoured,
}

/// Why the collector would not honour what is in our folder, or we cannot put them there.
#[derive(Debug, thiserror::Error)]
pub enum NotHonoured {
    /// It is a link, which the collector does not follow.
    #[error("{} is a symbolic link, and the collector does not follow links to folders; make it a real folder", .0.display())]
    Link(PathBuf),
    /// It is not a folder.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It is not there and cannot be made.
    #[error("cannot make {}; systemd-tmpfiles can, owned by this service", path.display())]
    CannotMake {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there, but not ours.
    #[error("cannot write in {}; make this service its owner", path.display())]
    CannotWrite {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a root could not be made, removed or listed.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Neither kind of root works here.
    #[error(
        "cannot keep paths from the garbage collector: no direct roots ({}), and no daemon for others; remedy either",
        crate::gcroots::chain(direct)
    )]
    NoKind {
        /// Why not direct ones.
        direct: NotHonoured,
        /// Why not through the daemon.
        #[source]
        daemon: DaemonError,
    },
    /// The daemon did not register a link.
    #[error("cannot register the root for {path}")]
    Register {
        /// The path to keep.
        path: StorePath,
        /// Why.
        #[source]
        source: DaemonError,
    },
    /// The path belongs to another store.
    #[error(transparent)]
    Foreign(#[from] StoreError),
    /// The file system said no.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl GcRoots {
    /// Chooses: direct roots where Nix honours them and we may write, in a folder named after `own_folder`; else roots
    /// through the daemon with symlinks in `own_folder` (made when missing). Both are idempotent; neither is synced to disk: rebuild roots from your own
    /// record at start.
    ///
    /// # Errors
    /// [`RootsError::NoKind`] when neither works.
    pub fn choose(dirs: &StoreDirs, own_folder: &Path) -> Result<Self, RootsError> {
        match Roots::open(dirs, own_folder) {
            Ok(roots) => Ok(Self::Direct(roots)),
            Err(direct) => IndirectRoots::open(dirs, own_folder, direct).map(Self::Indirect),
        }
    }

    /// Keeps a path. Repeating it changes nothing. True when it was not kept before.
    ///
    /// # Errors
    /// [`RootsError`]
    pub fn add(&self, path: &StorePath) -> Result<bool, RootsError> {
        match self {
            Self::Direct(roots) => roots.add(path),
            Self::Indirect(roots) => roots.add_all(std::slice::from_ref(path)).map(|new| new > 0),
        }
    }

    /// Keeps paths; through the daemon, in one conversation.
    ///
    /// # Errors
    /// The first that fails; those before it are kept.
    pub fn add_all(&self, paths: &[StorePath]) -> Result<(), RootsError> {
        match self {
            Self::Direct(roots) => paths.iter().try_for_each(|path| roots.add(path).map(drop)),
            Self::Indirect(roots) => roots.add_all(paths).map(drop),
        }
    }

    /// Lets a path go. One that is not kept is no error. True when there was a root.
    ///
    /// # Errors
    /// [`RootsError`]
    pub fn remove(&self, path: &StorePath) -> Result<bool, RootsError> {
        match self {
            Self::Direct(roots) => roots.marks.remove(path),
            Self::Indirect(roots) => roots.links.remove(path),
        }
    }

    /// The paths kept, sorted. Entries of the folder that are no roots of ours are left out, and left alone.
    ///
    /// # Errors
    /// [`RootsError`]
    pub fn list(&self) -> Result<Vec<StorePath>, RootsError> {
        match self {
            Self::Direct(roots) => roots.marks.list(),
            Self::Indirect(roots) => roots.links.list(),
        }
    }
}

/// Which kind, where, and why.
impl fmt::Display for GcRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(roots) => {
                let folder = roots.marks.folder().display();
                write!(f, "direct roots in {folder}, which the collector searches itself")
            }
            Self::Indirect(roots) => write!(
                f,
                "roots in {}, registered with the Nix daemon at {}, for direct ones are not possible: {}",
                roots.links.folder().display(),
                roots.socket.display(),
                chain(&roots.because)
            ),
        }
    }
}

impl Roots {
    /// Finds out whether the collector honours our folder below its roots and we can write there; makes it, and the one
    /// in it for this owner, when it is missing. The owner is an absolute path that no other has.
    ///
    /// # Errors
    /// [`NotHonoured`] says why not.
    pub fn open(dirs: &StoreDirs, owner: &Path) -> Result<Self, NotHonoured> {
        let above = dirs.gcroots();
        is_real_folder(&above)?;
        let shared = above.join(FOLDER);
        make_real_folder(&shared)?;
        let folder = shared.join(name_of(owner));
        make_real_folder(&folder).map_err(|error| match error {
            NotHonoured::CannotMake { source, .. } => NotHonoured::CannotWrite { path: shared, source },
            other => other,
        })?;
        let marks = Marks::new(folder, dirs.store());
        marks
            .try_out()
            .map_err(|source| NotHonoured::CannotWrite { path: marks.folder().to_owned(), source })?;
        Ok(Self { marks })
    }

    /// Keeps a path. Repeating it changes nothing. True when it was not kept before.
    ///
    /// # Errors
    /// [`RootsError`]
    pub fn add(&self, path: &StorePath) -> Result<bool, RootsError> {
        self.marks.add(path)
    }
}

impl IndirectRoots {
    /// Makes our folder and makes sure that the daemon answers. `because` is why there are no direct roots.
    ///
    /// # Errors
    /// [`RootsError`] when the folder cannot be made or the daemon does not answer.
    pub fn open(dirs: &StoreDirs, own_folder: &Path, because: NotHonoured) -> Result<Self, RootsError> {
        let socket = dirs.daemon_socket().to_owned();
        if let Err(daemon) = Daemon::connect(&socket) {
            return Err(RootsError::NoKind { direct: because, daemon });
        }
        let io =
            |what: &'static str| move |source| RootsError::Io { what, path: own_folder.to_owned(), source };
        fs::create_dir_all(own_folder).map_err(io("make the folder"))?;
        let folder = own_folder.canonicalize().map_err(io("find the folder"))?;
        let links = Links::new(folder, dirs.store());
        links.try_out().map_err(io("write in"))?;
        Ok(Self { links, socket, because })
    }

    /// Keeps paths, in one conversation with the daemon. Gives the number of links that were not there before.
    ///
    /// # Errors
    /// [`RootsError`]
    pub fn add_all(&self, paths: &[StorePath]) -> Result<usize, RootsError> {
        let (mut daemon, mut new) = (None, 0);
        for path in paths {
            let register = |source| RootsError::Register { path: path.clone(), source };
            let link = self.links.add(path)?;
            let daemon = match &mut daemon {
                Some(daemon) => daemon,
                none => none.insert(Daemon::connect(&self.socket).map_err(register)?),
            };
            daemon.add_indirect_root(&link.path).map_err(register)?;
            new += usize::from(link.new);
        }
        Ok(new)
    }
}

fn make_real_folder(folder: &Path) -> Result<(), NotHonoured> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_real_folder(folder),
        Err(source) => Err(NotHonoured::CannotMake { path: folder.to_owned(), source }),
        Ok(()) => Ok(()),
    }
}

/// A path as one name, as systemd escapes it; the hash of it when it is very long.
fn name_of(owner: &Path) -> String {
    let above = owner.parent().and_then(|above| above.canonicalize().ok());
    let found = above.zip(owner.file_name()).map(|(above, name)| above.join(name));
    let path = found.as_deref().unwrap_or(owner).as_os_str().as_bytes();
    let mut name = String::new();
    for byte in path.strip_prefix(b"/").unwrap_or(path) {
        match byte {
            b'/' => name.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b':' => name.push(char::from(*byte)),
            other => name.push_str(&format!("\\x{other:02x}")),
        }
    }
    if name.len() > NAME_BYTES_MAX { nix_types::Sha256::of(path).nix32() } else { name }
}

fn is_real_folder(path: &Path) -> Result<(), NotHonoured> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_symlink() => Err(NotHonoured::Link(path.to_owned())),
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => Err(NotHonoured::NotAFolder(path.to_owned())),
        Err(source) => Err(NotHonoured::CannotMake { path: path.to_owned(), source }),
    }
}

/// The whole of an error in one line, for a sentence that has two of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn check_ours(store_dir: &str, path: &StorePath) -> Result<(), RootsError> {
    Ok(ours(store_dir, path)?)
}
