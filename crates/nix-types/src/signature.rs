//! Ed25519 keys and signatures in Nix' form, `name:` and base 64. The text of keys and signatures comes in; out go
//! signatures byte for byte as Nix makes them, and the answer whether one is good. What is signed of a store path is
//! its [`fingerprint`]. Makes no keys: `nix-store --generate-binary-cache-key` does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use crate::hash::Sha256;
use crate::store_path::StorePath;
use crate::text::shown;

/// Most bytes of a key's name.
pub const KEY_NAME_MAX: usize = 255;

/// Characters of 64 bytes in base 64, padding included.
const BASE64_LEN: usize = 88;
/// Characters of the 32 bytes of a public key.
const PUBLIC_BASE64_LEN: usize = 44;

/// What is signed of a store path: its name, the hash and size (bytes) of its NAR, and what it refers to, itself
/// included if it does. Neither its deriver nor its content address are.
#[must_use]
pub fn fingerprint(path: &StorePath, nar_hash: &Sha256, nar_size: u64, references: &[StorePath]) -> String {
    let mut sorted: Vec<&str> = references.iter().map(StorePath::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    format!("1;{path};{nar_hash};{nar_size};{}", sorted.join(","))
}

/// A key that signs. Cannot be printed or copied; its memory is overwritten when it is dropped.
pub struct SecretKey {
    name: String,
    /// In one place from the start: moving the value leaves no copy of it behind.
    key: Box<SigningKey>,
}

/// Why a text is no secret key. Never repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// No colon, or no name before it that can be one.
    #[error(
        "the secret key does not begin with a name and a colon; give the file `nix-store --generate-binary-cache-key` wrote first"
    )]
    Name,
    /// Not 64 bytes.
    #[error(
        "the secret key is not 64 bytes in base 64 behind its name; the file is damaged, or holds the public key"
    )]
    Bytes,
    /// Its second half is not the public key of its first.
    #[error("the two halves of the secret key do not belong together; the file is damaged")]
    Halves,
}

impl SecretKey {
    /// Reads `name:` and base 64, as a key file holds it; white space behind it is passed over. The text itself stays
    /// with the caller, who should overwrite it.
    ///
    /// # Errors
    /// [`SecretKeyError`]
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let (name, digits) = text.split_once(':').ok_or(SecretKeyError::Name)?;
        if !is_key_name(name) {
            return Err(SecretKeyError::Name);
        }
        let digits = digits.trim_end_matches([' ', '\t', '\r', '\n']);
        if digits.len() != BASE64_LEN {
            return Err(SecretKeyError::Bytes);
        }
        // The decoder asks for room for what padding stands for, too.
        let mut room = Zeroizing::new([0; BASE64_LEN / 4 * 3]);
        let len = STANDARD.decode_slice(digits, room.as_mut_slice()).map_err(|_| SecretKeyError::Bytes)?;
        let bytes: &[u8; 64] = room[..len].try_into().map_err(|_| SecretKeyError::Bytes)?;
        let key = SigningKey::from_keypair_bytes(bytes).map_err(|_| SecretKeyError::Halves)?;
        Ok(Self { name: name.to_owned(), key: Box::new(key) })
    }

    /// Its name, such as `cache.example.org-1`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures are checked with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a fingerprint. The same fingerprint gets the same signature every time.
    #[must_use]
    pub fn sign(&self, fingerprint: &str) -> Signature {
        Signature { name: self.name.clone(), bytes: self.key.sign(fingerprint.as_bytes()).to_bytes() }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, ***)", self.name)
    }
}

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// Why a text is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` is not a public key: it must be a name, a colon and 32 bytes in base 64, such as the file `nix-store --generate-binary-cache-key` wrote second"
)]
pub struct PublicKeyError {
    shown: String,
}

