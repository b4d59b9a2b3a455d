//! From the files of a path to its compressed archive.
//!
//! In flows a job; out flow chunks of compressed bytes, all but the last of the same size, and what they came to. The
//! archive is hashed on its way and compared with what is registered when it is complete. Blocks; nothing is kept but
//! the chunk that is being filled and what the compressor holds, and of a small archive all of it.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use nix_store::nar::{self, Listing, NarError};
use nix_types::cache_url::Codec;
use nix_types::{Sha256, StorePath};
use sha2::{Digest, Sha256 as Hasher};

use super::shared::Unread;
use super::{CHUNK_BYTES, Job, Packed};

/// What each thread of zstd compresses at once, in bytes. It holds about twelve times that and eight times its window;
/// with four times as much, archives are 0.6 % smaller and the memory there is does not suffice.
pub(super) const ZSTD_JOB_BYTES: u32 = 1 << 20;
/// The tables of higher levels are not kept for the next archive: they may have 90 MB.
const LEVEL_KEPT_MAX: i32 = 8;
/// Room for a small archive that is kept for the next one, in bytes.
const NAR_KEPT_BYTES: usize = 1 << 20;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// The files are not what Nix registered.
    #[error("{path} is not what Nix registered: its NAR has the hash {found}, registered is {registered}")]
    Hash { path: StorePath, registered: Sha256, found: Sha256 },
    /// The files are not what Nix registered.
    #[error(
        "{path} is not what Nix registered: its NAR has {found} bytes or more, registered are {registered}"
    )]
    Size { path: StorePath, registered: u64, found: u64 },
    /// The files cannot be read.
    #[error("cannot pack {path}")]
    Nar {
        path: StorePath,
        #[source]
        source: NarError<io::Error>,
    },
    /// The compressor refuses its settings or fails.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// No thread for it.
    #[error("cannot start a thread to pack")]
    Thread(#[source] io::Error),
    /// Nobody wants it any more.
    #[error("nobody reads the archive any more")]
    Unread,
}

impl PackError {
    /// Our own errors come back through the compressor as they were.
    fn from_sink(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Compress)
    }
}

/// What archives are made with, one after the other.
#[derive(Default)]
pub(super) struct Tools {
    /// What is read into.
    block: Vec<u8>,
    /// A small archive before compression.
    nar: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
}

impl Tools {
    /// Gives back what only a rather large archive needed.
    pub(super) fn put_down(&mut self) {
        self.nar.clear();
        self.nar.shrink_to(NAR_KEPT_BYTES);
    }
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tools")
    }
}

/// Packs; gives every chunk to `emit`. With `threads` it is compressed in pieces by so many, at least 1: their number
/// does not change what comes out, so that two machines make the same archive.
pub(super) fn encode(
    job: &Job,
    threads: Option<u32>,
    tools: &mut Tools,
    emit: &mut dyn FnMut(Bytes) -> Result<(), Unread>,
) -> Result<Packed, PackError> {
    if job.recipe.codec == Codec::Zstd && threads.is_none() && job.is_small() {
        return encode_at_once(job, tools, emit);
    }
    let out = Chunks::new(job, emit);
    let mut encoder = Encoder::new(job, threads, out).map_err(PackError::Compress)?;
    let (nar_size, listing) = read(job, &mut tools.block, &mut |block| encoder.write(block))?;
    let ended = encoder.finish().and_then(|out| out.finish(job.nar_hash));
    let (file_hash, file_size) = ended.map_err(PackError::from_sink)?;
    Ok(Packed { file_hash, file_size, nar_size, listing })
}

/// A small archive: as a whole in memory, where zstd finds all of it in one piece, and is proved before any of it is
/// compressed.
fn encode_at_once(
    job: &Job,
    tools: &mut Tools,
    emit: &mut dyn FnMut(Bytes) -> Result<(), Unread>,
) -> Result<Packed, PackError> {
    let Tools { block, nar, zstd } = tools;
    nar.clear();
    let (nar_size, listing) = read(job, block, &mut |block| {
        nar.extend_from_slice(block);
        Ok(())
    })?;
    let level = job.recipe.level.unwrap_or(0);
    let compressed = zstd.set_compression_level(level).and_then(|()| zstd.compress(nar));
    let mut compressed = compressed.map_err(PackError::Compress)?;
    compressed.shrink_to_fit(); // it was made for the worst case, and may be kept
    if level > LEVEL_KEPT_MAX {
        *zstd = zstd::bulk::Compressor::default();
    }
    let mut left = Bytes::from(compressed);
    let (file_hash, file_size) = (Sha256::of(&left), left.len() as u64);
    while !left.is_empty() {
        let chunk = left.split_to(left.len().min(CHUNK_BYTES));
        emit(chunk).map_err(|Unread| PackError::Unread)?;
    }
    Ok(Packed { file_hash, file_size, nar_size, listing })
}

