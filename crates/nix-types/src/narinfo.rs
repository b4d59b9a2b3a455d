//! What a cache knows of one store path, its `.narinfo` file: text in, fields out; and the text again, byte for byte as
//! Nix writes it. Whether its signatures are good is for who holds the keys ([`NarInfo::fingerprint`] is what they
//! signed); whether the archive is as it says, for who reads it.

use crate::hash::{HashError, Sha256};
use crate::signature::{self, SecretKey, Signature, SignatureError};
use crate::store_path::{StorePath, StorePathError};

mod read;

/// Most bytes of the file. A path with ten thousand references has half of it.
pub const NARINFO_BYTES_MAX: usize = 1 << 20;

/// What a `.narinfo` file says. As [`NarInfo::parse`] gives it, the lists are sorted and have each member once, so that
/// two of them are equal when they say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The path.
    pub store_path: StorePath,
    /// Where its archive is, as seen from the file: `nar/<name>.nar.zst`. Free text for who reads; printable ASCII
    /// without spaces.
    pub url: String,
    /// How the archive is compressed: `zstd`, `xz`, `none`, `bzip2`, or what else somebody chose; one word.
    pub compression: String,
    /// The hash of the compressed archive.
    pub file_hash: Option<Sha256>,
    /// The size of the compressed archive in bytes.
    pub file_size: Option<u64>,
    /// The hash of the archive.
    pub nar_hash: Sha256,
    /// The size of the archive in bytes; never 0.
    pub nar_size: u64,
    /// What the path refers to, itself among them if it does.
    pub references: Vec<StorePath>,
    /// The derivation that made it. Not covered by signatures.
    pub deriver: Option<StorePath>,
    /// Who vouches for it.
    pub signatures: Vec<Signature>,
    /// What its name was made from, when that is its content (`fixed:r:sha256:…`, `text:sha256:…`); one word. Not
    /// covered by signatures.
    pub ca: Option<String>,
}

/// Why a text is no `.narinfo` file. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// More than [`NARINFO_BYTES_MAX`].
    #[error("the narinfo has {0} bytes, more than {NARINFO_BYTES_MAX}")]
    TooLarge(usize),
    /// The last line has no end, so something may be missing.
    #[error("the narinfo ends in the middle of a line; it was cut off")]
    CutOff,
    /// A line that is not `Key: value`.
    #[error("line {line} of the narinfo is not a key, a colon, a space and a value")]
    Line {
        /// Which.
        line: usize,
    },
    /// A key that may be there once.
    #[error("line {line} of the narinfo gives {key} a second time")]
    Twice {
        /// Which key.
        key: &'static str,
        /// Where the second is.
        line: usize,
    },
    /// A key that must be there.
    #[error("the narinfo has no {0}")]
    Missing(&'static str),
    /// A value that is none for its key.
    #[error("{key} in line {line} of the narinfo must be {wanted}")]
    Value {
        /// Which key.
        key: &'static str,
        /// Where.
        line: usize,
        /// What it must be.
        wanted: &'static str,
    },
    /// A store path that is none.
    #[error("{key} in line {line} of the narinfo has something that is no store path")]
    Path {
        /// Which key.
        key: &'static str,
        /// Where.
        line: usize,
        /// Why.
        #[source]
        fault: StorePathError,
    },
    /// A path of another store.
    #[error("the narinfo is about {path}, which is not in {store_dir}")]
    OtherStore {
        /// The path.
        path: StorePath,
        /// The store it should be in.
        store_dir: String,
    },
    /// A hash that is none.
    #[error("{key} in line {line} of the narinfo is damaged")]
    Hash {
        /// Which key.
        key: &'static str,
        /// Where.
        line: usize,
        /// Why.
        #[source]
        fault: HashError,
    },
    /// A signature that is none.
    #[error("the signature in line {line} of the narinfo is damaged")]
    Signature {
        /// Where.
        line: usize,
        /// Why.
        #[source]
        fault: SignatureError,
    },
}

impl NarInfo {
    /// Reads a `.narinfo` file of the store in `store_dir` (`/nix/store`). Keys it does not know are passed over; a
    /// missing `Compression` is `bzip2`, as it was once.
    ///
    /// # Errors
    /// [`NarInfoError`]
    pub fn parse(text: &str, store_dir: &str) -> Result<Self, NarInfoError> {
        read::narinfo(text, store_dir)
    }

    /// The name of a path's file in a cache: `<hash>.narinfo`.
    #[must_use]
    pub fn key_of(path: &StorePath) -> String {
        format!("{}.narinfo", path.hash_part())
    }

    /// The file's text, in Nix' order and form.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            debug_assert!(!value.contains(char::is_control), "a value is one line: {value:?}");
            text.push_str(key);
            text.push_str(": ");
            // Whatever a field holds, it forges no other line.
            text.extend(value.chars().filter(|c| !c.is_control()));
            text.push('\n');
        };
        let mut references: Vec<&str> = self.references.iter().map(StorePath::base_name).collect();
        references.sort_unstable();
        references.dedup();
        line("StorePath", self.store_path.as_str());
        line("URL", &self.url);
        line("Compression", &self.compression);
        if let Some(hash) = &self.file_hash {
            line("FileHash", &hash.to_string());
        }
        if let Some(size) = self.file_size {
            line("FileSize", &size.to_string());
        }
        line("NarHash", &self.nar_hash.to_string());
        line("NarSize", &self.nar_size.to_string());
        line("References", &references.join(" "));
        if let Some(deriver) = &self.deriver {
            line("Deriver", deriver.base_name());
        }
        for signature in signature::sorted_texts(&self.signatures) {
            line("Sig", &signature);
        }
        if let Some(ca) = &self.ca {
            line("CA", ca);
        }
        text
    }

    /// What its signatures sign.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        signature::fingerprint(&self.store_path, &self.nar_hash, self.nar_size, &self.references)
    }

    /// Adds this key's signature, in its place, unless it is there.
    pub fn sign(&mut self, key: &SecretKey) {
        self.signatures.push(key.sign(&self.fingerprint()));
        signature::sort(&mut self.signatures);
    }
}

#[cfg(test)]
mod tests;
