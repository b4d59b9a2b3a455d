//! Places of this machine come in; what lies there comes out as lines that differ when something of it did. What is in the store
//! never changes, so its path says it all; elsewhere all is looked through that lies below a place, or behind links there.
//! Leaves out what files hold: names, sizes and times tell that they changed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

/// Most files and folders that are looked at below one folder: three times those of nixpkgs.
const LISTED_MAX: usize = 300_000;

/// A look at places, one after the other.
pub(super) struct Look {
    until: Instant,
    store: PathBuf,
    /// What was seen, a line each.
    pub(super) lines: Vec<String>,
    /// The first of what may be another each time.
    pub(super) fleeting: Option<String>,
}

impl Look {
    pub(super) fn until(until: Instant, store: PathBuf) -> Self {
        Self { until, store, lines: Vec::new(), fleeting: None }
    }

    pub(super) fn is_fleeting(&mut self, what: &str) {
        self.fleeting.get_or_insert_with(|| what.to_owned());
    }

    /// What is at a place now.
    pub(super) fn at(&mut self, place: &Path) {
        let what = match fs::canonicalize(place) {
            Err(_) => "nothing".into(),
            Ok(real) if real.starts_with(&self.store) => real.display().to_string(),
            Ok(real) => self.listing(real).unwrap_or_else(|| {
                self.is_fleeting(&place.display().to_string());
                String::new()
            }),
        };
        self.lines.push(format!("{} {what}", place.display()));
    }

    /// All that lies at a path and below it, by names, sizes and times, and what links lead to; git's own folders aside. `None`
    /// where that is too much.
    fn listing(&self, root: PathBuf) -> Option<String> {
        let (mut hash, mut seen) = (Sha256::new(), HashSet::new());
        let mut waiting = vec![root];
        while let Some(path) = waiting.pop() {
            if seen.len() + waiting.len() > LISTED_MAX || Instant::now() > self.until {
                return None;
            }
            if !seen.insert(path.clone()) {
                continue;
            }
            hash.update(path.as_os_str().as_bytes());
            let Ok(meta) = fs::symlink_metadata(&path) else {
                hash.update("\0nothing\0");
                continue;
            };
            // A folder's own time changes with what nobody evaluates, such as `.git`.
            let (size, time, part) = match meta.is_dir() {
                true => (0, 0, 0),
                false => (meta.len(), meta.mtime(), meta.mtime_nsec()),
            };
            hash.update(format!("\0{:o} {size} {time} {part}\0", meta.mode()));
            if meta.is_symlink() {
                match fs::canonicalize(&path) {
                    Ok(real) if !real.starts_with(&self.store) => waiting.push(real),
                    real => hash.update(format!("{real:?}")),
                }
            } else if meta.is_dir() {
                match inside(&path) {
                    Ok(inside) => waiting.extend(inside),
                    // Who evaluates cannot read it either.
                    Err(error) => hash.update(error.kind().to_string()),
                }
            }
        }
        Some(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What lies in a folder, in order; one more than is looked at, where it is more.
fn inside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.take(LISTED_MAX + 1).map(|entry| Ok(entry?.path()));
    let mut inside = entries.collect::<io::Result<Vec<_>>>()?;
    inside.retain(|path| path.file_name() != Some(OsStr::new(".git")));
    inside.sort_unstable();
    Ok(inside)
}
