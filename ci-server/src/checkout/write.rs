//! Entries that were counted and judged come in, with their contents as git gives them; files come out. Each is made
//! from its folder's descriptor, never through a link, and never over anything: what is there already was not made
//! by us. Files are read-only and all times are the same, as in a store.

use std::ffi::OsStr;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::CheckoutError;
use super::links::Links;
use super::listing::{Entry, Kind, refused};

/// All times of a checkout: one second after the beginning of time, as in Nix' store.
const TIME: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
    last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
};
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);
/// Bytes that are copied at once.
const CHUNK: usize = 128 * 1024;

/// A way from a root down to where the next entry is.
pub(super) struct Descent {
    root: PathBuf,
    base: OwnedFd,
    stack: Vec<(Vec<u8>, OwnedFd)>,
    /// Folders are made on the way, and sealed on the way back.
    makes: bool,
}

impl Descent {
    /// From a folder that is there.
    pub(super) fn from(root: &Path, makes: bool) -> Result<Self, CheckoutError> {
        let opened = rustix::fs::open(root, FOLDER, Mode::empty());
        let base = opened.map_err(|error| CheckoutError::disk("open", root)(error.into()))?;
        Ok(Self { root: root.to_owned(), base, stack: Vec::new(), makes })
    }

    /// The folder of `path`, and its name in there.
    pub(super) fn folder_of<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p OsStr), Errno> {
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let name = parts.pop().unwrap_or_default();
        let shared = self.stack.iter().zip(&parts).take_while(|((is, _), part)| is == *part).count();
        while self.stack.len() > shared {
            self.leave()?;
        }
        for part in &parts[shared..] {
            let next = self.enter(OsStr::from_bytes(part))?;
            self.stack.push((part.to_vec(), next));
        }
        Ok((self.here(), OsStr::from_bytes(name)))
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.base.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn enter(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        if self.makes {
            match rustix::fs::mkdirat(self.here(), name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        rustix::fs::openat(self.here(), name, FOLDER, Mode::empty())
    }

    fn leave(&mut self) -> Result<(), Errno> {
        if let Some((_, fd)) = self.stack.pop()
            && self.makes
        {
            seal(fd.as_fd())?;
        }
        Ok(())
    }

    /// Takes a file away again.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), CheckoutError> {
        let failed = self.failed("remove", path);
        let removed = self
            .folder_of(path)
            .and_then(|(folder, name)| rustix::fs::unlinkat(folder, name, AtFlags::empty()));
        removed.map_err(failed)
    }

    /// Back to the root, which is sealed as well.
    pub(super) fn finish(mut self) -> Result<(), CheckoutError> {
        let sealed = (|| {
            while !self.stack.is_empty() {
                self.leave()?;
            }
            if self.makes { seal(self.base.as_fd()) } else { Ok(()) }
        })();
        sealed.map_err(|error| CheckoutError::disk("finish", &self.root)(error.into()))
    }

    pub(super) fn failed(
        &self,
        tried: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> CheckoutError + use<> {
        let (makes, entry, path) = (self.makes, path.to_vec(), self.root.join(OsStr::from_bytes(path)));
        move |error| match error {
            Errno::EXIST | Errno::NOTDIR | Errno::LOOP if makes => refused(
                "this tree",
                &entry,
                "stands where another entry stands; rename one of them".to_owned(),
            ),
            _ => CheckoutError::Disk { tried, path, source: error.into() },
        }
    }
}

fn seal(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fchmod(folder, Mode::from_raw_mode(0o555))?;
    rustix::fs::futimens(folder, &TIME)
}

/// Writes one file with all that `from` gives, and has each piece looked at by `look`; gives the number of bytes.
pub(super) fn file(
    to: &mut Descent,
    path: &[u8],
    executable: bool,
    from: &mut impl Read,
    mut look: impl FnMut(&[u8]),
) -> Result<u64, CheckoutError> {
    let failed = to.failed("write", path);
    let reading = to.failed("read the content of", path);
    let made = to.folder_of(path).and_then(|(folder, name)| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(if executable { 0o500 } else { 0o400 }))
    });
    let mut file = std::fs::File::from(made.map_err(failed)?);
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        let size = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(reading(Errno::from_io_error(&source).unwrap_or(Errno::IO))),
        };
        look(&buffer[..size]);
        if let Err(source) = file.write_all(&buffer[..size]) {
            return Err(to.failed("write", path)(Errno::from_io_error(&source).unwrap_or(Errno::IO)));
        }
        bytes += size as u64;
    }
    let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
    let closed = rustix::fs::fchmod(&file, mode).and_then(|()| rustix::fs::futimens(&file, &TIME));
    closed.map_err(to.failed("finish", path))?;
    Ok(bytes)
}

