//! Bytes as packages have them. In come text and libraries that every Debian has; out goes one endless stream of both
//! in turn, the same on every machine with the same packages, and a word that tells one such stream from another.
//! What is compressed already is left out, so that the stream is about as compressible as programs are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{BenchError, Doing};

/// Bytes of one kind before the other has its turn.
const TURN_BYTES: u64 = 64 << 10;
/// Turns of libraries for one of text.
const LIBRARY_TURNS: usize = 2;
/// Bytes of each kind after which it begins anew: far more than any compressor looks back.
const STRAND_BYTES_MAX: u64 = 256 << 20;
/// Fewer would say more about one file than about files.
const STRAND_BYTES_MIN: u64 = 16 << 20;
/// Larger files are left out.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Endings of what does not get smaller.
const COMPRESSED: [&str; 12] =
    ["gz", "xz", "bz2", "zst", "zip", "jar", "png", "jpg", "gif", "webp", "woff", "woff2"];

/// The stream.
pub(crate) struct Pool {
    strands: Vec<Strand>,
    turn: usize,
    left: u64,
}

impl Pool {
    /// Looks for files.
    pub(crate) fn find() -> Result<Self, BenchError> {
        let text = Strand::find(Path::new("/usr/share"), |_| true)?;
        let libraries = Strand::find(Path::new("/usr/lib"), |name| name.contains(".so"))?;
        Ok(Self { strands: vec![text, libraries], turn: 0, left: TURN_BYTES })
    }

    /// Tells this stream from others.
    pub(crate) fn hash(&self, hasher: &mut Sha256) {
        for (path, bytes) in self.strands.iter().flat_map(|strand| &strand.files) {
            hasher.update(format!("{}\0{bytes}\n", path.display()));
        }
    }
}

impl Read for Pool {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.turn = (self.turn + 1) % (LIBRARY_TURNS + 1);
            self.left = TURN_BYTES;
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let strand = &mut self.strands[usize::from(self.turn != 0)];
        let got = strand.read(&mut buffer[..most])?;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Files one after the other, and again from the first.
struct Strand {
    files: Vec<(PathBuf, u64)>,
    next: usize,
    open: Option<File>,
}

impl Strand {
    fn find(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, BenchError> {
        let (mut files, mut bytes) = (Vec::new(), 0);
        let mut folders = vec![root.to_owned()];
        while bytes < STRAND_BYTES_MAX
            && let Some(folder) = folders.pop()
        {
            // A folder that is not for us has nothing for us.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
                let name = entry.file_name().to_string_lossy().into_owned();
                let compressed = path.extension().is_some_and(|end| COMPRESSED.iter().any(|c| end == *c));
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_file()
                    && (1..=FILE_BYTES_MAX).contains(&meta.len())
                    && !compressed
                    && wanted(&name)
                    && File::open(&path).is_ok()
                {
                    bytes += meta.len();
                    files.push((path, meta.len()));
                }
            }
        }
        if bytes < STRAND_BYTES_MIN {
            let what = format!("find {} MiB of files in {}", STRAND_BYTES_MIN >> 20, root.display());
            return Err(BenchError::new(format!("{what}: there are {} MiB", bytes >> 20)));
        }
        Ok(Self { files, next: 0, open: None })
    }
}

impl Read for Strand {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.open.is_none() {
                self.open = Some(File::open(&self.files[self.next].0)?);
                self.next = (self.next + 1) % self.files.len();
            }
            let got = self.open.as_mut().map_or(Ok(0), |file| file.read(buffer))?;
            if got > 0 {
                return Ok(got);
            }
            self.open = None;
        }
    }
}

/// Writes the next bytes of the stream into a file.
pub(crate) fn write(pool: &mut Pool, path: &Path, bytes: u64) -> Result<(), BenchError> {
    let written = File::create(path).and_then(|mut file| io::copy(&mut pool.take(bytes), &mut file));
    written.map(drop).doing(format!("write {}", path.display()))
}
