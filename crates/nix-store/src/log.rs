//! A derivation comes in, the log of its last build comes out, unpacked: what the builder wrote, which is whatever it
//! liked. Reads the file Nix keeps under its log folder; asks nobody and fetches nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix_types::DrvPath;

use crate::dirs::StoreDirs;

mod bunzip;

pub use bunzip::{UnpackError, unpack};

/// Most bytes of a log, unpacked: 64 MiB. A longer one is refused, not cut: half a log that looks whole misleads.
pub const LOG_BYTES_MAX: usize = 64 << 20;

/// Why a log that is there cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot read the build log {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a pipe, a device or the like.
    #[error("the build log {} is not a regular file", path.display())]
    NotAFile {
        /// What should be a file.
        path: PathBuf,
    },
    /// The file cannot be unpacked.
    #[error(
        "cannot unpack the build log {}; a build that is still running or was killed leaves half a log", path.display()
    )]
    Unpack {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// More than [`LOG_BYTES_MAX`].
    #[error("the build log {} is longer than {LOG_BYTES_MAX} bytes, more than is taken", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// The log of the derivation's last build here; `None` when Nix kept none.
///
/// # Errors
/// [`LogError`]
pub fn build_log(dirs: &StoreDirs, drv: &DrvPath) -> Result<Option<Vec<u8>>, LogError> {
    let folder = dirs.log().join("drvs");
    let base = drv.store_path().base_name();
    // The hash part is 32 characters of ASCII. Nix looks in its old place, without folders, as well.
    let (first, rest) = base.split_at(2);
    for place in [folder.join(first).join(rest), folder.join(base)] {
        let packed = PathBuf::from(format!("{}.bz2", place.display()));
        if let Some(log) = read(&place)? {
            return Ok(Some(log));
        }
        if let Some(bytes) = read(&packed)? {
            return match unpack(&bytes, LOG_BYTES_MAX) {
                Ok(log) => Ok(Some(log)),
                Err(UnpackError::TooLong { .. }) => Err(LogError::TooLong { path: packed }),
                Err(source) => Err(LogError::Unpack { path: packed, source }),
            };
        }
    }
    Ok(None)
}

/// The bytes of a regular file; `None` when there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    let failed = |source| LogError::Read { path: path.to_owned(), source };
    // A pipe in this place would hold us up for ever.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file: File = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(LogError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LOG_BYTES_MAX {
        return Err(LogError::TooLong { path: path.to_owned() });
    }
    Ok(Some(bytes))
}
