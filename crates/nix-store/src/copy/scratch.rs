//! A folder for one run of Nix, made empty and removed with the value. Nix remembers for a month what a destination
//! has, under a name that leaves out parts of the destination; in an empty folder it has nothing to remember.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(below: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(below)?;
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = below.join(format!("nix-cache-{}-{count}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                // Left by a process of the same number that was killed: take the next name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // a cache: what cannot be removed harms nobody
    }
}
