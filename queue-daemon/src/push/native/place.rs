//! From a cache's URL to its objects.
//!
//! In flow the typed URL, the time-out and the limits; out flows the place, opened for a batch. Nothing is asked here:
//! settings that are of no use and credentials that are absent show at the first request.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix_types::CacheUrl;
use nix_types::cache_url::{AddressingStyle, Place as UrlPlace, Scheme};
use object_kit::aws::{Chain, ChainSettings, Credentials, Look};
use object_kit::{
    Addressing, Asked, Auth, File, Http, HttpSettings, Line, ObjectError, Objects, S3, S3Settings, Secret,
    SweptUploads, Threads, Throttle,
};
use service_kit::clock::Clock;
use service_kit::http::{IdentityFiles, Reach};

use crate::model::DestinationId;
use crate::push::credentials::{Credentials as Configured, USER_AGENT, lookup, runner};

/// Age from which on an upload in parts counts as left over: longer than any is meant to take, since other daemons may
/// push to the same bucket.
const UPLOAD_LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Where a cache in a folder has files.
const FOLDERS: &[&str] = &["", "nar", "log", "debuginfo", "realisations"];

/// Where the objects of a destination are.
pub(super) enum Place {
    /// A folder; each batch has its own writer, so that what one could not flush is not another's loss.
    Folder {
        root: PathBuf,
        clock: Clock,
        throttles: Vec<Arc<Throttle>>,
        swept: AtomicBool,
        threads: Arc<Threads>,
    },
    /// A server; all batches share its connections.
    Server(Arc<dyn Objects>),
    /// A bucket, as a server; and whether it was told already that left-over uploads stay there.
    Bucket { s3: Arc<S3>, told: AtomicBool },
}

/// What a place needs to know beside its URL.
pub(super) struct Means {
    pub(super) clock: Clock,
    pub(super) reach: Reach,
    pub(super) timeout: Duration,
    pub(super) throttles: Vec<Arc<Throttle>>,
    pub(super) parts_in_flight: usize,
    /// As whom, where that is configured.
    pub(super) credentials: Option<Arc<Configured>>,
}

impl Place {
    /// The place of a URL.
    pub(super) fn new(url: &CacheUrl, means: Means) -> Result<Self, ObjectError> {
        let line = line(url, &means);
        Ok(match &url.place {
            UrlPlace::File { root } => {
                let Means { clock, throttles, timeout, .. } = means;
                let threads = Arc::new(Threads::new(clock.clone(), timeout));
                Self::Folder { root: root.clone(), clock, throttles, swept: AtomicBool::new(false), threads }
            }
            UrlPlace::Http { base, login } => {
                let auth = match (login, means.credentials) {
                    (Some(login), _) => Auth::Basic {
                        user: login.user().to_owned(),
                        password: Secret::new(login.password().unwrap_or_default()),
                    },
                    (None, Some(credentials)) if credentials.are_none() => Auth::None,
                    (None, Some(credentials)) => Auth::Asked(Asked(credentials)),
                    (None, None) => Auth::Netrc(netrc_files()),
                };
                let settings = HttpSettings { base: Secret::new(base.clone()), auth, line };
                Self::Server(Arc::new(Http::new(&settings)?))
            }
            UrlPlace::S3 { bucket, prefix } => {
                let mut settings = s3_settings(url, bucket, line, &means);
                settings.prefix.clone_from(prefix);
                let s3 = S3::new(&settings)?;
                Self::Bucket { s3: Arc::new(s3), told: AtomicBool::new(false) }
            }
        })
    }

    /// The objects, for one batch.
    pub(super) fn open(&self) -> Arc<dyn Objects> {
        match self {
            Self::Folder { root, clock, throttles, threads, swept: _ } => {
                Arc::new(File::new(root, clock.clone(), throttles.clone()).on(Arc::clone(threads)))
            }
            Self::Server(server) => Arc::clone(server),
            Self::Bucket { s3, told: _ } => Arc::<S3>::clone(s3),
        }
    }

    /// Removes what killed daemons left half written, the first time it is called.
    pub(super) async fn sweep_once(&self, id: &DestinationId) {
        let Self::Folder { root, clock, throttles: _, threads, swept } = self else { return };
        if swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let folder = File::new(root, clock.clone(), Vec::new()).on(Arc::clone(threads));
        match folder.sweep(FOLDERS).await {
            Ok(swept) if swept.files > 0 => {
                let (files, bytes) = (swept.files, swept.bytes);
                tracing::info!(destination = %id, "removed {files} files ({bytes} bytes) that were left half written");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(destination = %id, "left-over files are not removed: {}", object_kit::chain(&error));
            }
        }
    }