impl PublicKey {
    /// Reads `name:` and base 64; white space behind it is passed over.
    ///
    /// # Errors
    /// [`PublicKeyError`], also when the bytes are no point of the curve.
    pub fn parse(text: &str) -> Result<Self, PublicKeyError> {
        // Whoever gave the secret key's file by mistake does not want to read it in a log.
        let shown_name = || PublicKeyError { shown: shown(text.split(':').next().unwrap_or("").as_bytes()) };
        let (name, digits) = text.split_once(':').ok_or_else(shown_name)?;
        let digits = digits.trim_end_matches([' ', '\t', '\r', '\n']);
        if !is_key_name(name) || digits.len() != PUBLIC_BASE64_LEN {
            return Err(shown_name());
        }
        let bytes = STANDARD.decode(digits).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).ok_or_else(shown_name)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name it shares with its secret key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Did this key's other half, under this name, sign the fingerprint?
    #[must_use]
    pub fn verify(&self, fingerprint: &str, signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        self.name == signature.name && self.key.verify_strict(fingerprint.as_bytes(), &bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A signature, and the name of the key that made it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    name: String,
    bytes: [u8; 64],
}

/// Why a text is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a signature: it must be a key's name, a colon and 64 bytes in base 64")]
pub struct SignatureError {
    shown: String,
}

impl Signature {
    /// Reads `name:` and base 64.
    ///
    /// # Errors
    /// [`SignatureError`]
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let fail = || SignatureError { shown: shown(text.as_bytes()) };
        let (name, digits) = text.split_once(':').ok_or_else(fail)?;
        if !is_key_name(name) || digits.len() != BASE64_LEN {
            return Err(fail());
        }
        let bytes = STANDARD.decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self { name: name.to_owned(), bytes: bytes.ok_or_else(fail)? })
    }

    /// The name of the key that made it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The signature itself.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Signatures as Nix writes a set of them: in the order of their texts, each once.
pub(crate) fn sorted_texts(signatures: &[Signature]) -> Vec<String> {
    let mut texts: Vec<String> = signatures.iter().map(Signature::to_string).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Sorts as [`sorted_texts`] does.
pub(crate) fn sort(signatures: &mut Vec<Signature>) {
    signatures.sort_by_cached_key(Signature::to_string);
    signatures.dedup();
}

/// Lists of signatures are separated by spaces and lines, and what is read by people must not steer their terminal.
fn is_key_name(name: &str) -> bool {
    let allowed = |c: char| c != ':' && !c.is_whitespace() && hook_wire::is_printable(c);
    !name.is_empty() && name.len() <= KEY_NAME_MAX && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8032, 7.1, test 1: the seed, the public key, and the signature of the empty message.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    const SIGNED: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn key_text(name: &str) -> String {
        format!("{name}:{}", STANDARD.encode([bytes(SEED), bytes(PUBLIC)].concat()))
    }

    fn path(n: usize) -> StorePath {
        StorePath::parse_str(&format!("/nix/store/{n:032}-a")).unwrap()
    }

    #[test]
    fn a_published_signature_is_made_and_checked() {
        let key = SecretKey::parse(&(key_text("k-1") + "\n")).unwrap();
        let signature = key.sign("");
        assert_eq!(signature.bytes().as_slice(), bytes(SIGNED));
        assert_eq!((signature.name(), key.name()), ("k-1", "k-1"));
        assert_eq!(signature.to_string(), format!("k-1:{}", STANDARD.encode(bytes(SIGNED))));
        let public = key.public();
        assert_eq!(public.to_string(), format!("k-1:{}", STANDARD.encode(bytes(PUBLIC))));
        assert_eq!(PublicKey::parse(&public.to_string()).as_ref(), Ok(&public));
        assert!(public.verify("", &signature) && !public.verify("x", &signature));
        let other = SecretKey::parse(&key_text("k-2")).unwrap().sign("");
        assert!(!public.verify("", &other), "the name counts");
    }

    #[test]
    fn a_secret_key_is_not_shown() {
        let text = key_text("k-1");
        let key = SecretKey::parse(&text).unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(k-1, ***)");
        let error = PublicKey::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("`k-1` is not") && !error.contains(&text[10..30]), "{error}");
    }

    #[test]
    fn damaged_keys_say_how() {
        let text = key_text("k");
        let fault = |text: &str| SecretKey::parse(text).unwrap_err();
        assert_eq!(fault(""), SecretKeyError::Name);
        assert_eq!(fault(&text[2..]), SecretKeyError::Name);
        assert_eq!(fault(&key_text("")), SecretKeyError::Name);
        assert_eq!(fault(&key_text("a b")), SecretKeyError::Name);
        assert_eq!(fault(&key_text("\u{1b}")), SecretKeyError::Name);
        assert_eq!(fault(&key_text(&"k".repeat(256))), SecretKeyError::Name);
        assert_eq!(fault(&text[..text.len() - 4]), SecretKeyError::Bytes);
        assert_eq!(fault(&format!("k:{}", STANDARD.encode(bytes(PUBLIC)))), SecretKeyError::Bytes);
        assert_eq!(fault(&format!("k:{}", "!".repeat(88))), SecretKeyError::Bytes);
        assert_eq!(fault(&format!("k:{}", "A".repeat(88))), SecretKeyError::Bytes, "66 bytes");
        assert_eq!(fault(&format!("k:{}==", "A".repeat(86))), SecretKeyError::Halves);
        assert!(SecretKey::parse(&key_text("schlüssel")).is_ok());
    }

    #[test]
    fn texts_that_are_no_signature_or_public_key() {
        let signature = format!("k:{}", STANDARD.encode(bytes(SIGNED)));
        assert!(Signature::parse(&signature).is_ok());
        for bad in ["", "k", &signature[1..], &format!("{signature}\n"), &format!("\u{1b}{signature}")] {
            let error = Signature::parse(bad).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error}");
        }
        // Not on the curve: y = 2 has no x.
        let mut none = [0; 32];
        none[0] = 2;
        assert!(PublicKey::parse(&format!("k:{}", STANDARD.encode(none))).is_err());
    }

