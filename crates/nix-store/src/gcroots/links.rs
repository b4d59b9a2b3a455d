//! A folder of symlinks, one per store path and named by its last component. Adding and removing may be repeated; what
//! else lies in the folder is left alone.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix_types::StorePath;

use super::{RootsError, check_ours};

pub(super) struct Links {
    folder: PathBuf,
    store_dir: String,
}

/// A link that is there.
pub(super) struct Link {
    pub(super) path: PathBuf,
    /// It was not there before.
    pub(super) new: bool,
}

impl Links {
    pub(super) fn new(folder: PathBuf, store_dir: &str) -> Self {
        Self { folder, store_dir: store_dir.to_owned() }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes a link and removes it again.
    pub(super) fn try_out(&self) -> io::Result<()> {
        let link = self.folder.join(format!(".try-{}", std::process::id()));
        match symlink("nothing", &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {} // left by one that was killed
            other => other?,
        }
        fs::remove_file(&link)
    }

    /// The link for the path, made now or before.
    pub(super) fn add(&self, path: &StorePath) -> Result<Link, RootsError> {
        check_ours(&self.store_dir, path)?;
        let link = self.folder.join(path.base_name());
        let failed = |source| RootsError::Io { what: "make the root", path: link.clone(), source };
        match symlink(path.as_str(), &link) {
            Ok(()) => Ok(Link { path: link, new: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_link(&link).map_err(failed)? == Path::new(path.as_str()) {
                    return Ok(Link { path: link, new: false });
                }
                let new = self.folder.join(format!(".new-{}", path.base_name()));
                match fs::remove_file(&new) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                    Ok(()) | Err(_) => {}
                }
                symlink(path.as_str(), &new).and_then(|()| fs::rename(&new, &link)).map_err(failed)?;
                // What was there named something else, and was no root of ours.
                Ok(Link { path: link, new: true })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether there was a link.
    pub(super) fn remove(&self, path: &StorePath) -> Result<bool, RootsError> {
        check_ours(&self.store_dir, path)?;
        let link = self.folder.join(path.base_name());
        match fs::remove_file(&link) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(RootsError::Io { what: "remove the root", path: link, source }),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<StorePath>, RootsError> {
        let failed = |source| RootsError::Io { what: "list the roots in", path: self.folder.clone(), source };
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(target) = fs::read_link(entry.path()) else { continue }; // not a link, or removed just now
            if let Ok(path) = StorePath::parse(target.as_os_str().as_bytes())
                && path.store_dir() == self.store_dir
                && entry.file_name() == path.base_name()
            {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }
}
