//! A path comes in, its NAR goes out through one buffer that files are read into directly, so that their bytes are
//! moved once and many small files make few calls of the sink. Every file is opened from its folder's descriptor
//! without following symlinks, so nothing outside the path can be reached, whoever swaps names meanwhile.

use std::ffi::{CStr, CString};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat};
use rustix::fs::{fadvise, fstat, openat, readlinkat, statat};
use rustix::io::{Errno, read, retry_on_intr};

use super::listing::Node;
use super::{DEPTH_MAX, NAME_BYTES_MAX, NarError, TARGET_BYTES_MAX};

/// Folders kept open on the way down; the parents of deeper ones are opened again on the way back.
const FOLDERS_OPEN_MAX: usize = 32;
/// Bytes of names read from a folder at a time.
const NAMES_BYTES: usize = 32 * 1024;
/// Files from this size on are announced to the kernel as read from front to back.
const ADVISED_BYTES: u64 = 1 << 20;

/// The size in bytes, and what was packed when that was wanted. The block is what is read into and handed on.
pub(super) fn pack<E>(
    block: &mut [u8],
    path: &Path,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    listed: bool,
) -> Result<(u64, Option<Node>), NarError<E>> {
    let mut packer = Packer {
        sink,
        buffer: block,
        filled: 0,
        handed: 0,
        names: Vec::with_capacity(NAMES_BYTES),
        path: path.as_os_str().as_bytes().to_vec(),
        listed,
    };
    packer.tokens(&[b"nix-archive-1"])?;
    let name = CString::new(packer.path.as_slice()).map_err(|_| packer.io(Errno::INVAL))?;
    let kind = kind_of(CWD, &name).map_err(|source| packer.io(source))?;
    let root = packer.node(CWD, &name, kind, 0)?;
    packer.flush()?;
    Ok((packer.handed, root))
}

struct Packer<'a, E> {
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
    buffer: &'a mut [u8],
    /// Bytes of the buffer that wait for the sink; never all of it between two calls.
    filled: usize,
    /// Bytes the sink has.
    handed: u64,
    /// Where names are read to.
    names: Vec<u8>,
    /// Where we are, for errors.
    path: Vec<u8>,
    listed: bool,
}

/// A name in a folder, and what the folder says it is.
struct Entry {
    name: CString,
    kind: FileType,
}