    /// Aborts uploads in parts that killed daemons left in a bucket. One that does not let us, or cannot list them, is
    /// told of once.
    pub(super) async fn abort_left_uploads(&self, id: &DestinationId) {
        let Self::Bucket { s3, told } = self else { return };
        match s3.sweep_uploads("nar/", UPLOAD_LEFT_AFTER, is_archive).await {
            Ok(SweptUploads { aborted, left, more }) => {
                let rest = if more { "; there are more, for the next time" } else { "" };
                if aborted > 0 || more {
                    tracing::info!(destination = %id, aborted, left, "aborted {aborted} uploads that were left over{rest}");
                }
                told.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                let why = object_kit::chain(&error);
                if told.swap(true, Ordering::Relaxed) {
                    tracing::debug!(destination = %id, "left-over uploads stay: {why}");
                } else {
                    tracing::info!(
                        destination = %id,
                        "left-over uploads stay where they are, which costs room and nothing else; a lifecycle rule of \
                         the bucket removes them too: {why}"
                    );
                }
            }
        }
    }
}

/// Whether a key is that of an archive as caches name them: only those are sent in parts.
fn is_archive(key: &str) -> bool {
    let name = key.strip_prefix("nar/").and_then(|name| name.split_once(".nar"));
    name.is_some_and(|(hash, codec)| {
        let is_hash = hash.len() == 52 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_hash && ["", ".zst", ".xz"].contains(&codec)
    })
}

fn line(url: &CacheUrl, means: &Means) -> Line {
    let transport = &url.params.transport;
    let mut line = Line::new(means.clock.clone(), USER_AGENT, means.reach);
    line.timeout = means.timeout;
    line.connect_timeout = line.connect_timeout.min(means.timeout);
    line.throttles.clone_from(&means.throttles);
    let retry = &transport.retry;
    line.attempts_max = retry.attempts.unwrap_or(line.attempts_max);
    line.waits.min = retry.delay.unwrap_or(line.waits.min);
    line.waits.busy_min = retry.delay_rate_limited.unwrap_or(line.waits.min);
    line.waits.max = retry.max_delay.unwrap_or(line.waits.max);
    line.identity = transport.tls_certificate.as_ref().map(|cert_file| IdentityFiles {
        cert_file: cert_file.clone(),
        key_file: transport.tls_private_key.clone().unwrap_or_else(|| cert_file.clone()),
    });
    line
}

/// Where Nix and others look for passwords of HTTP servers.
fn netrc_files() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/nix/netrc")];
    files.extend(std::env::var_os("NETRC").map(PathBuf::from));
    files.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".netrc")));
    files
}

fn s3_settings(url: &CacheUrl, bucket: &str, line: Line, means: &Means) -> S3Settings {
    let s3 = &url.params.s3;
    let credentials = match &means.credentials {
        Some(configured) if configured.are_none() => Credentials::Anonymous,
        Some(configured) => Credentials::Asked(Asked(Arc::<Configured>::clone(configured))),
        None => Credentials::Chain(Chain::new(ChainSettings {
            lookup: lookup(),
            look: s3.profile.clone().map_or(Look::Everywhere, Look::Profile),
            runner: Some(runner()),
            // Endpoints of AWS that the operator's environment and profiles name.
            line: Line { reach: Reach::Private, ..line.clone() },
        })),
    };
    let mut settings = S3Settings::new(bucket, credentials, line);
    settings.region = Some(s3.region.clone());
    settings.endpoint.clone_from(&s3.endpoint);
    settings.https = s3.scheme == Scheme::Https;
    settings.addressing = match s3.addressing_style {
        AddressingStyle::Auto => Addressing::Auto,
        AddressingStyle::Path => Addressing::Path,
        AddressingStyle::Virtual => Addressing::Virtual,
    };
    settings.storage_class.clone_from(&s3.storage_class);
    if let Some(bytes) = s3.multipart_chunk_bytes {
        settings.part_min = bytes;
    }
    settings.parts_in_flight = means.parts_in_flight;
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_requests_are_repeated() {
        let waits = |parameters: &str| {
            let url = CacheUrl::parse(&format!("https://h/?{parameters}")).expect("a good URL");
            let means = Means {
                clock: Clock::system(),
                reach: Reach::Public,
                timeout: Duration::from_secs(1),
                throttles: Vec::new(),
                parts_in_flight: 1,
                credentials: None,
            };
            let line = line(&url, &means);
            let waits = [line.waits.min, line.waits.busy_min, line.waits.max];
            (line.attempts_max, waits.map(|wait| wait.as_millis()))
        };
        assert_eq!(waits(""), (4, [200, 200, 10_000]));
        assert_eq!(waits("retry-attempts=7&retry-delay=50"), (7, [50, 50, 10_000]));
        let all = "retry-delay=50&retry-delay-rate-limited=5000&retry-max-delay=60000";
        assert_eq!(waits(all), (4, [50, 5000, 60_000]));
    }
}
