//! Where checkouts lie. A tree's content is written once and used by all who want the same tree, in this process and in
//! others; whoever uses it holds a lock, and what nobody holds is kept until the room is needed. What a killed process
//! left half written is removed at the next start. What was written before the machine was last started is written anew: a
//! power cut may have emptied its files. Only what we made, in a folder that carries our mark, is removed.
//!
//! The files of a tree lie in `TREE/source`: Nix names what it copies after the last folder of its path, and that name
//! must not change with the tree.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ci_model::flow::Source;
use ci_model::id::{CommitId, TreeId};
use service_kit::clock::Clock;
use service_kit::lock::is_at;
use tokio::task::spawn_blocking;

use super::links::{self, Links};
use super::listing::{self, Entry, Kind, refused};
use super::mirror::own;
use super::{Bounds, CheckoutError, Mirror, door, write};

/// Says that a folder is ours.
const MARKER: &str = ".ekaci-checkouts";
/// Beginning of what is being written.
const DRAFT: &str = "draft-";
/// The folder with the files, in the folder of a tree or draft.
const FILES: &str = "source";
/// Between two tries to take a lock that another run holds for a moment.
const LOCK_EVERY: Duration = Duration::from_millis(20);
/// Says which start of the machine this is; there is none where the kernel does not say.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// What an entry takes on disk besides its content, in bytes.
const ENTRY_BYTES: u64 = 4096;

/// The folder of all checkouts.
#[derive(Clone, Debug)]
pub struct Places {
    folder: Arc<Path>,
    bounds: Bounds,
    clock: Clock,
    boot: Arc<str>,
}

/// A checkout in use: it stays as it is until this is dropped.
#[derive(Debug)]
pub struct Placed {
    /// What it is, and where.
    pub source: Source,
    lock: Option<File>,
    places: Places,
}

/// A checkout that is being written; dropping it removes it.
pub(super) struct Draft {
    /// Where its files go.
    pub(super) path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Places {
    /// The checkouts in a folder, which is made if it is not there. What killed processes left half written, and what is
    /// too much, is removed.
    ///
    /// # Errors
    /// [`CheckoutError::NotOurs`] for a folder with other things in it; [`CheckoutError::Disk`].
    pub fn open(folder: &Path, bounds: Bounds, clock: Clock) -> Result<Self, CheckoutError> {
        own(folder, MARKER)?;
        let folder = fs::canonicalize(folder).map_err(CheckoutError::disk("look at", folder))?;
        let boot = fs::read_to_string(BOOT).unwrap_or_default().trim().into();
        let places = Self { folder: folder.into(), bounds, clock, boot };
        places.clean().map_err(CheckoutError::disk("clean up", &places.folder))?;
        Ok(places)
    }

    /// Removes drafts that nobody writes any more, and what is too much.
    fn clean(&self) -> io::Result<()> {
        let _door = door::enter_alone(&self.folder, MARKER)?;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if is_lock
                && is_draft(&path)
                && let Ok(lock) = File::open(&path)
                && lock.try_lock().is_ok()
            {
                remove(&path.with_extension(""))?;
                door::removed(fs::remove_file(&path))?;
            }
        }
        self.shrink()
    }

    /// Removes what is too much.
    fn evict(&self) -> io::Result<()> {
        let _door = door::enter_alone(&self.folder, MARKER)?;
        self.shrink()
    }