/// Which folder it is, to know it again.
#[derive(PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl<E> Packer<'_, E> {
    /// Packs what stands under `name`, and lists it when that is wanted.
    fn node(
        &mut self,
        folder: impl AsFd,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<Option<Node>, NarError<E>> {
        match kind {
            FileType::RegularFile => self.file(folder, name),
            FileType::Symlink => self.symlink(folder, name),
            FileType::Directory => {
                let opened = self.open(folder, name, OFlags::DIRECTORY)?;
                self.folder(opened, depth).map(|(_, node)| node)
            }
            FileType::Socket => Err(self.unsupported("a socket")),
            FileType::Fifo => Err(self.unsupported("a FIFO")),
            FileType::CharacterDevice | FileType::BlockDevice => Err(self.unsupported("a device")),
            FileType::Unknown => Err(self.unsupported("something unknown")),
        }
    }

    fn file(&mut self, folder: impl AsFd, name: &CStr) -> Result<Option<Node>, NarError<E>> {
        let file = self.open(folder, name, OFlags::NONBLOCK)?;
        let stat = fstat(&file).map_err(|source| self.io(source))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.changed());
        }
        let size = u64::try_from(stat.st_size).map_err(|_| self.io(Errno::OVERFLOW))?;
        let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
        if executable {
            self.tokens(&[b"(", b"type", b"regular", b"executable", b"", b"contents"])?;
        } else {
            self.tokens(&[b"(", b"type", b"regular", b"contents"])?;
        }
        self.put(&size.to_le_bytes())?;
        let nar_offset = self.handed + self.filled as u64;
        if size >= ADVISED_BYTES {
            // Advice only: a file system that has none for us reads as well.
            let _ = fadvise(&file, 0, NonZeroU64::new(size), Advice::Sequential);
        }
        self.contents(&file, size)?;
        self.pad(size)?;
        self.tokens(&[b")"])?;
        Ok(self.listed.then_some(Node::File { size, executable, nar_offset }))
    }

    /// Reads the file into the buffer until it ends, which it must do where it said.
    fn contents(&mut self, file: &OwnedFd, size: u64) -> Result<(), NarError<E>> {
        let mut left = size;
        loop {
            // One byte more than is left: what has grown gives it away, and a file that fits is read in one call.
            let room = &mut self.buffer[self.filled..];
            let wanted =
                usize::try_from(left.saturating_add(1)).map_or(room.len(), |left| left.min(room.len()));
            let got = match retry_on_intr(|| read(file, &mut room[..wanted])) {
                Ok(got) => got,
                Err(source) => return Err(self.io(source)),
            };
            left = left.checked_sub(got as u64).ok_or_else(|| self.changed())?;
            self.filled += got;
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
            // Fewer than asked for is the end of a regular file; nothing at all is so in any case.
            match (left, got) {
                (0, _) if got < wanted => return Ok(()),
                (_, 0) => return Err(self.changed()),
                (_, _) => {}
            }
        }
    }

    fn symlink(&mut self, folder: impl AsFd, name: &CStr) -> Result<Option<Node>, NarError<E>> {
        let target = readlinkat(folder, name, Vec::new()).map_err(|source| self.unlike(source))?.into_bytes();
        if target.len() > TARGET_BYTES_MAX {
            return Err(NarError::TooLong { path: self.path() });
        }
        self.tokens(&[b"(", b"type", b"symlink", b"target", &target, b")"])?;
        Ok(self.listed.then_some(Node::Symlink { target }))
    }

    /// Packs an open folder and gives it back.
    fn folder(&mut self, mut opened: OwnedFd, depth: usize) -> Result<(OwnedFd, Option<Node>), NarError<E>> {
        let entries = self.entries(&opened)?;
        self.tokens(&[b"(", b"type", b"directory"])?;
        let mut nodes = Vec::with_capacity(if self.listed { entries.len() } else { 0 });
        for Entry { name, kind } in entries {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(name.as_bytes());
            if name.as_bytes().len() > NAME_BYTES_MAX {
                return Err(NarError::TooLong { path: self.path() });
            }
            self.tokens(&[b"entry", b"(", b"name", name.as_bytes(), b"node"])?;
            let node = if kind == FileType::Directory && depth >= FOLDERS_OPEN_MAX {
                let (back, node) = self.folder_in(opened, &name, depth + 1)?;
                opened = back;
                node
            } else {
                self.node(&opened, &name, kind, depth + 1)?
            };
            self.tokens(&[b")"])?;
            self.path.truncate(length);
            nodes.extend(node.map(|node| (name.into_bytes(), node)));
        }
        self.tokens(&[b")"])?;
        Ok((opened, self.listed.then_some(Node::Folder(nodes))))
    }

    /// Packs the folder `name` with its parent closed meanwhile, and gives the parent back, opened from below.
    fn folder_in(
        &mut self,
        parent: OwnedFd,
        name: &CStr,
        depth: usize,
    ) -> Result<(OwnedFd, Option<Node>), NarError<E>> {
        if depth > DEPTH_MAX {
            return Err(NarError::TooDeep { path: self.path() });
        }
        let child = self.open(&parent, name, OFlags::DIRECTORY)?;
        let identity = self.identity(&parent)?;
        drop(parent);
        let (child, node) = self.folder(child, depth)?;
        let parent = self.open(&child, c"..", OFlags::DIRECTORY)?;
        if self.identity(&parent)? == identity { Ok((parent, node)) } else { Err(self.changed()) }
    }

    fn identity(&self, folder: &OwnedFd) -> Result<Identity, NarError<E>> {
        let Stat { st_dev, st_ino, .. } = fstat(folder).map_err(|source| self.io(source))?;
        Ok(Identity { device: st_dev, inode: st_ino })
    }

    /// The folder's entries, sorted by the bytes of their names.
    fn entries(&mut self, folder: &OwnedFd) -> Result<Vec<Entry>, NarError<E>> {
        let mut names = std::mem::take(&mut self.names);
        names.clear();
        let mut entries = Vec::new();
        let mut listed = RawDir::new(folder, names.spare_capacity_mut());
        while let Some(entry) = listed.next() {
            let entry = entry.map_err(|source| self.io(source))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // Some file systems do not say in the folder what an entry is.
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(folder, name).map_err(|source| self.unlike(source))?,
                said => said,
            };
            entries.push(Entry { name: name.to_owned(), kind });
        }
        self.names = names;
        entries.sort_unstable_by(|one, other| one.name.as_bytes().cmp(other.name.as_bytes()));
        Ok(entries)
    }

    fn open(&self, folder: impl AsFd, name: &CStr, as_what: OFlags) -> Result<OwnedFd, NarError<E>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | as_what;
        retry_on_intr(|| openat(&folder, name, flags, Mode::empty())).map_err(|source| self.unlike(source))
    }

    fn tokens(&mut self, texts: &[&[u8]]) -> Result<(), NarError<E>> {
        for text in texts {
            self.put(&(text.len() as u64).to_le_bytes())?;
            self.put(text)?;
            self.pad(text.len() as u64)?;
        }
        Ok(())
    }

    /// Zeros up to the next multiple of 8.
    fn pad(&mut self, size: u64) -> Result<(), NarError<E>> {
        let zeros = (8 - (size % 8) as usize) % 8;
        self.put(&[0; 8][..zeros])
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), NarError<E>> {
        while !bytes.is_empty() {
            let room = &mut self.buffer[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.buffer.len() {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), NarError<E>> {
        if self.filled > 0 {
            (self.sink)(&self.buffer[..self.filled]).map_err(NarError::Sink)?;
            self.handed += self.filled as u64;
            self.filled = 0;
        }
        Ok(())
    }

    /// What came of an entry that the folder had just named, or of the root that was looked at before.
    fn unlike(&self, source: Errno) -> NarError<E> {
        match source {
            // Gone, a symlink now, no folder any more, no symlink any more, a socket.
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO => self.changed(),
            other => self.io(other),
        }
    }

    fn io(&self, source: Errno) -> NarError<E> {
        NarError::Io { path: self.path(), source: io::Error::from(source) }
    }

    fn changed(&self) -> NarError<E> {
        NarError::Changed { path: self.path() }
    }

    fn unsupported(&self, what: &'static str) -> NarError<E> {
        NarError::Unsupported { path: self.path(), what }
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.path.clone()))
    }
}

fn kind_of(folder: impl AsFd, name: &CStr) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode))
}
