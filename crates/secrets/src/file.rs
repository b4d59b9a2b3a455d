//! Secret files. In: a path. Out: its text, bounded, and whether others may read it. Never waits for a pipe's writer.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::{Secret, SecretError};

/// Largest content of a file, or answer of a service, in bytes.
pub const CONTENT_MAX: usize = 256 << 10;
/// Bits of a mode that let everybody read.
const OTHERS_READ: u32 = 0o004;

/// A file's text, and whether others may read it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) text: Secret,
    pub(crate) others_read: bool,
}

/// Reads a file.
///
/// # Errors
/// [`SecretError`] when it is absent, unreadable, no file, larger than [`CONTENT_MAX`], or not UTF-8.
pub(crate) fn read(path: &Path) -> Result<Content, SecretError> {
    let place = || path.display().to_string();
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => "write it, or correct the path",
            ErrorKind::PermissionDenied => "let the daemon's user read it, and its folders",
            _ => "check the path",
        };
        SecretError::mend(place(), "cannot be read", remedy).because(error)
    };
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(SecretError::mend(place(), "is not a file", "name a file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(CONTENT_MAX.min(64 << 10)));
    let limit = u64::try_from(CONTENT_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > CONTENT_MAX {
        return Err(SecretError::mend(
            place(),
            format!("has more than {CONTENT_MAX} bytes"),
            "name the right file",
        ));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| SecretError::mend(place(), "is not UTF-8", "name a file of text"))?;
    let others_read = meta.permissions().mode() & OTHERS_READ != 0;
    Ok(Content { text: Secret::new(text), others_read })
}
