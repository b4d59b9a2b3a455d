//! Small files that are encoded on their way (`narinfo-compression`, `ls-compression`, `log-compression`).
//!
//! In flows a text; out flow its bytes as they are stored and the word for it, or the other way round. Bounded.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use nix_types::cache_url::Encoding;
use object_kit::{Found, Meta};

/// Characters of an encoding's name that are shown.
const WORD_SHOWN_MAX: usize = 40;

/// The bytes to store, and what says how.
pub(super) fn apply(text: impl Into<Bytes>, encoding: Encoding, meta: Meta) -> (Bytes, Meta) {
    let text = text.into();
    match encoding {
        Encoding::None => (text, meta),
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
            let packed = encoder.write_all(&text).and_then(|()| encoder.finish());
            let packed = packed.expect("writing into memory does not fail");
            (packed.into(), Meta { content_encoding: Some("gzip"), ..meta })
        }
    }
}

/// The text of a stored object, of at most `bytes_max` bytes. A place that keeps no word for the encoding is believed
/// to hold what we write there.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn undo(found: &Found, ours: Encoding, bytes_max: usize) -> Result<String, String> {
    let gzip = match found.content_encoding.as_deref() {
        Some("gzip" | "x-gzip") => true,
        Some("" | "identity") => false,
        Some(other) => return Err(format!("is encoded as {}", shown(other))),
        None => ours == Encoding::Gzip && found.bytes.starts_with(&[0x1f, 0x8b]),
    };
    let bytes = if gzip { gunzip(&found.bytes, bytes_max)? } else { plain(&found.bytes, bytes_max)? };
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

/// The beginning of a word that the place said, fit for one line.
fn shown(word: &str) -> String {
    word.chars().take(WORD_SHOWN_MAX).flat_map(char::escape_debug).collect()
}

fn plain(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    if bytes.len() > bytes_max { Err(too_long(bytes_max)) } else { Ok(bytes.to_vec()) }
}

fn too_long(bytes_max: usize) -> String {
    format!("has more than {bytes_max} bytes")
}

fn gunzip(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let read = flate2::read::GzDecoder::new(bytes).take(limit).read_to_end(&mut plain);
    read.map_err(|error| format!("is no gzip: {error}"))?;
    if plain.len() > bytes_max { Err(too_long(bytes_max)) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: Bytes, content_encoding: Option<&str>) -> Found {
        Found { bytes, content_encoding: content_encoding.map(str::to_owned), tag: None, modified: None }
    }

    #[test]
    fn what_is_encoded_is_undone_and_bounded() {
        let text = "StorePath: x\n".repeat(100);
        let (bytes, meta) = apply(text.clone(), Encoding::Gzip, Meta::new("text/x-nix-narinfo"));
        assert_eq!(meta.content_encoding, Some("gzip"));
        assert!(bytes.len() < text.len() / 4);
        for said in [Some("gzip"), None] {
            assert_eq!(undo(&stored(bytes.clone(), said), Encoding::Gzip, 10_000), Ok(text.clone()));
        }
        assert!(undo(&stored(bytes.clone(), Some("gzip")), Encoding::Gzip, 1_299).is_err());
        assert!(undo(&stored(bytes, Some("br")), Encoding::Gzip, 10_000).is_err());
        let plain = stored(Bytes::from_static(b"0123456789a"), None);
        assert_eq!(undo(&plain, Encoding::None, 10), Err("has more than 10 bytes".to_owned()));
        let odd = undo(&stored(Bytes::new(), Some(&"x\u{1b}".repeat(9999))), Encoding::None, 10).unwrap_err();
        assert!(odd.len() < 300 && odd.starts_with("is encoded as x\\u{1b}x"), "{odd}");
        assert!(undo(&stored(Bytes::from_static(&[0x1f, 0x8b, 0]), None), Encoding::Gzip, 10).is_err());
        assert!(undo(&stored(Bytes::from_static(b"\xff"), None), Encoding::None, 10).is_err());
    }
}
