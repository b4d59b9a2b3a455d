//! Pipes, devices and sockets where git expects a file: it opens them as it would a file, and waits for a pipe without end.
//! A folder comes in; those that git would open come out. Links count as files: git does not follow those it comes across.
//! Leaves out what to do about them.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::CheckoutError;
use super::listing::refused;
use super::local::is_git_dir;

/// Most that are told; whoever has found so many need not look for more.
const FOUND_MAX: usize = 64;
/// Most folders that wait to be looked at; a tree with more is too large for a checkout anyway.
const FOLDERS_MAX: usize = 1 << 20;

/// Something odd: where it is, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Odd {
    pub(super) path: PathBuf,
    what: &'static str,
}

/// Ends a search when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Searching(Arc<AtomicBool>);

impl Drop for Searching {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Searching {
    /// What the search asks whether it is to go on.
    pub(super) fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Odd {
    /// What is at a path, links followed, if git would not read it as a file.
    pub(super) fn at(path: &Path) -> Option<Self> {
        Self::of(path, fs::metadata(path).ok()?.file_type())
    }

    fn of(path: &Path, kind: FileType) -> Option<Self> {
        let what = if kind.is_fifo() {
            "a pipe"
        } else if kind.is_socket() {
            "a socket"
        } else if kind.is_block_device() || kind.is_char_device() {
            "a device"
        } else {
            return None;
        };
        Some(Self { path: path.to_owned(), what })
    }

    fn of_entry(entry: &DirEntry) -> Option<Self> {
        Self::of(&entry.path(), entry.file_type().ok()?)
    }

    /// That nothing is read of the tree because of it.
    pub(super) fn refused(&self, tree: &str, root: &Path) -> CheckoutError {
        use std::os::unix::ffi::OsStrExt;
        let path = self.path.strip_prefix(root).unwrap_or(&self.path);
        refused(tree, path.as_os_str().as_bytes(), self.why())
    }

    /// As an error of the disk.
    pub(super) fn unread(&self) -> CheckoutError {
        CheckoutError::disk("read", &self.path)(io::Error::other(format!("it {}", self.why())))
    }

    fn why(&self) -> String {
        format!("is {}, where git expects a file; remove it", self.what)
    }
}

/// What git would open while it lists a work tree: `.gitignore` of each folder, and `HEAD` of repositories within, into
/// which it does not go. Folders come before what is in them; below a folder with one of them nothing is looked for.
/// Ends early once `over` is set.
pub(super) fn in_work_tree(root: &Path, over: &AtomicBool) -> Vec<Odd> {
    search(root, over, |folder, entries| {
        if folder != root && is_git_dir(&folder.join(".git")) {
            let odd = Odd::at(&folder.join(".git/HEAD"));
            return Step { odd: odd.into_iter().collect(), goes_in: false };
        }
        let ignores = entries.iter().find(|entry| entry.file_name() == ".gitignore");
        let odd = ignores.and_then(Odd::of_entry);
        Step { goes_in: odd.is_none(), odd: odd.into_iter().collect() }
    })
}

/// Whatever below a folder is neither file nor link.
pub(super) fn below(root: &Path) -> Vec<Odd> {
    search(root, &AtomicBool::new(false), |_, entries| Step {
        odd: entries.iter().filter_map(Odd::of_entry).collect(),
        goes_in: true,
    })
}

struct Step {
    odd: Vec<Odd>,
    goes_in: bool,
}

/// What cannot be listed is git's to tell.
fn search(root: &Path, over: &AtomicBool, look: impl Fn(&Path, &[DirEntry]) -> Step) -> Vec<Odd> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        if over.load(Ordering::Relaxed) || found.len() >= FOUND_MAX {
            break;
        }
        let Ok(list) = fs::read_dir(&folder) else { continue };
        let entries: Vec<DirEntry> = list.filter_map(Result::ok).collect();
        let step = look(&folder, &entries);
        found.extend(step.odd);
        let is_folder = |entry: &&DirEntry| {
            entry.file_name() != ".git" && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        if step.goes_in {
            let room = FOLDERS_MAX.saturating_sub(folders.len());
            folders.extend(entries.iter().filter(is_folder).take(room).map(DirEntry::path));
        }
    }
    found.truncate(FOUND_MAX);
    found
}
