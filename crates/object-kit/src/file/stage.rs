//! Files on their way into a folder. In: a place and bytes. Out: a temporary file, and when it is settled, the file
//! under its name. A temporary file that is not settled is removed with its value.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use rustix::fs::{CWD, RenameFlags};

use super::threads::Threads;
use crate::Mode;

/// Mode of what readers are to read.
const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// Bytes from which on a file is flushed when it is written, so that settling has no long wait in store.
const FLUSH_FROM: u64 = 4 << 20;
/// Threads that flush together: file systems join flushes that are under way at the same time.
const FLUSHERS_MAX: usize = 8;
/// From so many files on the whole file system is flushed once, as long as that is not much more than our own work: no
/// more bytes than these wait for any disk of the machine.
const WHOLE_FROM: usize = 16;
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// Files for which a further thread is worth its start.
const FILES_PER_FLUSHER: usize = 4;
/// Most bytes of a name that its temporary name repeats.
const STEM_MAX: usize = 180;

/// A temporary file.
#[derive(Debug)]
pub(super) struct Staged {
    temp: PathBuf,
    path: PathBuf,
    /// There until it is dropped.
    file: Option<File>,
    /// Who closes and removes it: a folder that hangs must not hold whoever lets go of it.
    threads: Arc<Threads>,
    mode: Mode,
    bytes: u64,
    flushed: bool,
    /// Folders that were made for it, and have to be found after a power cut: their parents.
    made_in: Vec<PathBuf>,
    /// Whether the temporary name is still there.
    open: bool,
}

impl Staged {
    /// Makes the folders and the temporary file.
    pub(super) fn begin(root: &Path, path: &Path, mode: Mode, threads: &Arc<Threads>) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = path.parent().unwrap_or(root);
        let made_in = make_folders(folder)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut stem = &*name;
        while stem.len() > STEM_MAX {
            let mut chars = stem.chars();
            chars.next_back();
            stem = chars.as_str();
        }
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let temp = folder.join(format!(".{stem}.{}.{number}.tmp", std::process::id()));
            let opened = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temp);
            let file = match opened {
                Ok(file) => file,
                // Left over from a process that had our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            let path = path.to_owned();
            let (file, threads) = (Some(file), Arc::clone(threads));
            let staged =
                Self { temp, path, file, threads, mode, bytes: 0, flushed: false, made_in, open: true };
            // Whatever the umask says.
            staged.file()?.set_permissions(Permissions::from_mode(FILE_MODE))?;
            return Ok(staged);
        }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn write(mut self, chunk: &[u8]) -> io::Result<Self> {
        self.file()?.write_all(chunk)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        Ok(self)
    }

    /// The same file once more, to be flushed on the side.
    pub(super) fn another_handle(&self) -> io::Result<File> {
        self.file()?.try_clone()
    }

    pub(super) fn finish(mut self) -> io::Result<Self> {
        if self.bytes >= FLUSH_FROM {
            self.flush()?;
        }
        Ok(self)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.flushed {
            self.file()?.sync_all()?;
            self.flushed = true;
        }
        Ok(())
    }

    /// Gives it its name. One that met another version meanwhile leaves that one, if it has to.
    fn publish(mut self) -> io::Result<()> {
        match &self.mode {
            Mode::Replace => fs::rename(&self.temp, &self.path)?,
            Mode::Match(_) if super::stays(&self.mode, &self.path) => return Ok(()),
            Mode::Match(_) => fs::rename(&self.temp, &self.path)?,
            Mode::Create => match rename_new(&self.temp, &self.path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
                other => other?,
            },
        }
        self.open = false;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let (file, temp) = (self.file.take(), std::mem::take(&mut self.temp));
        let open = self.open;
        let let_go = move || {
            drop(file);
            if open {
                let _ = fs::remove_file(&temp); // the sweep finds what could not be removed
            }
        };
        self.threads.later(let_go);
    }
}

/// Renames to a name that is free.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot: look first. Whoever comes between writes the same object under the same name.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        done => Ok(done?),
    }
}

/// Makes a folder and those above it; gives those in which one was made.
fn make_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut absent: Vec<&Path> =
        folder.ancestors().take_while(|f| !f.as_os_str().is_empty() && !f.is_dir()).collect();
    let mut made_in = Vec::new();
    while let Some(folder) = absent.pop() {
        match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
            Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?,
            // Somebody else made it meanwhile, and may not have flushed it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(error) => return Err(error),
        }
        made_in.extend(folder.parent().map(Path::to_owned));
    }
    Ok(made_in)
}

/// Makes staged files durable, then visible in their order, then their names durable.
pub(super) fn settle(mut staged: Vec<Staged>) -> io::Result<()> {
    flush_all(&mut staged)?;
    let mut folders = BTreeSet::new();
    for one in staged {
        folders.extend(one.path.parent().map(Path::to_owned));
        folders.extend(one.made_in.iter().cloned());
        one.publish()?;
    }
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn flush_all(staged: &mut [Staged]) -> io::Result<()> {
    let waiting = staged.iter().filter(|one| !one.flushed).count();
    if waiting >= WHOLE_FROM
        && let Some(first) = staged.iter().find(|one| !one.flushed)
        && is_one_system(staged)?
        && bytes_before_the_disk() <= WHOLE_BYTES_MAX
    {
        rustix::fs::syncfs(first.file()?)?;
        staged.iter_mut().for_each(|one| one.flushed = true);
        return Ok(());
    }
    flush_each(staged)
}

fn is_one_system(staged: &[Staged]) -> io::Result<bool> {
    let mut device = None;
    for one in staged {
        let of_this = one.file()?.metadata()?.dev();
        if *device.get_or_insert(of_this) != of_this {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes of the whole machine that are not on a disk yet; as many as can be where the kernel does not say.
fn bytes_before_the_disk() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    match (kib("Dirty:"), kib("Writeback:")) {
        (Some(dirty), Some(writeback)) => dirty.saturating_add(writeback).saturating_mul(1024),
        (None, _) | (_, None) => u64::MAX,
    }
}

fn flush_each(staged: &mut [Staged]) -> io::Result<()> {
    let threads = staged.len().div_ceil(FILES_PER_FLUSHER).min(FLUSHERS_MAX);
    let slots: Vec<Mutex<&mut Staged>> = staged.iter_mut().map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).flush()?;
        }
        Ok(())
    };
    if threads <= 1 {
        return work();
    }
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let ours = work();
        let done = others.into_iter().map(|one| one.join().expect("flushing does not panic"));
        done.fold(ours, Result::and)
    })
}
