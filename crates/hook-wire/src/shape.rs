//! How a store path looks: bytes come in, its three parts go out, or the reason why they are no store path.
//! Any absolute folder counts as a store, for private stores are not under `/nix/store`; whether the folder
//! is the right one and the path exists is for whoever holds the store.

use core::fmt;

use crate::{PATH_MAX, is_printable};

/// Characters of a store path's hash part.
pub const HASH_LEN: usize = 32;
/// Most characters of a store path's name.
pub const NAME_MAX: usize = 211;

/// A store path, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// The store's folder, without a slash at the end: `/nix/store`.
    pub store_dir: &'a str,
    /// The 32 characters of the hash.
    pub hash: &'a str,
    /// The name, `.drv` included: `hello-2.12`.
    pub name: &'a str,
}

/// Why bytes are not a store path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// No bytes at all.
    Empty,
    /// More than [`PATH_MAX`] bytes.
    TooLong,
    /// A space, a control character, or bytes that are not UTF-8.
    Unprintable,
    /// It does not begin with `/`.
    Relative,
    /// `//`, `/./` or `/../` in the folder, or no folder at all.
    Folder,
    /// The last component has not the form of 32 characters, a dash and a name.
    Form,
    /// A character in the first 32 is not one of Nix' base 32.
    Hash,
    /// The name is empty, too long, begins with a dot, or has a character that is not allowed.
    Name,
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty; give a path such as /nix/store/<hash>-<name>",
            Self::TooLong => "it has more than 4096 bytes; give the store path alone",
            Self::Unprintable => {
                "it has a space, a control character or bytes that are not UTF-8, which no store path has; \
                 give one path per argument or line"
            }
            Self::Relative => {
                "it does not begin with a slash; give the absolute path, such as /nix/store/<hash>-<name>"
            }
            Self::Folder => {
                "its folder is missing or has an empty, `.` or `..` component; give the path as Nix prints it"
            }
            Self::Form => {
                "its last component is not <32 characters>-<name>; give the store path itself, not a file \
                 inside of it or a link to it (readlink -f shows where a link leads)"
            }
            Self::Hash => {
                "its hash has a character outside of 0123456789abcdfghijklmnpqrsvwxyz; \
                 give the path as Nix prints it"
            }
            Self::Name => {
                "its name is empty, longer than 211 characters, begins with a dot or has characters \
                 outside of A-Z a-z 0-9 + - . _ ? =; give the path as Nix prints it"
            }
        })
    }
}

impl core::error::Error for PathFault {}

/// Takes a store path apart.
///
/// # Errors
/// The first reason why `path` is none.
pub fn check(path: &[u8]) -> Result<Parts<'_>, PathFault> {
    if path.is_empty() {
        return Err(PathFault::Empty);
    }
    if path.len() > PATH_MAX {
        return Err(PathFault::TooLong);
    }
    let path = core::str::from_utf8(path).map_err(|_| PathFault::Unprintable)?;
    if !path.bytes().all(|b| b.is_ascii_graphic()) && !path.chars().all(|c| c != ' ' && is_printable(c)) {
        return Err(PathFault::Unprintable);
    }
    if !path.starts_with('/') {
        return Err(PathFault::Relative);
    }
    let (store_dir, base) = path.rsplit_once('/').ok_or(PathFault::Relative)?;
    if store_dir.is_empty() || store_dir[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(PathFault::Folder);
    }
    let (hash, name) = match base.split_at_checked(HASH_LEN) {
        Some((hash, rest)) => (hash, rest.strip_prefix('-').ok_or(PathFault::Form)?),
        None => return Err(PathFault::Form),
    };
    if !hash.bytes().all(is_nix32) {
        return Err(PathFault::Hash);
    }
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.bytes().all(is_name) {
        return Err(PathFault::Name);
    }
    Ok(Parts { store_dir, hash, name })
}

/// The words of `OUT_PATHS` or of a list on standard input: parted by any run of spaces, tabs and line ends.
pub fn split_out_paths(list: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    list.split(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).filter(|word| !word.is_empty())
}

const fn is_nix32(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'z') && !matches!(b, b'e' | b'o' | b't' | b'u')
}

const fn is_name(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'_' | b'?' | b'=' | b'-')
}
