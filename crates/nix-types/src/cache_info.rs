//! The file `nix-cache-info`, which says what a cache is for: its text comes in, its three known lines come out, and the
//! other way round. Lines it does not know are passed over, as Nix does.

use crate::text::{is_word, shown};

/// The file's name in a cache.
pub const CACHE_INFO: &str = "nix-cache-info";
/// Most bytes of the file.
pub const CACHE_INFO_BYTES_MAX: usize = 64 << 10;

/// What a cache says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// The store whose paths it holds, without a slash at the end; `None` when it does not say.
    pub store_dir: Option<String>,
    /// May Nix ask it for many paths at once?
    pub want_mass_query: Option<bool>,
    /// Caches with a lower number are asked first.
    pub priority: Option<u32>,
}

/// Why a text is no `nix-cache-info`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// More than [`CACHE_INFO_BYTES_MAX`].
    #[error(
        "nix-cache-info has {0} bytes, more than {CACHE_INFO_BYTES_MAX}; something else answers at this URL"
    )]
    TooLarge(usize),
    /// No known line at all: a page of some web server, say.
    #[error(
        "nix-cache-info has none of its lines (StoreDir, WantMassQuery, Priority); something else answers at this URL"
    )]
    Foreign,
    /// A known line is there twice.
    #[error("nix-cache-info has the line {0} twice")]
    Twice(&'static str),
    /// A known line with a value it cannot have.
    #[error("nix-cache-info has `{key}: {value}`, which must be {wanted}")]
    Value {
        /// The line.
        key: &'static str,
        /// Its value, escaped.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl CacheInfo {
    /// Reads the file.
    ///
    /// # Errors
    /// [`CacheInfoError`]
    pub fn parse(text: &str) -> Result<Self, CacheInfoError> {
        if text.len() > CACHE_INFO_BYTES_MAX {
            return Err(CacheInfoError::TooLarge(text.len()));
        }
        let mut info = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim_matches([' ', '\t', '\r']);
            let fail = |key, wanted| CacheInfoError::Value { key, value: shown(value.as_bytes()), wanted };
            match key {
                "StoreDir" => {
                    let folder = value.trim_end_matches('/');
                    if !is_word(folder) || !folder.starts_with('/') {
                        return Err(fail("StoreDir", "an absolute path"));
                    }
                    once("StoreDir", &mut info.store_dir, folder.to_owned())?;
                }
                "WantMassQuery" => {
                    let wants = match value {
                        "0" => false,
                        "1" => true,
                        _ => return Err(fail("WantMassQuery", "0 or 1")),
                    };
                    once("WantMassQuery", &mut info.want_mass_query, wants)?;
                }
                "Priority" => {
                    let number = value.parse().map_err(|_| fail("Priority", "a number"))?;
                    once("Priority", &mut info.priority, number)?;
                }
                _ => {} // what a newer Nix or another server writes
            }
        }
        if info == Self::default() { Err(CacheInfoError::Foreign) } else { Ok(info) }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                text.push_str(&format!("{key}: {value}\n"));
            }
        };
        line("StoreDir", self.store_dir.clone());
        line("WantMassQuery", self.want_mass_query.map(|wants| u8::from(wants).to_string()));
        line("Priority", self.priority.map(|number| number.to_string()));
        text
    }
}

fn once<T>(key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), CacheInfoError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(CacheInfoError::Twice(key)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_caches_say() {
        let read = |text| CacheInfo::parse(text).unwrap();
        assert_eq!(read("StoreDir: /nix/store\n").store_dir.as_deref(), Some("/nix/store"));
        let full = read("StoreDir: /nix/store/\r\nWantMassQuery: 1\nPriority:40\nMood: good\njust text");
        assert_eq!(
            full,
            CacheInfo {
                store_dir: Some("/nix/store".into()),
                want_mass_query: Some(true),
                priority: Some(40)
            }
        );
        assert_eq!(full.to_text(), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
        assert_eq!(read("Priority: 0\n").store_dir, None);
    }

    #[test]
    fn what_is_none() {
        let fault = |text: &str| CacheInfo::parse(text).unwrap_err();
        assert_eq!(fault(""), CacheInfoError::Foreign);
        assert_eq!(fault("<html>\n<a href=\"http://x\">no</a>"), CacheInfoError::Foreign);
        assert_eq!(fault("Priority: 1\nPriority: 1\n"), CacheInfoError::Twice("Priority"));
        for bad in [
            "StoreDir: nix\n",
            "StoreDir:\n",
            "StoreDir: /\n",
            "StoreDir: /a\u{1b}b",
            "WantMassQuery: yes",
            "Priority: -1",
        ] {
            let error = fault(bad);
            assert!(matches!(error, CacheInfoError::Value { .. }), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
        assert_eq!(fault(&"a".repeat(70_000)), CacheInfoError::TooLarge(70_000));
    }

    proptest! {
        #[test]
        fn it_comes_back(store in "/[a-z/]{0,20}[a-z]", mass in any::<Option<bool>>(), priority in any::<Option<u32>>()) {
            let info = CacheInfo { store_dir: Some(store), want_mass_query: mass, priority };
            prop_assert_eq!(CacheInfo::parse(&info.to_text()), Ok(info));
        }
    }
}
