//! A store URL as somebody wrote it comes in; the same URL with a parameter more goes out. What is there already is
//! kept byte by byte. Which parameters a kind of store knows is Nix' own business, with one exception: Nix takes one
//! of two equal parameters without a word, so a second one is refused here.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest URL, in bytes.
pub const URL_MAX: usize = 8192;

/// The URL of a store that Nix knows how to open.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

/// What kind of store a URL names, as far as it matters for calling Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `file`, `http`, `https`, `s3`: narinfo and NAR files, which can be signed on the way.
    BinaryCache,
    /// `ssh`, `ssh-ng`: another machine's Nix.
    Ssh,
    /// Anything else Nix may know.
    Other,
}

/// Why a text is no store URL, or a parameter cannot be added to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Empty, too long, or with characters a URL cannot have.
    #[error(
        "`{0}` is not a store URL: it must have 1 to {URL_MAX} printable ASCII characters and no space (write %20), and not begin with a dash"
    )]
    Form(String),
    /// The parameter is there already.
    #[error("the store URL {url} has the parameter {parameter} already; give the key in one place only")]
    Twice {
        /// The URL, without credentials.
        url: StoreUrl,
        /// The parameter.
        parameter: &'static str,
    },
    /// The parameter means nothing for this kind of store.
    #[error("the store URL {url} is of a kind that does not take {parameter}; Nix would ignore it")]
    NotForThisKind {
        /// The URL, without credentials.
        url: StoreUrl,
        /// The parameter.
        parameter: &'static str,
    },
}

impl StoreUrl {
    /// Reads a store URL.
    ///
    /// # Errors
    /// [`UrlError::Form`]
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > URL_MAX || !printable || text.starts_with('-') {
            let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
            return Err(UrlError::Form(shown));
        }
        Ok(Self(text.to_owned()))
    }

    /// As Nix is to see it. May hold credentials: print the URL itself instead.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of store it names.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.0.split_once("://").map(|(scheme, _)| scheme) {
            Some("file" | "http" | "https" | "s3") => Kind::BinaryCache,
            Some("ssh" | "ssh-ng") => Kind::Ssh,
            Some(_) | None => Kind::Other,
        }
    }

    /// The same store, with what is sent there signed by the key in this file.
    ///
    /// # Errors
    /// [`UrlError`] when the URL names a key already, or the store is no binary cache.
    pub fn with_secret_key(&self, file: &Path) -> Result<Self, UrlError> {
        self.with("secret-key", &["secret-key", "secret-keys"], Kind::BinaryCache, file.as_os_str())
    }

    /// The same machine, logged in to with the ssh key in this file.
    ///
    /// # Errors
    /// [`UrlError`] when the URL names a key already, or the store is not reached by ssh.
    pub fn with_ssh_key(&self, file: &Path) -> Result<Self, UrlError> {
        self.with("ssh-key", &["ssh-key"], Kind::Ssh, file.as_os_str())
    }

    fn with(
        &self,
        parameter: &'static str,
        same: &[&str],
        kind: Kind,
        value: &OsStr,
    ) -> Result<Self, UrlError> {
        if self.kind() != kind {
            return Err(UrlError::NotForThisKind { url: self.clone(), parameter });
        }
        let query = self.0.split_once('?').map(|(_, query)| query);
        let has = |pair: &str| {
            let name = pair.split('=').next().unwrap_or(pair);
            same.iter().any(|known| decoded(name) == known.as_bytes())
        };
        if query.is_some_and(|query| query.split('&').any(has)) {
            return Err(UrlError::Twice { url: self.clone(), parameter });
        }
        let joint = match query {
            None => "?",
            Some(query) if query.is_empty() || query.ends_with('&') => "",
            Some(_) => "&",
        };
        Ok(Self(format!("{}{joint}{parameter}={}", self.0, encoded(value.as_bytes()))))
    }
}

/// Without the user and password it may hold.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        match rest[..end].rfind('@') {
            Some(at) if rest[..at].contains(':') => write!(f, "{scheme}://***{}", &rest[at..]),
            Some(_) | None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Percent-encodes everything but letters, digits and `-._~/`.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Undoes percent-encoding, so that `secret%2Dkey` is seen for what it is.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = (*byte == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                plain.push(value);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(url: &str, key: &str) -> String {
        StoreUrl::parse(url).unwrap().with_secret_key(Path::new(key)).unwrap().as_str().to_owned()
    }

    #[test]
    fn a_key_joins_the_parameters_there_are() {
        assert_eq!(signed("file:///c", "/k"), "file:///c?secret-key=/k");
        assert_eq!(signed("s3://b?region=x&p=a%20b", "/k"), "s3://b?region=x&p=a%20b&secret-key=/k");
        assert_eq!(signed("http://h/?", "/k"), "http://h/?secret-key=/k");
        assert_eq!(signed("http://h/?a=b&", "/k"), "http://h/?a=b&secret-key=/k");
        assert_eq!(
            signed("file:///c", "/a b&c+d?e#f%g=ü"),
            "file:///c?secret-key=/a%20b%26c%2Bd%3Fe%23f%25g%3D%C3%BC"
        );
    }

    #[test]
    fn a_second_key_is_refused() {
        for url in [
            "file:///c?secret-key=/k",
            "file:///c?a=b&secret-key=/k",
            "file:///c?secret%2Dkey=/k",
            "file:///c?secret-keys=/a,/b",
            "file:///c?secret-key",
        ] {
            let error = StoreUrl::parse(url).unwrap().with_secret_key(Path::new("/k")).unwrap_err();
            assert!(matches!(error, UrlError::Twice { .. }), "{url}: {error}");
        }
        assert!(StoreUrl::parse("file:///secret-key=/c").unwrap().with_secret_key(Path::new("/k")).is_ok());
    }

    #[test]
    fn a_key_goes_only_where_it_means_something() {
        let ssh = StoreUrl::parse("ssh-ng://h").unwrap();
        assert!(matches!(ssh.with_secret_key(Path::new("/k")), Err(UrlError::NotForThisKind { .. })));
        assert_eq!(ssh.with_ssh_key(Path::new("/i d")).unwrap().as_str(), "ssh-ng://h?ssh-key=/i%20d");
        let file = StoreUrl::parse("file:///c").unwrap();
        assert!(matches!(file.with_ssh_key(Path::new("/k")), Err(UrlError::NotForThisKind { .. })));
        assert_eq!(StoreUrl::parse("daemon").unwrap().kind(), Kind::Other);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in ["", "--to", "a b", "file:///ü", "file:///\n", &"a".repeat(10_000)] {
            assert!(matches!(StoreUrl::parse(bad), Err(UrlError::Form(_))), "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = StoreUrl::parse("https://me:pass@host/cache?a=b").unwrap();
        assert_eq!(url.to_string(), "https://***@host/cache?a=b");
        assert!(!format!("{url:?}").contains("pass"));
        assert_eq!(StoreUrl::parse("ssh://me@host").unwrap().to_string(), "ssh://me@host");
    }

    proptest! {
        #[test]
        fn encoding_is_undone(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decoded(&encoded(&bytes)), bytes);
        }
    }
}
