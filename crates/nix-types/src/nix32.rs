//! Nix' base 32: bytes in, text out, and back. It is no RFC 4648: another alphabet, no padding characters, and the text
//! begins with the last bits of the bytes. Knows nothing of what the bytes are.

/// The 32 digits. `e`, `o`, `t` and `u` are left out, so that no text spells a word one would not like to read.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// So many bytes are a whole number of digits, which stand before those of the bytes in front of them.
const BYTES: usize = 5;
const DIGITS_OF_BYTES: usize = encoded_len(BYTES);

/// Why a text is none in base 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nix32Error {
    /// A character outside of the alphabet. `at` counts bytes from 0.
    #[error("the byte at {at} is none of 0123456789abcdfghijklmnpqrsvwxyz")]
    Digit {
        /// Where.
        at: usize,
    },
    /// So many characters are no whole number of bytes.
    #[error("{0} characters are no whole number of bytes; some are missing or too many")]
    Length(usize),
    /// The bits of the first character that belong to no byte are not zero.
    #[error("its first character stands for more bits than there are; it is damaged")]
    Padding,
}

/// How many characters `bytes` bytes have.
#[must_use]
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// The bytes in base 32.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    push(&mut text, bytes);
    text
}

/// Adds the bytes in base 32 to a text.
pub fn push(text: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(BYTES).rev() {
        let mut bits = [0; 8];
        bits[..group.len()].copy_from_slice(group);
        let bits = u64::from_le_bytes(bits);
        for number in (0..encoded_len(group.len())).rev() {
            text.push(char::from(DIGITS[(bits >> (5 * number) & 31) as usize]));
        }
    }
}

/// The bytes a text stands for.
///
/// # Errors
/// [`Nix32Error`]: no other text than the one [`encode`] gives is taken for any bytes.
pub fn decode(text: &str) -> Result<Vec<u8>, Nix32Error> {
    let mut bytes = vec![0; text.len() * 5 / 8];
    fill(&mut bytes, text)?;
    Ok(bytes)
}

/// [`decode`] where the number of bytes is known.
///
/// # Errors
/// As [`decode`]; a text for another number of bytes has a wrong length.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], Nix32Error> {
    let mut bytes = [0; N];
    fill(&mut bytes, text)?;
    Ok(bytes)
}

fn fill(bytes: &mut [u8], text: &str) -> Result<(), Nix32Error> {
    if encoded_len(bytes.len()) != text.len() {
        return Err(Nix32Error::Length(text.len()));
    }
    let mut end = text.len();
    for (group, digits) in bytes.chunks_mut(BYTES).zip(text.as_bytes().rchunks(DIGITS_OF_BYTES)) {
        let mut bits = 0;
        for (number, character) in digits.iter().rev().enumerate() {
            let digit = value(*character).ok_or(Nix32Error::Digit { at: end - 1 - number })?;
            bits |= u64::from(digit) << (5 * number);
        }
        if bits >> (8 * group.len()) != 0 {
            return Err(Nix32Error::Padding);
        }
        group.copy_from_slice(&bits.to_le_bytes()[..group.len()]);
        end -= digits.len();
    }
    Ok(())
}

/// What a digit counts.
const fn value(character: u8) -> Option<u8> {
    const NONE: u8 = 0xff;
    const VALUES: [u8; 256] = {
        let mut values = [NONE; 256];
        let mut value = 0;
        while value < 32 {
            values[DIGITS[value as usize] as usize] = value;
            value += 1;
        }
        values
    };
    match VALUES[character as usize] {
        NONE => None,
        value => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_texts() {
        // SHA-256 of nothing, as `nix-hash` prints it.
        let empty = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        let bytes = decode(empty).unwrap();
        assert_eq!((bytes[0], bytes[31], bytes.len()), (0xe3, 0x55, 32));
        assert_eq!(encode(&bytes), empty);
        assert_eq!((encode(b""), decode("")), (String::new(), Ok(Vec::new())));
        assert_eq!(encode(&[0x1f]), "0z");
    }

    #[test]
    fn what_no_bytes_are_written_as_is_refused() {
        assert_eq!(decode("e0"), Err(Nix32Error::Digit { at: 0 }));
        assert_eq!(decode("0ü"), Err(Nix32Error::Length(3)));
        assert_eq!(decode("0Z"), Err(Nix32Error::Digit { at: 1 }));
        for len in [1, 3, 6, 9, 11] {
            assert_eq!(decode(&"0".repeat(len)), Err(Nix32Error::Length(len)));
        }
        assert_eq!(decode("80"), Err(Nix32Error::Padding));
        assert_eq!(decode("7z"), Ok(vec![0xff]));
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_another_writer_agrees(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let text = encode(&bytes);
            prop_assert_eq!(text.len(), encoded_len(bytes.len()));
            prop_assert_eq!(decode_array::<20>(&text).ok().map(Vec::from), Some(&bytes).filter(|bytes| bytes.len() == 20).cloned());
            // The other one does not take nothing.
            if !bytes.is_empty() {
                prop_assert_eq!(&text, &nix_base32::to_nix_base32(&bytes));
            }
            prop_assert_eq!(decode(&text), Ok(bytes));
        }

        #[test]
        fn one_text_for_the_same_bytes(text in "[0-9a-z]{0,60}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