    /// Removes what was not used for longest, until what is kept is no more than it may be.
    fn shrink(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if is_lock && !is_draft(&path) {
                let Ok(meta) = fs::metadata(&path) else { continue };
                kept.push((meta.modified()?, noted(&path).0, path));
            }
        }
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, lock_path) in kept {
            if total <= self.bounds.kept_bytes {
                break;
            }
            let Ok(lock) = File::open(&lock_path) else { continue };
            if lock.try_lock().is_ok() && is_at(&lock, &lock_path) {
                let doomed = self.folder.join(format!("{DRAFT}{}", file_name(&lock_path.with_extension(""))));
                // First out of the way under a name that the next start removes as well.
                let doomed_lock = doomed.with_extension("lock");
                fs::write(&doomed_lock, "")?;
                rename_if_there(&lock_path.with_extension(""), &doomed)?;
                fs::remove_file(&lock_path)?;
                remove(&doomed)?;
                fs::remove_file(&doomed_lock)?;
                total -= bytes;
            }
        }
        Ok(())
    }

    /// The checkout of a tree, if there is one.
    pub(super) async fn find(
        &self,
        commit: Option<&CommitId>,
        tree: &TreeId,
    ) -> Result<Option<Placed>, CheckoutError> {
        let place = self.folder.join(tree.as_str());
        let (folder, lock_path) = (place.join(FILES), place.with_extension("lock"));
        let failed = |source| CheckoutError::disk("use", &folder)(source);
        loop {
            let lock = match File::options().read(true).write(true).open(&lock_path) {
                Ok(lock) => lock,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            match lock.try_lock_shared() {
                Err(TryLockError::WouldBlock) => self.clock.sleep(LOCK_EVERY).await,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Ok(()) if !is_at(&lock, &lock_path) => {}
                Ok(()) if !folder.is_dir() || !self.is_sound(&lock_path) => return Ok(None),
                Ok(()) => {
                    let now = self.clock.now().as_ms().max(0).unsigned_abs();
                    let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(now);
                    lock.set_modified(now).map_err(failed)?;
                    let source = Source { commit: commit.cloned(), tree: tree.clone(), folder };
                    return Ok(Some(Placed { source, lock: Some(lock), places: self.clone() }));
                }
            }
        }
    }

    /// A new empty folder to write a checkout into.
    pub(super) fn draft(&self) -> Result<Draft, CheckoutError> {
        self.evict().map_err(CheckoutError::disk("clean up", &self.folder))?;
        let failed = |source| CheckoutError::disk("make a folder in", &self.folder)(source);
        let _door = door::enter(&self.folder, MARKER).map_err(failed)?;
        let file = tempfile::Builder::new()
            .prefix(DRAFT)
            .suffix(".lock")
            .tempfile_in(&self.folder)
            .map_err(failed)?;
        file.as_file().try_lock().map_err(|error| failed(error.into()))?;
        let (lock, lock_path) = file.keep().map_err(|error| failed(error.error))?;
        let draft = Draft { path: lock_path.with_extension("").join(FILES), lock_path, _lock: lock };
        fs::create_dir_all(&draft.path).map_err(failed)?;
        Ok(draft)
    }

    /// A draft becomes the checkout of its tree, or is let go when another was faster.
    pub(super) async fn keep(
        &self,
        draft: Draft,
        commit: Option<&CommitId>,
        tree: &TreeId,
        bytes: u64,
    ) -> Result<Placed, CheckoutError> {
        let place = self.folder.join(tree.as_str());
        let lock_path = place.with_extension("lock");
        let failed = |source| CheckoutError::disk("keep", &place)(source);
        loop {
            if let Some(placed) = self.find(commit, tree).await? {
                return Ok(placed);
            }
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&lock_path);
            let lock = open.map_err(failed)?;
            match lock.try_lock() {
                Ok(())
                    if is_at(&lock, &lock_path)
                        && !(place.join(FILES).exists() && self.is_sound(&lock_path)) =>
                {
                    remove(&place).map_err(failed)?; // before it is said that what lies there is sound
                    fs::write(&lock_path, format!("{bytes}\n{}\n", self.boot)).map_err(failed)?;
                    seal(&draft.place()).map_err(failed)?;
                    fs::rename(draft.place(), &place).map_err(failed)?;
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => self.clock.sleep(LOCK_EVERY).await,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }
}

impl Places {
    /// Was it written since the machine was started? Nothing that a checkout is made of is flushed.
    fn is_sound(&self, lock_path: &Path) -> bool {
        noted(lock_path).1 == *self.boot
    }
}

/// What a checkout's lock says: its size in bytes, and in which life of the machine it was written.
fn noted(lock_path: &Path) -> (u64, String) {
    let text = fs::read_to_string(lock_path).unwrap_or_default();
    let mut lines = text.lines();
    let bytes = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    (bytes, lines.next().unwrap_or_default().to_owned())
}

impl Draft {
    fn place(&self) -> PathBuf {
        self.lock_path.with_extension("")
    }
}

impl Mirror {
    /// Writes what a commit holds into a folder, or gives the one where that was done before. Everything is counted and
    /// judged before the first file is written.
    ///
    /// # Errors
    /// [`CheckoutError::Entry`] for an entry that is not written, [`CheckoutError::TooLarge`] at a bound of [`Bounds`],
    /// and what git and the disk say.
    pub async fn materialise(&self, commit: &CommitId, places: &Places) -> Result<Placed, CheckoutError> {
        let tree = self.tree(commit).await?;
        if let Some(placed) = places.find(Some(commit), &tree).await? {
            return Ok(placed);
        }
        let entries = Arc::new(self.listed(&tree).await?);
        let links = self.targets(&tree, &entries).await?;
        if let Some((index, why)) = links::refused(&links).first() {
            return Err(refused(tree.as_str(), &links[*index].0, (*why).to_owned()));
        }
        let bytes = disk_bytes(&entries);
        let places = places.clone();
        let drafting = places.clone();
        let joined = |error| CheckoutError::disk("write in", &places.folder)(io::Error::other(error));
        let draft = spawn_blocking(move || drafting.draft()).await.map_err(joined)??;
        let command =
            self.git(format!("write {tree} of {}", self.name())).args(["cat-file", "--batch", "--buffer"]);
        let request = request(&entries, |kind| matches!(kind, Kind::File { .. }));
        let writing = move |from: &mut _| {
            write::tree(&draft.path, &entries, &links, from)?;
            Ok(draft) // it lives here, so that nothing is written once it is removed
        };
        let draft = command.stream(&self.clock, request, writing).await?;
        places.keep(draft, Some(commit), &tree, bytes).await
    }

    /// What a tree lists.
    async fn listed(&self, tree: &TreeId) -> Result<Vec<Entry>, CheckoutError> {
        let command = self.git(format!("list {tree} of {}", self.name()));
        let command =
            command.args(["ls-tree", "-r", "-l", "-z", "--full-tree", "--end-of-options", tree.as_str()]);
        let (name, bounds) = (tree.to_string(), self.bounds.clone());
        command.stream(&self.clock, Vec::new(), move |from| listing::read(from, &name, &bounds)).await
    }

    async fn targets(&self, tree: &TreeId, entries: &Arc<Vec<Entry>>) -> Result<Links, CheckoutError> {
        let request = request(entries, |kind| kind == Kind::Link);
        if request.is_empty() {
            return Ok(Vec::new());
        }
        let command = self.git(format!("read the links of {tree}")).args(["cat-file", "--batch", "--buffer"]);
        let entries = Arc::clone(entries);
        command.stream(&self.clock, request, move |from| write::targets(&entries, from)).await
    }
}

/// What a checkout takes on disk, about.
pub(super) fn disk_bytes(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.size.saturating_add(ENTRY_BYTES)).fold(0, u64::saturating_add)
}

fn request(entries: &[Entry], wants: impl Fn(Kind) -> bool) -> Vec<u8> {
    entries
        .iter()
        .filter(|entry| wants(entry.kind))
        .flat_map(|entry| [entry.id.as_bytes(), b"\n"])
        .flatten()
        .copied()
        .collect()
}

fn is_draft(path: &Path) -> bool {
    file_name(path).starts_with(DRAFT)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets nobody add to a folder, and everybody look into it.
fn seal(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555))
}

/// Removes a checkout, whose folders nobody may write to.
fn remove(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(folder)
}

impl Drop for Draft {
    fn drop(&mut self) {
        let removed = remove(&self.place()).and_then(|()| fs::remove_file(&self.lock_path));
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), "could not remove {}: {error}; the next start will", self.path.display());
        }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.lock = None;
        if let Err(error) = self.places.evict() {
            let folder = self.places.folder.display();
            tracing::warn!(path = %folder, "could not clean up {folder}: {error}; the next checkout will");
        }
    }
}
