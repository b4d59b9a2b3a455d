//! Bytes come in, a store path comes out, or a sentence naming what is wrong with them. The rules of the form live in
//! `hook_wire::shape`, so that the hook client and the daemon agree; whether the path belongs to the local store and
//! is valid there is for whoever holds the store.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use hook_wire::shape::{self, HASH_LEN, PathFault};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::shown;

/// An absolute path of the form `<store folder>/<32 characters>-<name>`. Cloning copies a pointer; paths compare,
/// sort and hash as their text.
#[derive(Clone)]
pub struct StorePath {
    text: Arc<str>,
    /// Bytes of the store's folder, without the slash behind it.
    dir_len: u16,
}

/// A text that is no store path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a store path")]
pub struct StorePathError {
    shown: String,
    #[source]
    fault: PathFault,
}

impl StorePathError {
    /// What is wrong with the text.
    #[must_use]
    pub fn fault(&self) -> PathFault {
        self.fault
    }
}

impl StorePath {
    /// Reads a store path.
    ///
    /// # Errors
    /// [`StorePathError`] shows the start of the text (escaped) and what is wrong with its form.
    pub fn parse(bytes: &[u8]) -> Result<Self, StorePathError> {
        let fail = |fault| StorePathError { shown: shown(bytes), fault };
        let parts = shape::check(bytes).map_err(fail)?;
        let dir_len = u16::try_from(parts.store_dir.len()).map_err(|_| fail(PathFault::TooLong))?;
        let text = std::str::from_utf8(bytes).map_err(|_| fail(PathFault::Unprintable))?;
        Ok(Self { text: Arc::from(text), dir_len })
    }

    /// Whether [`StorePath::parse`] would take these bytes; copies nothing.
    ///
    /// # Errors
    /// As [`StorePath::parse`].
    pub fn check(bytes: &[u8]) -> Result<(), StorePathError> {
        let fail = |fault| StorePathError { shown: shown(bytes), fault };
        let parts = shape::check(bytes).map_err(fail)?;
        u16::try_from(parts.store_dir.len()).map(drop).map_err(|_| fail(PathFault::TooLong))
    }

    /// [`StorePath::parse`] for text.
    ///
    /// # Errors
    /// As [`StorePath::parse`].
    pub fn parse_str(text: &str) -> Result<Self, StorePathError> {
        Self::parse(text.as_bytes())
    }

    /// The path with this last component in a store's folder (no slash at its end).
    ///
    /// # Errors
    /// As [`StorePath::parse`]; a component with a slash in it has not the form of one.
    pub fn in_store(store_dir: &str, base_name: &str) -> Result<Self, StorePathError> {
        if base_name.contains('/') {
            return Err(StorePathError { shown: shown(base_name.as_bytes()), fault: PathFault::Form });
        }
        Self::parse_str(&format!("{store_dir}/{base_name}"))
    }

    /// The whole path: `/nix/store/<hash>-<name>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The store's folder, without a slash at the end: `/nix/store`.
    #[must_use]
    pub fn store_dir(&self) -> &str {
        &self.text[..usize::from(self.dir_len)]
    }

    /// The last component: `<hash>-<name>`.
    #[must_use]
    pub fn base_name(&self) -> &str {
        &self.text[usize::from(self.dir_len) + 1..]
    }

    /// The 32 characters of the hash.
    #[must_use]
    pub fn hash_part(&self) -> &str {
        &self.base_name()[..HASH_LEN]
    }

    /// What follows the hash and its dash: `hello-2.12`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.base_name()[HASH_LEN + 1..]
    }

    /// Is this the path of a derivation file?
    #[must_use]
    pub fn is_drv(&self) -> bool {
        self.text.ends_with(".drv")
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;
    fn from_str(text: &str) -> Result<Self, StorePathError> {
        Self::parse_str(text)
    }
}

impl PartialEq for StorePath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for StorePath {}
impl Hash for StorePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}
impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}
impl AsRef<str> for StorePath {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// A [`StorePath`] whose name ends in `.drv`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrvPath(StorePath);

/// A text that is no derivation's path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADrv {
    /// It is no store path either.
    #[error(transparent)]
    Path(#[from] StorePathError),
    /// It is a store path of something else.
    #[error("`{0}` is not a derivation; give a store path whose name ends in .drv")]
    OtherName(StorePath),
}

impl DrvPath {
    /// Reads a derivation's path.
    ///
    /// # Errors
    /// [`NotADrv`] when it is no store path, or its name does not end in `.drv`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotADrv> {
        Self::try_from(StorePath::parse(bytes)?)
    }

