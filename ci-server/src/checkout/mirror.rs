//! Repositories as we have them: a bare mirror for each one that is elsewhere, and for each one on this machine a folder
//! that reads its objects where they lie. One writes to a mirror at a time; whoever reads holds it, so that it is not
//! made anew beneath. What a killed process left is removed by the next that writes.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use service_kit::clock::Clock;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::git::Repository;
use super::hash::{Format, hex};
use super::local::{Layout, bare};
use super::{Bounds, CheckoutError, Remote, door};

/// Between two tries to take a lock that another run holds.
const LOCK_EVERY: Duration = Duration::from_millis(50);
/// Says that a folder is ours.
const MARKER: &str = ".ekaci-mirrors";
/// In a mirror: a fetch began and has not ended.
const FETCHING: &str = "fetching";
/// Beginning of a folder that reads somebody else's objects.
const LOOK: &str = "look-";
/// In it: locked while it is used.
const LOOK_LOCK: &str = "lock";

/// The folder of all mirrors.
#[derive(Clone, Debug)]
pub struct Mirrors {
    pub(super) folder: PathBuf,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
}

/// A repository that can be read; it stays as it is until the last clone of this is dropped.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub(super) repository: Repository,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
    _hold: Arc<Hold>,
}

/// What keeps a repository in place.
#[derive(Debug)]
#[expect(dead_code, reason = "held, not read: the locks end with the files")]
enum Hold {
    Mirror(File),
    Shadow(TempDir, File),
}

impl Mirrors {
    /// The mirrors in a folder, which is made if it is not there. What killed processes left in it is removed.
    ///
    /// # Errors
    /// [`CheckoutError::NotOurs`] for a folder with other things in it; [`CheckoutError::Disk`].
    pub fn open(folder: &Path, bounds: Bounds, clock: Clock) -> Result<Self, CheckoutError> {
        own(folder, MARKER)?;
        clean(folder).map_err(CheckoutError::disk("clean up", folder))?;
        Ok(Self { folder: folder.to_owned(), bounds, clock })
    }

    /// A repository on this machine, read where it is.
    pub(super) async fn look(&self, layout: &Layout) -> Result<(Mirror, Format), CheckoutError> {
        let format = layout.format(self.bounds.read).await?;
        let (dir, lock) = self.claim().map_err(CheckoutError::disk("make a folder in", &self.folder))?;
        let repository = layout.shadow(dir.path(), format)?;
        Ok((self.mirror(repository, Hold::Shadow(dir, lock)), format))
    }

    /// An empty folder that nobody takes away.
    fn claim(&self) -> io::Result<(TempDir, File)> {
        let _door = door::enter(&self.folder, MARKER)?;
        let dir = tempfile::Builder::new().prefix(LOOK).tempdir_in(&self.folder)?;
        let lock = File::create(dir.path().join(LOOK_LOCK))?;
        lock.lock()?;
        Ok((dir, lock))
    }

    fn mirror(&self, repository: Repository, hold: Hold) -> Mirror {
        Mirror { repository, bounds: self.bounds.clone(), clock: self.clock.clone(), _hold: Arc::new(hold) }
    }

