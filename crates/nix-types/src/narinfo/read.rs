//! The lines of a `.narinfo` file come in, one by one; the fields come out once all that must be there was.

use std::str::FromStr;

use super::{NARINFO_BYTES_MAX, NarInfo, NarInfoError};
use crate::hash::Sha256;
use crate::signature::{self, Signature};
use crate::store_path::StorePath;
use crate::text::is_word;

/// What Nix writes when it does not know the deriver.
const NO_DERIVER: &str = "unknown-deriver";
/// What the archives were compressed with before the file said so.
const FIRST_COMPRESSION: &str = "bzip2";

/// The keys that may be there once.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<String>,
    file_hash: Option<Sha256>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    /// Inside: `None` for a deriver nobody knows.
    deriver: Option<Option<StorePath>>,
    /// Inside: `None` for an empty one.
    ca: Option<Option<String>>,
}

pub(super) fn narinfo(text: &str, store_dir: &str) -> Result<NarInfo, NarInfoError> {
    if text.len() > NARINFO_BYTES_MAX {
        return Err(NarInfoError::TooLarge(text.len()));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(NarInfoError::CutOff);
    }
    let (mut fields, mut signatures) = (Fields::default(), Vec::new());
    for (index, line) in text.split_terminator('\n').enumerate() {
        let at = index + 1;
        let (key, rest) = line.split_once(':').ok_or(NarInfoError::Line { line: at })?;
        let value = match rest.strip_prefix(' ') {
            Some(value) => value,
            None if rest.is_empty() => "",
            None => return Err(NarInfoError::Line { line: at }),
        };
        if key == "Sig" {
            let fault = |fault| NarInfoError::Signature { line: at, fault };
            signatures.push(Signature::parse(value).map_err(fault)?);
        } else {
            fields.take(key, &Value { text: value, line: at, store_dir })?;
        }
    }
    signature::sort(&mut signatures);
    fields.complete(signatures, store_dir)
}

impl Fields {
    fn take(&mut self, key: &str, value: &Value<'_>) -> Result<(), NarInfoError> {
        let line = value.line;
        match key {
            "StorePath" => once("StorePath", line, &mut self.store_path, value.path("StorePath")?),
            "URL" => once("URL", line, &mut self.url, value.word("URL")?),
            "Compression" if value.text.is_empty() => Ok(()),
            "Compression" => once("Compression", line, &mut self.compression, value.word("Compression")?),
            "FileHash" => once("FileHash", line, &mut self.file_hash, value.hash("FileHash")?),
            "FileSize" => once("FileSize", line, &mut self.file_size, value.number("FileSize")?),
            "NarHash" => once("NarHash", line, &mut self.nar_hash, value.hash("NarHash")?),
            "NarSize" => once("NarSize", line, &mut self.nar_size, value.number("NarSize")?),
            "References" => once("References", line, &mut self.references, value.references()?),
            "Deriver" => once("Deriver", line, &mut self.deriver, value.deriver()?),
            "CA" if value.text.is_empty() => once("CA", line, &mut self.ca, None),
            "CA" => once("CA", line, &mut self.ca, Some(value.word("CA")?)),
            _ => Ok(()), // `System` of old files, and what a newer Nix writes
        }
    }

    fn complete(self, signatures: Vec<Signature>, store_dir: &str) -> Result<NarInfo, NarInfoError> {
        let missing = NarInfoError::Missing;
        let store_path = self.store_path.ok_or(missing("StorePath"))?;
        if store_path.store_dir() != store_dir {
            return Err(NarInfoError::OtherStore { path: store_path, store_dir: store_dir.to_owned() });
        }
        Ok(NarInfo {
            store_path,
            url: self.url.ok_or(missing("URL"))?,
            compression: self.compression.unwrap_or_else(|| FIRST_COMPRESSION.to_owned()),
            file_hash: self.file_hash,
            file_size: self.file_size,
            nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
            nar_size: self.nar_size.filter(|size| *size > 0).ok_or(missing("NarSize"))?,
            references: self.references.unwrap_or_default(),
            deriver: self.deriver.flatten(),
            signatures,
            ca: self.ca.flatten(),
        })
    }
}

fn once<T>(key: &'static str, line: usize, slot: &mut Option<T>, value: T) -> Result<(), NarInfoError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(NarInfoError::Twice { key, line }),
    }
}

/// A value and where it stands.
struct Value<'a> {
    text: &'a str,
    line: usize,
    store_dir: &'a str,
}

impl Value<'_> {
    fn wanted(&self, key: &'static str, wanted: &'static str) -> NarInfoError {
        NarInfoError::Value { key, line: self.line, wanted }
    }

    fn word(&self, key: &'static str) -> Result<String, NarInfoError> {
        if is_word(self.text) {
            Ok(self.text.to_owned())
        } else {
            Err(self.wanted(key, "one word of printable ASCII"))
        }
    }

    fn number(&self, key: &'static str) -> Result<u64, NarInfoError> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        let number = u64::from_str(self.text).ok().filter(|_| digits);
        number.ok_or_else(|| self.wanted(key, "a number of bytes"))
    }

    fn hash(&self, key: &'static str) -> Result<Sha256, NarInfoError> {
        Sha256::parse(self.text).map_err(|fault| NarInfoError::Hash { key, line: self.line, fault })
    }

    fn path(&self, key: &'static str) -> Result<StorePath, NarInfoError> {
        StorePath::parse_str(self.text).map_err(|fault| NarInfoError::Path { key, line: self.line, fault })
    }

    fn base_name(&self, key: &'static str, name: &str) -> Result<StorePath, NarInfoError> {
        let fault = |fault| NarInfoError::Path { key, line: self.line, fault };
        StorePath::in_store(self.store_dir, name).map_err(fault)
    }

    fn references(&self) -> Result<Vec<StorePath>, NarInfoError> {
        let names = self.text.split(' ').filter(|name| !name.is_empty());
        let mut paths: Vec<StorePath> =
            names.map(|name| self.base_name("References", name)).collect::<Result<_, _>>()?;
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    fn deriver(&self) -> Result<Option<StorePath>, NarInfoError> {
        if self.text == NO_DERIVER { Ok(None) } else { self.base_name("Deriver", self.text).map(Some) }
    }
}
