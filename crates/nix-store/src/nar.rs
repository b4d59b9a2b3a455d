//! A store path's files come in, the bytes of its NAR go out to a sink, block by block, and on wish a listing of what
//! lies where in it. Reads straight from the file system, follows no symlink below the path, holds one block and the
//! names of the open folders, whatever the size of the files. Hashing, compressing and sending are the sink's; reading
//! a NAR is not done here.
//!
//! The bytes are those of `nix-store --dump`: entries sorted by the bytes of their names, which may be any, files with
//! their size in front and the owner's executable bit. Names are written as they are (Nix' case hack is off).

use std::io;
use std::path::{Path, PathBuf};

mod listing;
mod pack;

pub use listing::{DebugFile, Listing, Node};

/// Bytes of the one block that is read into and handed on.
pub const READ_BYTES: usize = 256 * 1024;
/// How deep folders may lie in one another; the path itself is at 0. Nix' limit is where its stack ends or a path gets
/// longer than 4096 bytes.
pub const DEPTH_MAX: usize = 512;
/// Longest name of an entry, in bytes: that of Linux' own file systems.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest target of a symlink, in bytes: that of Linux.
pub const TARGET_BYTES_MAX: usize = 4096;

/// Why there is no NAR. Paths are shown escaped: whoever made the files chose their names.
#[derive(Debug, thiserror::Error)]
pub enum NarError<E> {
    /// A file cannot be read.
    #[error("cannot read {path:?} to pack it")]
    Io {
        /// The file, folder or symlink.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was not the same from the first look to the last.
    #[error(
        "{path:?} changed while it was packed; nothing may write below a store path: `nix-store --verify-path` tells whether it is still what Nix registered"
    )]
    Changed {
        /// The file, folder or symlink.
        path: PathBuf,
    },
    /// A thing no NAR can hold.
    #[error("{path:?} is {what}; a NAR holds only files, folders and symlinks")]
    Unsupported {
        /// Where.
        path: PathBuf,
        /// A socket, a FIFO, a device.
        what: &'static str,
    },
    /// A name or target longer than any Linux makes.
    #[error("the name or target of {path:?} is longer than a NAR may hold")]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// Folders in folders beyond [`DEPTH_MAX`].
    #[error("{path:?} lies deeper than {DEPTH_MAX} folders, more than is packed")]
    TooDeep {
        /// The folder too much.
        path: PathBuf,
    },
    /// The sink wants no more.
    #[error("what takes the packed bytes failed")]
    Sink(#[source] E),
}

/// Hands the NAR of `path` to `sink`, [`READ_BYTES`] at a time (the last block is shorter), and gives its size in
/// bytes. The order is always the same. With `listing`, what was packed is put there when all went well.
///
/// # Errors
/// [`NarError`]; then the sink has heard a part and shall throw it away.
pub fn write<E>(
    path: &Path,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    listing: Option<&mut Listing>,
) -> Result<u64, NarError<E>> {
    write_through(&mut Vec::new(), path, sink, listing)
}

/// The same through a block that is at hand and serves again; it is made as large as it has to be.
///
/// # Errors
/// As [`write()`].
pub fn write_through<E>(
    block: &mut Vec<u8>,
    path: &Path,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    listing: Option<&mut Listing>,
) -> Result<u64, NarError<E>> {
    block.resize(READ_BYTES, 0);
    let (size, root) = pack::pack(block, path, sink, listing.is_some())?;
    if let (Some(listing), Some(root)) = (listing, root) {
        *listing = Listing::new(root);
    }
    Ok(size)
}
