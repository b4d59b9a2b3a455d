//! Where a binary cache is and how to write it, as one URL in Nix' spelling: `s3://bucket?region=eu-central-1`. The text
//! comes in; a typed place and typed parameters come out, or what is wrong with it and what to write instead. Every
//! parameter is one that Nix knows, is there once, and has a value of its kind. Opens nothing and reads no file it
//! names; other kinds of store (`ssh`, `daemon`) are for Nix itself.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

mod address;
mod error;
mod known;
mod params;
pub(crate) mod percent;
mod value;

pub use error::CacheUrlError;
pub use params::{AddressingStyle, Codec, Encoding, Params, Retry, S3Params, Scheme, Transport};

/// Longest URL, in bytes.
pub const URL_MAX: usize = 8192;

/// The URL of a binary cache. Printing it shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheUrl {
    /// Where it is.
    pub place: Place,
    /// How it is written.
    pub params: Params,
    /// As it was given, without its login.
    shown: String,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    File {
        /// An absolute path with no `.` or `..` in it, and no slash at the end.
        root: PathBuf,
    },
    /// Files of a web server.
    Http {
        /// `http` or `https`, the host in lower case, the port unless it is the usual one, and a path without a slash
        /// at the end: `https://cache.example.org/main`. Never has a login.
        base: String,
        /// What the URL says to log in with.
        login: Option<Login>,
    },
    /// Objects of a bucket; [`S3Params`] says on which server.
    S3 {
        /// Its name.
        bucket: String,
        /// The folder in it that all keys are below, without a slash at either end; empty for the whole bucket.
        prefix: String,
    },
}

/// Which kind a place is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `file://`
    File,
    /// `http://` and `https://`
    Http,
    /// `s3://`
    S3,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Http => "http",
            Self::S3 => "s3",
        })
    }
}

/// A user and, perhaps, a password. Cannot be printed; the password is overwritten in memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: Option<Zeroizing<String>>,
}

impl Login {
    /// Who; may be empty where a password alone is asked for.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(|password| password.as_str())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(***)")
    }
}

impl CacheUrl {
    /// Reads the URL of a cache.
    ///
    /// # Errors
    /// [`CacheUrlError`]; none of them shows a login. [`CacheUrlError::Scheme`] says that it may be the URL of another
    /// kind of store.
    pub fn parse(text: &str) -> Result<Self, CacheUrlError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > URL_MAX || !printable {
            return Err(CacheUrlError::Form { shown: address::shown(text) });
        }
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "file" | "http" | "https" | "s3"))
            .ok_or_else(|| CacheUrlError::Scheme { shown: address::shown(text) })?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let fail = |why| CacheUrlError::Address { shown: address::shown(text), why };
        if text.contains('#') {
            return Err(fail("a URL of a cache has no `#`; write %23 where a name has one"));
        }
        let place = address::place(scheme, rest).map_err(fail)?;
        let params = known::read(query.unwrap_or(""), place.kind())?;
        let shown = match &place {
            Place::Http { login: Some(_), .. } => {
                let host = rest.split_once('@').map_or(rest, |(_, host)| host);
                let query = query.map(|query| format!("?{query}"));
                format!("{scheme}://***@{host}{}", query.unwrap_or_default())
            }
            Place::Http { login: None, .. } | Place::File { .. } | Place::S3 { .. } => text.to_owned(),
        };
        Self { place, params, shown }.checked()
    }

    /// What makes two URLs the same destination, however they are written: kind, server, bucket or path, and region.
    /// Leaves out the login and everything about how to write. One line of printable ASCII.
    #[must_use]
    pub fn identity(&self) -> String {
        match &self.place {
            Place::File { root } => format!("file://{}", percent::encode(root.as_os_str().as_bytes())),
            Place::Http { base, login: _ } => base.clone(),
            Place::S3 { bucket, prefix } => {
                let s3 = &self.params.s3;
                let endpoint = s3.endpoint.as_ref().map(|endpoint| format!("endpoint={endpoint}&"));
                let slash = if prefix.is_empty() { "" } else { "/" };
                let prefix = percent::encode(prefix.as_bytes());
                format!("s3://{bucket}{slash}{prefix}?{}region={}", endpoint.unwrap_or_default(), s3.region)
            }
        }
    }

    /// What no parameter alone can say.
    fn checked(self) -> Result<Self, CacheUrlError> {
        let (params, s3) = (&self.params, &self.params.s3);
        let together = |what| Err(CacheUrlError::Together { what });
        if let Some(level) = params.compression_level
            && !params.compression.levels().contains(&level)
        {
            return Err(CacheUrlError::Level { codec: params.compression, level });
        }
        if params.transport.tls_private_key.is_some() && params.transport.tls_certificate.is_none() {
            return together("tls-private-key needs tls-certificate; give both");
        }
        if let Place::S3 { bucket, .. } = &self.place
            && s3.addressing_style == AddressingStyle::Virtual
            && bucket.contains('.')
        {
            return together(
                "addressing-style=virtual puts the bucket's name into the host's, where a dot breaks TLS; give path or auto",
            );
        }
        Ok(self)
    }
}

impl Place {
    /// Which kind it is of.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Http { .. } => Kind::Http,
            Self::S3 { .. } => Kind::S3,
        }
    }
}

/// As it was given, without its login.
impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheUrl({self})")
    }
}

/// Bytes as a path.
fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests;
