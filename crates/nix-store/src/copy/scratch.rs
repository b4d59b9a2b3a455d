//! A folder for one run of Nix, made empty and removed with the value; those of processes that were killed are removed
//! by the next one. Nix remembers for a month what a destination has, under a name that leaves out parts of the
//! destination; in an empty folder it has nothing to remember.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "nix-cache-";

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(below: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(below)?;
        sweep(below)?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = below.join(format!("{PREFIX}{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Left by a process of the same number that was killed: take the next name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Removes what processes left that are no more.
fn sweep(below: &Path) -> io::Result<()> {
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path()); // a cache: what cannot be removed harms nobody
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a cache: what cannot be removed harms nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_empty_and_does_not_stay() {
        let below = tempfile::tempdir().unwrap();
        // No process has a number above the kernel's limit of 2^22.
        let dead = below.path().join(format!("{PREFIX}4194305-0"));
        let other = below.path().join("something-else");
        fs::create_dir_all(dead.join("nix")).unwrap();
        fs::create_dir(&other).unwrap();
        let one = Scratch::new(below.path()).unwrap();
        let two = Scratch::new(below.path()).unwrap();
        assert!(!dead.exists() && other.exists());
        assert_ne!(one.path(), two.path());
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 0);
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().exists());
    }
}
