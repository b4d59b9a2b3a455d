//! The one door that builds HTTP clients. In: time-outs, certificates, a name to give. Out: a `reqwest::Client` over
//! rustls and ring, with bounded redirects. Leaves out what is said through it: addresses, credentials, retries, and
//! how long an answer may take.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Identity};

/// Most redirects that are followed for one request.
pub const REDIRECTS_MAX: usize = 5;
/// Largest file of certificates or keys, in bytes.
pub const PEM_MAX: u64 = 4 << 20;
/// How long a connection without work is kept.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often the kernel asks whether a silent peer is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What a client is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The longest wait for a connection, names and TLS included.
    pub connect_timeout: Duration,
    /// How the program names itself to servers: `PROGRAM/VERSION`.
    pub user_agent: String,
    /// Whom to trust.
    pub roots: Roots,
    /// Who we are, where a server asks for a client certificate.
    pub identity: Option<IdentityFiles>,
    /// Whether redirects are followed, [`REDIRECTS_MAX`] at most and never from `https` to `http`. Credentials in
    /// `Authorization` do not follow to another host, port or scheme.
    pub redirects: bool,
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured.
    pub proxies: bool,
}

/// Whom a client trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The machine's certificate authorities; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others, and what
    /// `NIX_SSL_CERT_FILE` holds comes on top.
    System,
    /// Those in this PEM file alone.
    File(PathBuf),
    /// Nobody: for clients that speak to `http://` alone, which then need no certificates on the machine.
    Nobody,
}

/// A client certificate with its chain, and its key, both PEM. They may be one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, then those that vouch for it.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file cannot be read, or is too large.
    #[error("read {}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds no certificate, or not the key that belongs to it.
    #[error("take certificates from {}", .file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// The TLS stack does not start, mostly for want of any certificate authority: install `ca-certificates`, or name
    /// a file in `SSL_CERT_FILE`.
    #[error(
        "start an HTTP client (certificate authorities come from SSL_CERT_FILE or the system's ca-certificates)"
    )]
    Build {
        /// Why.
        source: reqwest::Error,
    },
}

/// Builds a client. It reads the certificate files now: one that changed needs a new client.
///
/// # Errors
/// [`HttpError`]
pub fn client(options: &Options) -> Result<Client, HttpError> {
    install_provider();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    let mut builder = Client::builder()
        .connect_timeout(options.connect_timeout)
        .user_agent(&options.user_agent)
        .pool_idle_timeout(IDLE_MAX)
        .tcp_keepalive(KEEPALIVE)
        .redirect(if options.redirects { Policy::custom(follow) } else { Policy::none() })
        .referer(false);
    if !options.proxies {
        builder = builder.no_proxy();
    }
    builder = match &options.roots {
        Roots::System => match std::env::var_os("NIX_SSL_CERT_FILE").filter(|file| !file.is_empty()) {
            Some(file) => builder.tls_certs_merge(certificates(Path::new(&file))?),
            None => builder,
        },
        Roots::File(file) => builder.tls_certs_only(certificates(file)?),
        Roots::Nobody => builder.tls_certs_only([]),
    };
    if let Some(files) = &options.identity {
        builder = builder.identity(identity(files)?);
    }
    builder.build().map_err(|source| HttpError::Build { source })
}

/// Makes ring the process' provider of cryptography, once. Another one that is there already stays.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default(); // somebody else's provider serves as well
    });
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let downgrade = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
        && attempt.url().scheme() != "https";
    if downgrade {
        return attempt.error("a redirect from https to http is not followed");
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    attempt.follow()
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, HttpError> {
    let pem = read(file)?;
    Certificate::from_pem_bundle(&pem).map_err(|source| HttpError::Pem { file: file.to_owned(), source })
}

fn identity(files: &IdentityFiles) -> Result<Identity, HttpError> {
    let mut pem = read(&files.cert_file)?;
    if files.key_file != files.cert_file {
        pem.push(b'\n');
        pem.extend(read(&files.key_file)?);
    }
    Identity::from_pem(&pem).map_err(|source| HttpError::Pem { file: files.cert_file.clone(), source })
}

fn read(file: &Path) -> Result<Vec<u8>, HttpError> {
    let failed = |source| HttpError::File { file: file.to_owned(), source };
    let mut pem = Vec::new();
    let opened = fs::File::open(file).map_err(failed)?;
    let size = opened.take(PEM_MAX + 1).read_to_end(&mut pem).map_err(failed)?;
    if u64::try_from(size).is_ok_and(|size| size <= PEM_MAX) {
        return Ok(pem);
    }
    Err(failed(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "more than 4 MiB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            connect_timeout: Duration::from_secs(1),
            user_agent: "test/0".into(),
            roots: Roots::Nobody,
            identity: None,
            redirects: true,
            proxies: false,
        }
    }

    #[test]
    fn a_client_needs_no_certificates_to_speak_plain_http() {
        client(&options()).unwrap();
        client(&options()).unwrap();
    }

    #[test]
    fn files_that_are_absent_or_hold_no_key_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        let files = IdentityFiles { cert_file: file.clone(), key_file: file.clone() };
        let with = Options { identity: Some(files), ..options() };
        let error = client(&with).unwrap_err();
        assert!(matches!(&error, HttpError::File { file: named, .. } if *named == file), "{error:?}");
        fs::write(&file, "nothing of use").unwrap();
        let error = client(&with).unwrap_err();
        assert!(matches!(&error, HttpError::Pem { file: named, .. } if *named == file), "{error:?}");
    }
}