    /// Whether [`DrvPath::parse`] would take these bytes; copies nothing when it would.
    ///
    /// # Errors
    /// As [`DrvPath::parse`].
    pub fn check(bytes: &[u8]) -> Result<(), NotADrv> {
        StorePath::check(bytes)?;
        if bytes.ends_with(b".drv") { Ok(()) } else { Self::parse(bytes).map(drop) }
    }

    /// [`DrvPath::parse`] for text.
    ///
    /// # Errors
    /// As [`DrvPath::parse`].
    pub fn parse_str(text: &str) -> Result<Self, NotADrv> {
        Self::parse(text.as_bytes())
    }

    /// The derivation as the store path it is.
    #[must_use]
    pub fn store_path(&self) -> &StorePath {
        &self.0
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The derivation's own name, without `.drv`: `hello-2.12`.
    #[must_use]
    pub fn drv_name(&self) -> &str {
        let name = self.0.name();
        &name[..name.len() - ".drv".len()]
    }
}

impl Serialize for StorePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for StorePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for DrvPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for DrvPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl TryFrom<StorePath> for DrvPath {
    type Error = NotADrv;
    fn try_from(path: StorePath) -> Result<Self, NotADrv> {
        if path.is_drv() { Ok(Self(path)) } else { Err(NotADrv::OtherName(path)) }
    }
}
impl From<DrvPath> for StorePath {
    fn from(drv: DrvPath) -> Self {
        drv.0
    }
}
impl FromStr for DrvPath {
    type Err = NotADrv;
    fn from_str(text: &str) -> Result<Self, NotADrv> {
        Self::parse_str(text)
    }
}
impl fmt::Display for DrvPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl fmt::Debug for DrvPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    const HELLO: &str = "/nix/store/00000000000000000000000000000000-hello-2.12";

    #[test]
    fn a_path_is_taken_apart() {
        let path = StorePath::parse_str(HELLO).unwrap();
        assert_eq!(path.store_dir(), "/nix/store");
        assert_eq!(path.base_name(), "00000000000000000000000000000000-hello-2.12");
        assert_eq!(path.hash_part(), "00000000000000000000000000000000");
        assert_eq!(path.name(), "hello-2.12");
        assert_eq!(path.to_string(), HELLO);
        assert!(!path.is_drv());
    }

    #[test]
    fn a_private_store_may_lie_anywhere() {
        let path = StorePath::parse_str("/srv/x/y/00000000000000000000000000000000-a.drv").unwrap();
        assert_eq!(path.store_dir(), "/srv/x/y");
        assert!(path.is_drv());
        let drv = DrvPath::try_from(path.clone()).unwrap();
        assert_eq!(drv.drv_name(), "a");
        assert_eq!(StorePath::from(drv), path);
    }

    #[test]
    fn a_path_by_its_last_component() {
        let base = "00000000000000000000000000000000-hello-2.12";
        assert_eq!(StorePath::in_store("/nix/store", base), StorePath::parse_str(HELLO));
        for bad in ["", "hello", &format!("x/{base}"), &format!("/nix/store/{base}"), &format!("../{base}")] {
            assert!(StorePath::in_store("/nix/store", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_path_is_shown_escaped_and_cut() {
        let error = StorePath::parse(b"/nix/store/\x1b[31m\n").unwrap_err();
        assert_eq!(error.fault(), PathFault::Unprintable);
        assert!(error.to_string().contains("\\u{1b}[31m\\n"), "{error}");
        assert!(error.source().unwrap().to_string().contains("give one path"));
        let long = StorePath::parse(&vec![b'a'; 10_000]).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
        assert!(StorePath::parse(b"\xff/nix/store").unwrap_err().to_string().contains('\u{fffd}'));
    }

    #[test]
    fn only_a_drv_is_a_drv() {
        let error = DrvPath::parse_str(HELLO).unwrap_err();
        assert!(error.to_string().contains("ends in .drv"), "{error}");
        assert!(matches!(DrvPath::parse_str("hello.drv"), Err(NotADrv::Path(_))));
    }

    #[test]
    fn order_and_equality_are_those_of_the_text() {
        let one = StorePath::parse_str(HELLO).unwrap();
        let two = StorePath::parse_str("/nix/store/00000000000000000000000000000001-a").unwrap();
        assert!(one < two);
        assert_eq!(one, one.clone());
    }
}
