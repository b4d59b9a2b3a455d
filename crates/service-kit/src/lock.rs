//! One daemon for each state folder. In: the folder. Out: an exclusive lock that ends with the process, however
//! it ends. Leaves out making the folder. Also, for who locks files that are removed while others wait for them: whether the
//! one that was locked still counts.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file within the state folder that is locked; it stays when the lock is gone.
const LOCK_FILE: &str = "lock";
/// How long the lock of a holder that is gone may last: a child it was starting when it was killed has the open
/// file until it ends or executes its program.
const AFTERLIFE: Duration = Duration::from_secs(1);
/// The pause between two looks at such a lock.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Holds the state folder until dropped.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    /// Of this open file, which children that are just being started have as well.
    file: File,
}

/// Why the state folder could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("state folder {} is in use{}; stop that process, or name another folder", .dir.display(), by(*.pid))]
    StateLocked {
        /// The folder.
        dir: PathBuf,
        /// The process that holds it, as far as it said.
        pid: Option<u32>,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot lock state folder {}; check that it exists and that this user may write in it", .dir.display())]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

impl StateLock {
    /// Locks `dir`, or says at once who holds it; when that process is gone already, within a second.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let unusable = |source| LockError::Unusable { dir: dir.to_owned(), source };
        let path = dir.join(LOCK_FILE);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(unusable)?;
        let begun = Instant::now();
        while let Err(refused) = file.try_lock() {
            let pid = match refused {
                TryLockError::WouldBlock => holder(&mut file),
                TryLockError::Error(source) => return Err(unusable(source)),
            };
            if pid.is_none_or(is_there) || begun.elapsed() >= AFTERLIFE {
                return Err(LockError::StateLocked { dir: dir.to_owned(), pid });
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a program locks before it has a clock or a runtime"
            )]
            std::thread::sleep(LOOK_AGAIN);
        }
        note_holder(&mut file).map_err(unusable)?;
        Ok(Self { dir: dir.to_owned(), file })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for StateLock {
    /// Closing the file would not do: a child between its fork and its exec has it open, and with it the lock.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            // It ends with the last process that has the file open.
            tracing::debug!(path = %self.dir.display(), "{} stays locked: {error}", self.dir.display());
        }
    }
}

/// Is an open file still the one at this path? Who waited for its lock may hold one that its last holder removed, and
/// another may have been put in its place. `false` as well when either cannot be looked at. A link is followed.
#[must_use]
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn note_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The number in the file; `None` when the holder has not written it, or not yet.
fn holder(file: &mut File) -> Option<u32> {
    file.rewind().ok()?;
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it_and_the_next_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        assert_eq!(first.dir(), dir.path());
        let refused = StateLock::take(dir.path()).unwrap_err();
        let me = std::process::id();
        assert!(matches!(refused, LockError::StateLocked { pid: Some(pid), .. } if pid == me), "{refused}");
        assert!(refused.to_string().contains(&format!("in use by process {me};")), "{refused}");
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }

    /// As when one thread ends the daemon in the moment that another one starts a child.
    #[test]
    fn a_child_that_is_being_started_does_not_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateLock::take(dir.path()).unwrap();
        let _childs = lock.file.try_clone().unwrap();
        drop(lock);
        StateLock::take(dir.path()).unwrap();
    }

    /// As after a kill in the moment between a child's fork and its exec.
    #[test]
    fn what_a_dead_holder_left_locked_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        let nobody = u32::MAX;
        fs::write(&path, format!("{nobody}\n")).unwrap();
        let left = File::open(&path).unwrap();
        left.lock().unwrap();
        let refused = StateLock::take(dir.path()).unwrap_err();
        assert!(
            matches!(refused, LockError::StateLocked { pid: Some(pid), .. } if pid == nobody),
            "{refused}"
        );
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| StateLock::take(dir.path()));
            drop(left);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_is_not_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::create(&path).unwrap();
        assert!(is_at(&file, &path));
        fs::rename(&path, dir.path().join("b")).unwrap();
        assert!(!is_at(&file, &path));
        let other = File::create(&path).unwrap();
        assert!(is_at(&other, &path) && !is_at(&file, &path) && is_at(&file, &dir.path().join("b")));
    }

    #[test]
    fn an_absent_folder_is_named_with_its_cause() {
        let error = StateLock::take(Path::new("/nonexistent/state")).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot lock state folder /nonexistent/state; check"),
            "{error}"
        );
        assert!(std::error::Error::source(&error).is_some());
    }
}
