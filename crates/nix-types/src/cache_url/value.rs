//! One parameter's value comes in, decoded; what its kind makes of it comes out, or the error that names parameter and
//! value and says what is wanted.

use std::path::PathBuf;

use super::error::CacheUrlError;
use super::{address, path_of};

/// A value and whose it is.
pub(super) struct Value {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
}

type Read<T> = Result<T, CacheUrlError>;

impl Value {
    pub(super) fn fail(&self, wanted: &'static str) -> CacheUrlError {
        CacheUrlError::Value {
            name: self.name,
            value: address::shown(&String::from_utf8_lossy(&self.bytes)),
            wanted,
        }
    }

    /// Printable text, not empty.
    pub(super) fn text(&self) -> Read<&str> {
        let text = std::str::from_utf8(&self.bytes).ok();
        text.filter(|text| !text.is_empty() && text.chars().all(hook_wire::is_printable))
            .ok_or_else(|| self.fail("printable text"))
    }

    pub(super) fn flag(&self) -> Read<bool> {
        match self.bytes.as_slice() {
            b"true" | b"yes" | b"1" => Ok(true),
            b"false" | b"no" | b"0" => Ok(false),
            _ => Err(self.fail("true or false")),
        }
    }

    /// A number in digits alone, at most `max`.
    pub(super) fn number(&self, max: u64, wanted: &'static str) -> Read<u64> {
        self.digits(&self.bytes).filter(|number| *number <= max).ok_or_else(|| self.fail(wanted))
    }

    /// A number of bytes, or of KiB, MiB, GiB, TiB with `K`, `M`, `G`, `T` behind it.
    pub(super) fn size(&self, wanted: &'static str) -> Read<u64> {
        let (digits, shift) = match self.bytes.split_last() {
            Some((b'K' | b'k', digits)) => (digits, 10),
            Some((b'M' | b'm', digits)) => (digits, 20),
            Some((b'G' | b'g', digits)) => (digits, 30),
            Some((b'T' | b't', digits)) => (digits, 40),
            Some(_) | None => (self.bytes.as_slice(), 0),
        };
        let size = self.digits(digits).and_then(|number| number.checked_mul(1 << shift));
        size.ok_or_else(|| self.fail(wanted))
    }

    fn digits(&self, bytes: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        text.parse().ok()
    }

    /// The absolute path of a file.
    pub(super) fn path(&self) -> Read<PathBuf> {
        self.path_in(&self.bytes)
    }

    /// Several, with commas between them.
    pub(super) fn paths(&self) -> Read<Vec<PathBuf>> {
        self.bytes.split(|byte| *byte == b',').map(|part| self.path_in(part)).collect()
    }

    fn path_in(&self, bytes: &[u8]) -> Read<PathBuf> {
        if bytes.starts_with(b"/") && !bytes.ends_with(b"/") && !bytes.iter().any(u8::is_ascii_control) {
            Ok(path_of(bytes))
        } else {
            Err(self.fail("the absolute path of a file"))
        }
    }
}