/// Makes one link.
pub(super) fn link(to: &mut Descent, path: &[u8], target: &[u8]) -> Result<(), CheckoutError> {
    let failed = to.failed("make the link", path);
    let made = to.folder_of(path).and_then(|(folder, name)| {
        rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name)?;
        rustix::fs::utimensat(folder, name, &TIME, AtFlags::SYMLINK_NOFOLLOW)
    });
    made.map_err(failed)
}

/// Makes the empty folder of a submodule.
pub(super) fn submodule(to: &mut Descent, path: &[u8]) -> Result<(), CheckoutError> {
    let failed = to.failed("make the folder", path);
    let made = to.folder_of(path).and_then(|(folder, name)| {
        rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
        seal(rustix::fs::openat(folder, name, FOLDER, Mode::empty())?.as_fd())
    });
    made.map_err(failed)
}

/// Writes what stands in `entries`, with the contents of its files from `git cat-file --batch`, asked for in the same
/// order, and the targets of its links, in order, from `links`.
pub(super) fn tree(
    root: &Path,
    entries: &[Entry],
    links: &[(Vec<u8>, Vec<u8>)],
    from: &mut impl BufRead,
) -> Result<(), CheckoutError> {
    let mut to = Descent::from(root, true)?;
    let mut links = links.iter();
    for entry in entries {
        match entry.kind {
            Kind::File { executable } => {
                header(from, entry)?;
                let mut content = from.by_ref().take(entry.size);
                let bytes = file(&mut to, &entry.path, executable, &mut content, |_| {})?;
                if bytes != entry.size {
                    return Err(broke_off(entry));
                }
                newline(from, entry)?;
            }
            Kind::Link => {
                let (_, target) = links.next().ok_or_else(|| broke_off(entry))?;
                link(&mut to, &entry.path, target)?;
            }
            Kind::Submodule => submodule(&mut to, &entry.path)?,
        }
    }
    to.finish()
}

/// The targets of all links, from `git cat-file --batch`.
pub(super) fn targets(entries: &[Entry], from: &mut impl BufRead) -> Result<Links, CheckoutError> {
    let mut links = Vec::new();
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Link) {
        header(from, entry)?;
        let mut target = Vec::new();
        from.by_ref().take(entry.size).read_to_end(&mut target).map_err(|_| broke_off(entry))?;
        newline(from, entry)?;
        if target.is_empty() || target.contains(&0) {
            let why = "is a link without a target, or with a NUL in it; remove it".to_owned();
            return Err(refused(&entry.id, &entry.path, why));
        }
        links.push((entry.path.clone(), target));
    }
    Ok(links)
}

/// `ID blob SIZE\n`
fn header(from: &mut impl BufRead, entry: &Entry) -> Result<(), CheckoutError> {
    let mut line = Vec::new();
    from.by_ref().take(256).read_until(b'\n', &mut line).map_err(|_| broke_off(entry))?;
    let expected = format!("{} blob {}\n", entry.id, entry.size);
    if line == expected.as_bytes() {
        return Ok(());
    }
    let tried = format!("read object {}", entry.id);
    Err(CheckoutError::Answer { tried, answer: super::error::said(&line) })
}

fn newline(from: &mut impl BufRead, entry: &Entry) -> Result<(), CheckoutError> {
    let mut byte = [0];
    match from.read_exact(&mut byte) {
        Ok(()) if byte == *b"\n" => Ok(()),
        _ => Err(broke_off(entry)),
    }
}

fn broke_off(entry: &Entry) -> CheckoutError {
    let tried = format!("read object {}", entry.id);
    CheckoutError::Answer { tried, answer: "less than it said".to_owned() }
}
