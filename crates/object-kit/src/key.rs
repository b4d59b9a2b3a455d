//! Keys of objects. In: a key as a caller made it. Out: yes, or why no place takes it.

use crate::error::{Fault, said};

/// Longest key, in bytes.
pub const KEY_MAX: usize = 1024;

/// A key that no place takes.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no key: it must have 1 to {KEY_MAX} bytes in parts between single slashes, none of them . or .., none with control characters"
)]
struct KeyError(String);

/// Whether every place can have an object of that name.
pub(crate) fn check(key: &str) -> Result<(), Fault> {
    let part = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    if key.len() <= KEY_MAX && key.split('/').all(part) {
        return Ok(());
    }
    Err(Fault::local(KeyError(said(key))))
}

/// A key, or another path, as it stands in a URL: everything but letters, digits, `-._~` and slashes is `%XX`.
pub(crate) fn encoded(path: &str) -> String {
    percent(path, true)
}

/// A name or value of a URL's query.
pub(crate) fn encoded_query(text: &str) -> String {
    percent(text, false)
}

fn percent(text: &str, slashes: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

/// Undoes [`encoded`]; what is no `%XX` stays.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_place() {
        for good in ["a", "nar/x.nar.zst", "log/a+b=c?d drv", "..a", "größe"] {
            assert!(check(good).is_ok(), "{good}");
            assert_eq!(decoded(&encoded(good)), good);
        }
        let long = "x".repeat(KEY_MAX + 1);
        for bad in ["", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\nb", "a\u{1b}", &long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn encoding_is_that_of_signatures() {
        assert_eq!(encoded("nar/a+b c~é"), "nar/a%2Bb%20c~%C3%A9");
        assert_eq!(encoded_query("a/b=c"), "a%2Fb%3Dc");
        assert_eq!(decoded("100%"), "100%");
    }
}
