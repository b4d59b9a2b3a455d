//! The text of a system (`x86_64-linux`, `builtin`) comes in from an evaluator, a `.drv` file or a configuration; a
//! [`System`] comes out. Whether somebody can build for it is not asked here.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest system that is taken, in bytes.
pub const SYSTEM_BYTES_MAX: usize = 64;

/// The platform a derivation is built on. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct System(Arc<str>);

/// Text that is no system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no system: 1 to {SYSTEM_BYTES_MAX} letters, digits, `_`, `-` and `.`, as in x86_64-linux, are expected"
)]
pub struct NotASystem {
    /// The text, or its beginning.
    pub text: String,
}

impl System {
    /// The system that Nix gives its built-in fetchers.
    #[must_use]
    pub fn builtin() -> Self {
        Self("builtin".into())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for System {
    type Err = NotASystem;

    fn from_str(text: &str) -> Result<Self, NotASystem> {
        let is_good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
        if text.is_empty()
            || text.len() > SYSTEM_BYTES_MAX
            || text.starts_with('-')
            || !text.bytes().all(is_good)
        {
            return Err(NotASystem { text: text.chars().take(SYSTEM_BYTES_MAX).collect() });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for System {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_an_option_or_a_path_is_refused() {
        for good in ["x86_64-linux", "builtin", "armv7l-hf.multiplatform"] {
            assert_eq!(good.parse::<System>().unwrap().as_str(), good);
        }
        for bad in ["", "-linux", "--option", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(bad.parse::<System>().is_err(), "{bad:?}");
        }
    }
}
