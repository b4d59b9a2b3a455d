//! A folder of empty files, one per store path and named by its last component: what the collector takes for a root as
//! well as a symlink. All are names of one file, where the file system can do that: a name costs a tenth of what a file
//! or a symlink of its own does, and so does its removal. Adding and removing may be repeated; symlinks to the same
//! path count as well, and what else lies in the folder is left alone.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix_types::StorePath;

use super::{RootsError, check_ours};

/// The file that gets the names. It is no root: this is no name of a store path.
const FILE: &str = ".root";
/// What is to become another, for who has `making`. Whoever was killed may have left it.
const NEW: &str = ".new";

pub(super) struct Marks {
    folder: PathBuf,
    store_dir: String,
    /// The file system gives a file several names.
    shares: AtomicBool,
    making: Mutex<()>,
}

impl Marks {
    pub(super) fn new(folder: PathBuf, store_dir: &str) -> Self {
        Self {
            folder,
            store_dir: store_dir.to_owned(),
            shares: AtomicBool::new(true),
            making: Mutex::default(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a root and removes it again.
    pub(super) fn try_out(&self) -> io::Result<()> {
        let mark = self.folder.join(format!(".try-{}", std::process::id()));
        match self.make(&mark) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {} // left by one that was killed
            other => other?,
        }
        fs::remove_file(&mark)
    }

    /// Whether the path had no root before; it has one now.
    pub(super) fn add(&self, path: &StorePath) -> Result<bool, RootsError> {
        check_ours(&self.store_dir, path)?;
        let mark = self.folder.join(path.base_name());
        let failed = |source| RootsError::Io { what: "make the root", path: mark.clone(), source };
        match self.make(&mark) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if is_root(&mark, path).map_err(failed)? {
                    return Ok(false);
                }
                self.put_new(&mark).map_err(failed)?;
                // What was there named something else, and was no root of ours.
                Ok(true)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether there was a root.
    pub(super) fn remove(&self, path: &StorePath) -> Result<bool, RootsError> {
        check_ours(&self.store_dir, path)?;
        let mark = self.folder.join(path.base_name());
        match fs::remove_file(&mark) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(RootsError::Io { what: "remove the root", path: mark, source }),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<StorePath>, RootsError> {
        let failed = |source| RootsError::Io { what: "list the roots in", path: self.folder.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let Ok(path) = StorePath::parse_str(&format!("{}/{name}", self.store_dir)) else { continue };
            // One that cannot be looked at was removed just now.
            if is_root(&self.folder.join(name), &path).unwrap_or(false) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// Makes an empty file, or one more name of the one there is.
    fn make(&self, mark: &Path) -> io::Result<()> {
        if !self.shares.load(Ordering::Relaxed) {
            return File::create_new(mark).map(drop);
        }
        let file = self.folder.join(FILE);
        if is_ours(&file) {
            match fs::hard_link(&file, mark) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {} // it is not there any more, or has as many names as it can
            }
        }
        match self.put_new(&file).and_then(|()| fs::hard_link(&file, mark)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                File::create_new(mark)?;
                self.shares.store(false, Ordering::Relaxed);
                Ok(())
            }
            other => other,
        }
    }

    /// Removes what is no root but of our making.
    pub(super) fn tidy(&self) {
        for name in [FILE, NEW] {
            let file = self.folder.join(name);
            if is_ours(&file) {
                let _ = fs::remove_file(file); // it costs nothing where it stays
            }
        }
    }

    /// Puts a new file in the place of whatever is there.
    fn put_new(&self, place: &Path) -> io::Result<()> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.folder.join(NEW);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        File::create_new(&new)?;
        fs::rename(&new, place).inspect_err(|_| drop(fs::remove_file(&new)))
    }
}

/// Whether it is an empty file of our own, which may get more names: not a link to something else, nor a file that
/// somebody else may fill, or take away from us.
fn is_ours(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|meta| {
        meta.is_file() && meta.len() == 0 && meta.uid() == rustix::process::geteuid().as_raw()
    })
}

/// Whether what lies there keeps the path: an empty file of its name does, and a symlink to it.
fn is_root(mark: &Path, path: &StorePath) -> io::Result<bool> {
    let kind = fs::symlink_metadata(mark)?.file_type();
    if kind.is_symlink() {
        return Ok(fs::read_link(mark)? == Path::new(path.as_str()));
    }
    Ok(kind.is_file())
}