    #[test]
    fn the_fingerprint_is_the_documented_text() {
        let hash = Sha256::of(b"");
        let zero = "0".repeat(32);
        assert_eq!(
            fingerprint(&path(0), &hash, 5, &[]),
            format!("1;/nix/store/{zero}-a;{hash};5;"),
            "nothing behind the last semicolon"
        );
        let three = fingerprint(&path(1), &hash, u64::MAX, &[path(1), path(0), path(1)]);
        assert!(three.ends_with(&format!(";18446744073709551615;{},{}", path(0), path(1))), "{three}");
    }

    #[test]
    fn sets_of_signatures_are_sorted_by_their_texts() {
        let sign = |name: &str| SecretKey::parse(&key_text(name)).unwrap().sign("x");
        let mut three = vec![sign("a"), sign("a-b"), sign("a"), sign("B")];
        let texts = sorted_texts(&three);
        sort(&mut three);
        assert_eq!(three.iter().map(Signature::name).collect::<Vec<_>>(), ["B", "a-b", "a"]);
        assert_eq!(three.iter().map(Signature::to_string).collect::<Vec<_>>(), texts);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_key_reads_signs_and_verifies(seed in any::<[u8; 32]>(), text in ".{0,40}", flip in 0_usize..512) {
            let pair = SigningKey::from_bytes(&seed).to_keypair_bytes();
            let key = SecretKey::parse(&format!("n:{}", STANDARD.encode(pair))).unwrap();
            let signature = key.sign(&text);
            prop_assert_eq!(&Signature::parse(&signature.to_string()).unwrap(), &signature);
            prop_assert!(key.public().verify(&text, &signature));
            let mut bytes = signature.bytes;
            bytes[flip / 8] ^= 1 << (flip % 8);
            let flipped = Signature { name: "n".into(), bytes };
            prop_assert!(!key.public().verify(&text, &flipped));
        }
    }
}
