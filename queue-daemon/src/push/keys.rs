//! The keys that sign what is sent, and the local store.
//!
//! In flow files; out flow keys, all of them or none: what is to be signed and cannot be is not sent. They are read
//! anew for each batch, so a key that is replaced is used at once.

use std::path::{Path, PathBuf};

use nix_types::SecretKey;

use super::Fault;
use crate::delivery::FaultClass;

/// Most bytes of a key's file.
const KEY_FILE_BYTES_MAX: u64 = 16 << 10;

/// Reads every key. Blocks.
///
/// # Errors
/// A fault that holds nothing against any path, with the file's name and never its content.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Vec<SecretKey>, Fault> {
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<SecretKey, Fault> {
    use std::io::Read;

    let refuse = |why: String| {
        let why = format!("nothing is sent unsigned: the secret key {} {why}", file.display());
        Fault::failed(FaultClass::Unreachable, why)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(|error| refuse(format!("cannot be opened: {error}")))?;
    opened
        .take(KEY_FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let key = SecretKey::parse(&text).map_err(|error| refuse(format!("is of no use: {error}")));
    zeroize::Zeroize::zeroize(&mut text);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_away_or_no_key_is_named_and_its_content_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let why = |result: Result<Vec<SecretKey>, Fault>| match result {
            Err(Fault::Failed { class: FaultClass::Unreachable, why, .. }) => why,
            other => panic!("not refused: {other:?}"),
        };
        assert!(why(read_all(std::slice::from_ref(&file))).contains("cannot be opened"));
        std::fs::write(&file, "name:c2VjcmV0IGJ1dCBubyBrZXk=").unwrap();
        let told = why(read_all(std::slice::from_ref(&file)));
        assert!(told.contains(&file.display().to_string()) && !told.contains("c2VjcmV0"), "{told}");
    }
}
