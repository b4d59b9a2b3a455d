//! The one door that builds HTTP clients. In: how far one reaches, time-outs, certificates, a name to give. Out: a client
//! over rustls and ring, with bounded redirects, which dials no address beyond its reach. Leaves out what is said through
//! it: credentials, retries, and how long an answer may take.

mod guard;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Identity, Request, Response};

pub use crate::address::Reach;
use guard::Guard;
pub use guard::{Refused, Why, check_literal};

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
    /// Which addresses may be dialled. At a redirect, too.
    pub reach: Reach,
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
    /// Whether `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are honoured. A proxy looks names up itself: of what
    /// is asked through one, only addresses that are written in the URL are judged.
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

/// What sends requests.
#[derive(Debug, Clone)]
pub struct Client {
    client: reqwest::Client,
    guard: Guard,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The host, or one that a redirect led to, is beyond the client's reach. It got nothing.
    #[error(transparent)]
    Refused(Refused),
    /// Anything else.
    #[error(transparent)]
    Http(reqwest::Error),
}

impl Client {
    /// Sends a request.
    ///
    /// # Errors
    /// [`Failed`]
    pub async fn execute(&self, request: Request) -> Result<Response, Failed> {
        self.guard.check(request.url()).map_err(Failed::Refused)?;
        self.client.execute(request).await.map_err(failed)
    }
}

/// Finds what the guard said, where a connection or a redirect failed for it.
fn failed(error: reqwest::Error) -> Failed {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(refused) = source.downcast_ref::<Refused>() {
            return Failed::Refused(refused.clone());
        }
        cause = source.source();
    }
    Failed::Http(error)
}

/// Builds a client. It reads the certificate files now: one that changed needs a new client.
///
/// # Errors
/// [`HttpError`]
pub fn client(options: &Options) -> Result<Client, HttpError> {
    let proxies = if options.proxies { guard::proxies(|name| std::env::var(name).ok()) } else { Vec::new() };
    guarded(options, Guard::new(options.reach, proxies))
}

fn guarded(options: &Options, guard: Guard) -> Result<Client, HttpError> {
    install_provider();
    let policy = match options.redirects {
        true => {
            let guard = guard.clone();
            Policy::custom(move |attempt| follow(&guard, attempt))
        }
        false => Policy::none(),
    };
    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    let mut builder = reqwest::Client::builder()
        .connect_timeout(options.connect_timeout)
        .user_agent(&options.user_agent)
        .pool_idle_timeout(IDLE_MAX)
        .tcp_keepalive(KEEPALIVE)
        .dns_resolver(guard.clone())
        .redirect(policy)
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
    let client = builder.build().map_err(|source| HttpError::Build { source })?;
    Ok(Client { client, guard })
}

/// Makes ring the process' provider of cryptography, once. Another one that is there already stays.
fn install_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default(); // somebody else's provider serves as well
    });
}

fn follow(guard: &Guard, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let downgrade = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
        && attempt.url().scheme() != "https";
    if downgrade {
        return attempt.error("a redirect from https to http is not followed");
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    if let Err(refused) = guard.check(attempt.url()) {
        return attempt.error(refused);
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