/// Reads the files as an archive into `sink`; gives its size and listing when it is what was registered.
fn read(
    job: &Job,
    block: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(u64, Option<Listing>), PackError> {
    let mut listing = job.listing.then(Listing::default);
    let mut hasher = Hasher::new();
    let mut found = 0_u64;
    let result = nar::write_through(
        block,
        Path::new(job.path.as_str()),
        &mut |block| {
            hasher.update(block);
            found += block.len() as u64;
            if job.nar_size != 0 && found > job.nar_size {
                let (path, registered) = (job.path.clone(), job.nar_size);
                return Err(io::Error::other(PackError::Size { path, registered, found }));
            }
            sink(block)
        },
        listing.as_mut(),
    );
    if let Err(source) = result {
        return Err(match source {
            NarError::Sink(error) => PackError::from_sink(error),
            source => PackError::Nar { path: job.path.clone(), source },
        });
    }
    compare(job, Sha256::from_bytes(hasher.finalize().into()), found)?;
    Ok((found, listing))
}

fn compare(job: &Job, nar_hash: Sha256, found: u64) -> Result<(), PackError> {
    let path = || job.path.clone();
    if nar_hash != job.nar_hash {
        return Err(PackError::Hash { path: path(), registered: job.nar_hash, found: nar_hash });
    }
    // An old Nix did not note sizes.
    if job.nar_size != 0 && job.nar_size != found {
        return Err(PackError::Size { path: path(), registered: job.nar_size, found });
    }
    Ok(())
}

enum Encoder<'a> {
    None(Chunks<'a>),
    Zstd(zstd::stream::write::Encoder<'static, Chunks<'a>>),
    Xz(liblzma::write::XzEncoder<Chunks<'a>>),
}

impl<'a> Encoder<'a> {
    fn new(job: &Job, threads: Option<u32>, out: Chunks<'a>) -> io::Result<Self> {
        let level = job.recipe.level;
        match job.recipe.codec {
            Codec::None => Ok(Self::None(out)),
            Codec::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, level.unwrap_or(0))?;
                if job.nar_size > 0 {
                    encoder.set_pledged_src_size(Some(job.nar_size))?;
                }
                if let Some(threads) = threads {
                    encoder.set_parameter(zstd::zstd_safe::CParameter::NbWorkers(threads))?;
                    encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB_BYTES))?;
                }
                Ok(Self::Zstd(encoder))
            }
            Codec::Xz => {
                let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(6);
                if let Some(threads) = threads {
                    let stream = liblzma::stream::MtStreamBuilder::new()
                        .threads(threads)
                        .preset(level)
                        .check(liblzma::stream::Check::Crc64)
                        .encoder()?;
                    return Ok(Self::Xz(liblzma::write::XzEncoder::new_stream(out, stream)));
                }
                Ok(Self::Xz(liblzma::write::XzEncoder::new(out, level)))
            }
        }
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        match self {
            Self::None(out) => out.write_all(block),
            Self::Zstd(encoder) => encoder.write_all(block),
            Self::Xz(encoder) => encoder.write_all(block),
        }
    }

    fn finish(self) -> io::Result<Chunks<'a>> {
        match self {
            Self::None(out) => Ok(out),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
        }
    }
}

/// Gathers compressed bytes into chunks and hashes them.
struct Chunks<'a> {
    emit: &'a mut dyn FnMut(Bytes) -> Result<(), Unread>,
    filling: BytesMut,
    /// What the buffer is made for.
    capacity: usize,
    /// `None` when the bytes are the archive's own, whose hash is known.
    hasher: Option<Hasher>,
    bytes: u64,
}

impl<'a> Chunks<'a> {
    fn new(job: &Job, emit: &'a mut dyn FnMut(Bytes) -> Result<(), Unread>) -> Self {
        // A small archive gets no more than it may need.
        let small = usize::try_from(job.nar_size).ok().filter(|size| *size > 0);
        let capacity = small.map_or(CHUNK_BYTES, |size| (size + size / 64 + 512).min(CHUNK_BYTES));
        let hasher = (job.recipe.codec != Codec::None).then(Hasher::new);
        Self { emit, filling: BytesMut::with_capacity(capacity), capacity, hasher, bytes: 0 }
    }

    fn emit(&mut self) -> io::Result<()> {
        let next = BytesMut::with_capacity(self.capacity);
        let chunk = std::mem::replace(&mut self.filling, next).freeze();
        (self.emit)(chunk).map_err(|Unread| io::Error::other(PackError::Unread))
    }

    fn finish(mut self, nar_hash: Sha256) -> io::Result<(Sha256, u64)> {
        if !self.filling.is_empty() {
            let chunk = std::mem::take(&mut self.filling).freeze();
            (self.emit)(chunk).map_err(|Unread| io::Error::other(PackError::Unread))?;
        }
        let file_hash = self.hasher.map(|hasher| Sha256::from_bytes(hasher.finalize().into()));
        Ok((file_hash.unwrap_or(nar_hash), self.bytes))
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES - self.filling.len();
        let taken = &block[..block.len().min(room)];
        self.filling.extend_from_slice(taken);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(taken);
        }
        self.bytes += taken.len() as u64;
        if self.filling.len() == CHUNK_BYTES {
            self.emit()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
