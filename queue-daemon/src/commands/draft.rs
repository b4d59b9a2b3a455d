//! A file that has its name only once it is complete and on the disk.
//!
//! In flow bytes; out flows the file under its name, of mode 0600, or nothing: where the file system knows files
//! without names, not even a process that is killed leaves anything behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A backup tells who asked for what.
const MODE: u32 = 0o600;

/// A file without its name.
pub(super) struct Draft {
    file: File,
    target: PathBuf,
    /// Whether what has the name already may go.
    force: bool,
    /// What it is called until then, where it must have a name.
    partial: Option<PathBuf>,
}

impl Draft {
    /// Begins a file that will be `target`.
    ///
    /// # Errors
    /// When the folder is not there or cannot be written; `AlreadyExists` when the name is taken and not to be freed.
    pub(super) fn begin(target: &Path, force: bool) -> io::Result<Self> {
        if !force && fs::symlink_metadata(target).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let (file, partial) = match nameless(folder_of(target)) {
            Ok(file) => (file, None),
            // The file system, or the kernel, has no files without names.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let partial = partial_name(target);
                let open = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&partial);
                (open?, Some(partial))
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { file, target: target.to_owned(), force, partial })
    }

    /// Flushes it and gives it its name.
    ///
    /// # Errors
    /// What the system says, and `AlreadyExists` as above; nothing has the name then that had it not before.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.name()?;
        self.partial = None;
        File::open(folder_of(&self.target))?.sync_all()
    }

    fn name(&mut self) -> io::Result<()> {
        if self.partial.is_none() {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let link = |to: &Path| rustix::fs::linkat(CWD, &open, CWD, to, AtFlags::SYMLINK_FOLLOW);
            if !self.force {
                return Ok(link(&self.target)?);
            }
            let partial = partial_name(&self.target);
            link(&partial)?;
            self.partial = Some(partial);
        }
        let partial = self.partial.as_deref().unwrap_or(&self.target);
        if self.force {
            return fs::rename(partial, &self.target);
        }
        match rustix::fs::renameat_with(CWD, partial, CWD, &self.target, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(&self.target).is_err() => {
                fs::rename(partial, &self.target)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(ErrorKind::AlreadyExists.into()),
            renamed => Ok(renamed?),
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _ = fs::remove_file(partial); // what went wrong before is what the caller hears
        }
    }
}

fn nameless(folder: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::from_raw_mode(MODE))?.into())
}

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.partial", std::process::id()));
    target.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Both ways: with a name until then, and without.
    fn drafts(target: &Path, force: bool) -> [Draft; 2] {
        let partial = partial_name(target);
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&partial).unwrap();
        let named = Draft { file, target: target.to_owned(), force, partial: Some(partial) };
        [named, Draft::begin(target, force).unwrap()]
    }

    #[test]
    fn what_is_finished_is_there_and_nothing_else() {
        for way in 0..2 {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("a.db");
            let mut draft = drafts(&target, false).into_iter().nth(way).unwrap();
            draft.write_all(b"bytes").unwrap();
            assert!(!target.exists());
            draft.finish().unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"bytes");
            assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(names(folder.path()), ["a.db"]);
        }
    }

    #[test]
    fn a_name_that_is_taken_is_freed_only_by_force() {
        for way in 0..2 {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("a.db");
            let draft = drafts(&target, false).into_iter().nth(way).unwrap();
            fs::write(&target, "somebody's").unwrap();
            assert_eq!(draft.finish().unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(Draft::begin(&target, false).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&target).unwrap(), b"somebody's");
            assert_eq!(names(folder.path()), ["a.db"]);
            drafts(&target, true).into_iter().nth(way).unwrap().finish().unwrap();
            assert_eq!(fs::read(&target).unwrap(), b"");
            assert_eq!(names(folder.path()), ["a.db"]);
        }
    }
}
