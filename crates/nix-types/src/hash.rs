//! SHA-256 in the forms Nix writes it: text in any of them comes in, 32 bytes come out, and go out again in base 16 or
//! Nix' base 32. Other algorithms are refused: no file this is for (narinfo, realisations, the store database) may have
//! one. Comparing is not constant in time; these hashes are public.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::Digest as _;

use crate::nix32::{self, Nix32Error};
use crate::text::shown;

/// Characters in base 16.
const HEX_LEN: usize = 64;
/// Characters in Nix' base 32.
const NIX32_LEN: usize = nix32::encoded_len(32);
/// Characters in base 64, padding included.
const BASE64_LEN: usize = 44;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// Why a text is no SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Another algorithm, another length, or none of the forms.
    #[error(
        "`{shown}` is not a SHA-256: it must be `sha256:` and 64 digits in base 16, 52 in Nix' base 32 or 44 in base 64, or `sha256-` and base 64"
    )]
    Form {
        /// The start of the text, escaped.
        shown: String,
    },
    /// It has the length of base 32, but is not.
    #[error("`{shown}` is not a SHA-256 in Nix' base 32")]
    Nix32 {
        /// The text, escaped.
        shown: String,
        /// Why.
        #[source]
        fault: Nix32Error,
    },
}

impl Sha256 {
    /// Reads `sha256:` and base 16, 32 or 64, or `sha256-` and base 64.
    ///
    /// # Errors
    /// [`HashError`]
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let form = || HashError::Form { shown: shown(text.as_bytes()) };
        let bytes = match (text.strip_prefix("sha256:"), text.strip_prefix("sha256-")) {
            (Some(digits), _) if digits.len() == HEX_LEN => from_hex(digits),
            (Some(digits), _) if digits.len() == NIX32_LEN => Some(
                nix32::decode(digits)
                    .map_err(|fault| HashError::Nix32 { shown: shown(text.as_bytes()), fault })?,
            ),
            (Some(digits), _) | (None, Some(digits)) if digits.len() == BASE64_LEN => {
                STANDARD.decode(digits).ok()
            }
            (Some(_) | None, _) => None,
        };
        let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(form)
    }

    /// The SHA-256 of `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(sha2::Sha256::digest(content).into())
    }

    /// A hash that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case digits in base 16, without prefix.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// 52 digits in Nix' base 32, without prefix.
    #[must_use]
    pub fn nix32(&self) -> String {
        nix32::encode(&self.0)
    }
}

/// Digits in base 16, of either case.
fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    digits.as_bytes().chunks_exact(2).map(byte).collect()
}

/// `sha256:` and Nix' base 32, as narinfo and fingerprints have it.
impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.nix32())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of nothing, as `nix hash` prints it in each form.
    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const NIX32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    const SRI: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn every_form_is_the_same_hash() {
        let hash = Sha256::of(b"");
        for text in [
            format!("sha256:{HEX}"),
            format!("sha256:{}", HEX.to_uppercase()),
            format!("sha256:{NIX32}"),
            format!("sha256:{SRI}"),
            format!("sha256-{SRI}"),
        ] {
            assert_eq!(Sha256::parse(&text), Ok(hash), "{text}");
        }
        assert_eq!((hash.hex().as_str(), hash.nix32().as_str()), (HEX, NIX32));
        assert_eq!(hash.to_string(), format!("sha256:{NIX32}"));
        assert_eq!(Sha256::from_bytes(*hash.bytes()), hash);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "sha256:",
            HEX,
            &format!("sha256-{HEX}"),
            &format!("sha256-{NIX32}"),
            &format!("sha512:{HEX}"),
            &format!("sha256: {}", &HEX[1..]),
            &format!("sha256:{}+", &HEX[1..]),
            &format!("sha256:{}g", &HEX[1..]),
            &format!("sha256-{}", SRI.replace("U=", "V=")),
            &format!("sha256-{}ü", &SRI[2..]),
        ] {
            assert!(matches!(Sha256::parse(bad), Err(HashError::Form { .. })), "{bad}");
        }
        let damaged = Sha256::parse(&format!("sha256:{}", NIX32.replacen('0', "2", 1))).unwrap_err();
        assert!(matches!(damaged, HashError::Nix32 { fault: Nix32Error::Padding, .. }), "{damaged}");
        let long = Sha256::parse(&"\u{1b}".repeat(100_000)).unwrap_err().to_string();
        assert!(long.len() < 2000 && !long.contains('\u{1b}'), "{long}");
    }

    proptest! {
        #[test]
        fn hashes_come_back(bytes in any::<[u8; 32]>()) {
            let hash = Sha256::from_bytes(bytes);
            prop_assert_eq!(Sha256::parse(&hash.to_string()), Ok(hash));
            prop_assert_eq!(Sha256::parse(&format!("sha256:{}", hash.hex())), Ok(hash));
            prop_assert_eq!(Sha256::parse(&format!("sha256-{}", STANDARD.encode(bytes))), Ok(hash));
        }
    }
}
