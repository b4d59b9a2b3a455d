//! Percent-encoding: bytes to text that may stand in a URL, and back. A percent sign that begins no such code is an
//! error, not itself.

/// Percent-encodes everything but letters, digits and `-._~/`.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if is_plain(*byte) || *byte == b'/' {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The bytes a text stands for; `None` for a percent sign without two digits in base 16 behind it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    parts(text).map(|part| part.map(|part| part.byte)).collect()
}

/// The same text, written in the one way: what need not be encoded is not, the rest in capitals.
pub(super) fn normal(text: &str) -> Option<String> {
    let mut normal = String::new();
    for part in parts(text) {
        let Part { byte, coded } = part?;
        if coded && !is_plain(byte) {
            normal.push_str(&format!("%{byte:02X}"));
        } else {
            normal.push(char::from(byte));
        }
    }
    Some(normal)
}

/// Letters, digits and what means nothing anywhere in a URL.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

struct Part {
    byte: u8,
    coded: bool,
}

/// Byte by byte; `None` in the place of a code that is none.
fn parts(text: &str) -> impl Iterator<Item = Option<Part>> {
    let mut rest = text.bytes();
    std::iter::from_fn(move || {
        let byte = rest.next()?;
        if byte != b'%' {
            return Some(Some(Part { byte, coded: false }));
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let byte = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        Some(byte.map(|byte| Part { byte, coded: true }))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_that_are_none() {
        for bad in ["%", "%2", "a%", "%zz", "%2", "%+1", "%%20"] {
            assert_eq!((decode(bad), normal(bad)), (None, None), "{bad}");
        }
        assert_eq!(decode("a%20b%2f+%C3%bc").unwrap(), "a b/+ü".as_bytes());
        assert_eq!(normal("%7e%2f%c3+%41").unwrap(), "~%2F%C3+A");
    }

    proptest! {
        #[test]
        fn encoding_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = encode(&bytes);
            prop_assert_eq!(normal(&text), Some(text.clone()));
            prop_assert_eq!(decode(&text), Some(bytes));
        }
    }
}
