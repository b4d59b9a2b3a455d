//! The parameters of a cache's URL as types, with what they are when the URL does not say. Numbers and paths are
//! checked by whoever reads them (`known.rs`); this has no text.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// How a cache is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// `compression`: what archives are compressed with.
    pub compression: Codec,
    /// `compression-level`; `None` is the codec's usual one. One of [`Codec::levels`].
    pub compression_level: Option<i32>,
    /// `parallel-compression`: several threads for one archive; `None` lets the writer choose by size.
    pub parallel_compression: Option<bool>,
    /// `secret-key` and `secret-keys`: files of keys to sign with, absolute, in the order given, each once.
    pub secret_keys: Vec<PathBuf>,
    /// `write-nar-listing`: a `.ls` file beside each archive.
    pub write_nar_listing: bool,
    /// `index-debug-info`: a file in `debuginfo/` for each build id.
    pub index_debug_info: bool,
    /// `want-mass-query`: what a `nix-cache-info` that we write says.
    pub want_mass_query: Option<bool>,
    /// `priority`: likewise.
    pub priority: Option<u32>,
    /// `store`: the store whose paths it holds, without a slash at the end; `None` is the local one.
    pub store_dir: Option<String>,
    /// What concerns the way there; as by default for `file`.
    pub transport: Transport,
    /// What concerns the bucket's server; as by default for other kinds.
    pub s3: S3Params,
    /// Parameters that were given and mean nothing for writing.
    pub ignored: Vec<&'static str>,
}

/// What archives are compressed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// Zstandard, which is the default here: Nix' own, xz, takes about 70 times as long.
    #[default]
    Zstd,
    /// xz.
    Xz,
}

impl Codec {
    /// Its name in a URL and in a narinfo.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// What archives' names end in, behind `.nar`.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
        }
    }

    /// The levels it has; none for [`Codec::None`].
    #[must_use]
    #[expect(clippy::reversed_empty_ranges, reason = "an empty range is meant: there is no level to give")]
    pub const fn levels(self) -> RangeInclusive<i32> {
        match self {
            Self::None => 1..=0,
            Self::Zstd => 1..=22,
            Self::Xz => 0..=9,
        }
    }

    /// As the end of a sentence that begins with its name.
    pub(super) const fn levels_shown(self) -> &'static str {
        match self {
            Self::None => "has no levels; remove it",
            Self::Zstd => "has the levels 1 to 22, and -1 for its usual one",
            Self::Xz => "has the levels 0 to 9, and -1 for its usual one",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a small file is encoded on its way (`Content-Encoding`). Only what every reader undoes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    #[default]
    None,
    /// gzip.
    Gzip,
}

/// How to get to a cache that is not on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// `narinfo-compression`
    pub narinfo_compression: Encoding,
    /// `ls-compression`
    pub ls_compression: Encoding,
    /// `log-compression`
    pub log_compression: Encoding,
    /// `tls-certificate`: a PEM file that says who we are; absolute.
    pub tls_certificate: Option<PathBuf>,
    /// `tls-private-key`: its key; absolute. Without it the certificate's file holds the key as well.
    pub tls_private_key: Option<PathBuf>,
    /// How often and after what wait a request is repeated.
    pub retry: Retry,
}

/// How requests are repeated; `None` leaves it to the writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// `retry-attempts`: tries in all, 1 to 1000.
    pub attempts: Option<u32>,
    /// `retry-delay` (milliseconds in the URL): before the second try; at most a day, as all of these.
    pub delay: Option<Duration>,
    /// `retry-delay-rate-limited`: the same when the server asks for patience.
    pub delay_rate_limited: Option<Duration>,
    /// `retry-max-delay`: the longest wait.
    pub max_delay: Option<Duration>,
}

/// Where a bucket is and how it is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Params {
    /// `region`
    pub region: String,
    /// `endpoint`, with `scheme` in front where it has none: `https://host[:port][/path]`, the host in lower case, no
    /// usual port, no slash at the end, no login. `None` is AWS.
    pub endpoint: Option<String>,
    /// `scheme`, for AWS; the endpoint has its own.
    pub scheme: Scheme,
    /// `profile`: of the credential files; `None` is the process' own choice.
    pub profile: Option<String>,
    /// `addressing-style`
    pub addressing_style: AddressingStyle,
    /// `multipart-chunk-size` or `buffer-size`, in bytes: 5 MiB to 5 GiB, as S3 asks.
    pub multipart_chunk_bytes: Option<u64>,
    /// `storage-class`
    pub storage_class: Option<String>,
}

impl Default for S3Params {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            endpoint: None,
            scheme: Scheme::Https,
            profile: None,
            addressing_style: AddressingStyle::Auto,
            multipart_chunk_bytes: None,
            storage_class: None,
        }
    }
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// With TLS.
    #[default]
    Https,
}

impl Scheme {
    /// Its name in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Where a bucket's name stands in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressingStyle {
    /// In the host for AWS, in the path for an endpoint of one's own or a bucket with a dot.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host.
    Virtual,
}