    /// Takes a repository that is elsewhere to write to it.
    pub(super) async fn write(&self, remote: &Remote, format: Format) -> Result<Writing<'_>, CheckoutError> {
        let key = hex(&Sha256::digest(format!("{format:?} {}", remote.url())));
        let path = self.folder.join(&key[..32]);
        let lock = self.lock(&path.with_extension("lock"), Mode::Alone, remote).await?;
        let repository = Repository { git_dir: path, objects: None, shallow: None, name: remote.to_string() };
        let mut writing =
            Writing { mirrors: self, remote: remote.clone(), repository, format, is_new: false, _lock: lock };
        writing.prepare().await?;
        Ok(writing)
    }

    async fn lock(&self, path: &Path, mode: Mode, remote: &Remote) -> Result<File, CheckoutError> {
        let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = options.map_err(CheckoutError::disk("open", path))?;
        let until = self.clock.mono() + self.bounds.fetch;
        loop {
            let locked = match mode {
                Mode::Alone => file.try_lock(),
                Mode::Shared => file.try_lock_shared(),
            };
            match locked {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(source)) => return Err(CheckoutError::disk("lock", path)(source)),
                Err(TryLockError::WouldBlock) if self.clock.mono() >= until => {
                    return Err(CheckoutError::InUse { what: format!("the mirror of {remote}") });
                }
                Err(TryLockError::WouldBlock) => self.clock.sleep(LOCK_EVERY).await,
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Mode {
    Alone,
    Shared,
}

/// A mirror that nobody else writes to.
pub(super) struct Writing<'a> {
    mirrors: &'a Mirrors,
    remote: Remote,
    pub(super) repository: Repository,
    format: Format,
    /// Nothing was in it when it was taken.
    pub(super) is_new: bool,
    _lock: File,
}

impl Writing<'_> {
    async fn prepare(&mut self) -> Result<(), CheckoutError> {
        let path = self.repository.git_dir.clone();
        let failed = CheckoutError::disk("mend", &path);
        if !path.join("config").is_file() || !path.join("HEAD").is_file() {
            return self.anew().await;
        }
        if path.join(FETCHING).exists() {
            mend(&path).map_err(failed)?;
        }
        let (bytes, packs) = size(&path);
        if bytes >= self.mirrors.bounds.mirror_bytes || packs >= self.mirrors.bounds.mirror_packs {
            return self.anew().await;
        }
        Ok(())
    }

    /// Empties it, once nobody reads it.
    pub(super) async fn anew(&mut self) -> Result<(), CheckoutError> {
        let path = self.repository.git_dir.clone();
        let failed = |source| CheckoutError::disk("make anew", &path)(source);
        let _alone = self.mirrors.lock(&path.with_extension("use"), Mode::Alone, &self.remote).await?;
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        bare(&path, self.format).map_err(failed)?;
        self.is_new = true;
        Ok(())
    }

    /// Runs a step after which a kill leaves something to mend.
    pub(super) fn begin(&self) -> Result<(), CheckoutError> {
        let path = self.repository.git_dir.join(FETCHING);
        fs::write(&path, "").map_err(CheckoutError::disk("write", &path))
    }

    /// It ended: what it left half done is removed.
    pub(super) fn end(&self) -> Result<(), CheckoutError> {
        let path = &self.repository.git_dir;
        mend(path).map_err(CheckoutError::disk("mend", path))
    }

    pub(super) fn bytes(&self) -> u64 {
        size(&self.repository.git_dir).0
    }

    /// It is as it should be: from now on it is read.
    pub(super) async fn done(self) -> Result<Mirror, CheckoutError> {
        let path = self.repository.git_dir.with_extension("use");
        let reading = self.mirrors.lock(&path, Mode::Shared, &self.remote).await?;
        Ok(self.mirrors.mirror(self.repository.clone(), Hold::Mirror(reading)))
    }
}

/// Removes the folders that nobody reads with any more. One without a lock was never locked: its maker was killed.
fn clean(folder: &Path) -> io::Result<()> {
    let _door = door::enter_alone(folder, MARKER)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(LOOK) {
            continue;
        }
        let is_held = match File::open(entry.path().join(LOOK_LOCK)) {
            Ok(lock) => matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        if !is_held {
            door::removed(fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

/// Makes a folder ours, readable by nobody else.
pub(super) fn own(folder: &Path, marker: &str) -> Result<(), CheckoutError> {
    use std::os::unix::fs::DirBuilderExt;
    let failed = |source| CheckoutError::disk("make", folder)(source);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mark = folder.join(marker);
    if mark.is_file() {
        return Ok(());
    }
    // Whoever makes it at the same time marks it before anything else is in it.
    if fs::read_dir(folder).map_err(failed)?.next().is_some() && !mark.is_file() {
        return Err(CheckoutError::NotOurs { path: folder.to_owned() });
    }
    fs::write(&mark, "").map_err(failed)
}

/// Removes what a killed git leaves: its lock files and what it had half written.
fn mend(git_dir: &Path) -> io::Result<()> {
    each_file(git_dir, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".lock") || name.starts_with("tmp_") {
            fs::remove_file(path)?;
        }
        Ok(())
    })?;
    match fs::remove_file(git_dir.join(FETCHING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes and packs of a mirror. What vanishes meanwhile does not count.
pub(super) fn size(git_dir: &Path) -> (u64, usize) {
    let (mut bytes, mut packs) = (0, 0);
    let counted = each_file(git_dir, &mut |path| {
        bytes += path.symlink_metadata().map_or(0, |meta| meta.len());
        packs += usize::from(path.extension().is_some_and(|extension| extension == "pack"));
        Ok(())
    });
    let _ = counted; // what cannot be read is found by whoever reads it
    (bytes, packs)
}

fn each_file(folder: &Path, each: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => each_file(&entry.path(), each)?,
            Ok(_) => each(&entry.path())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
