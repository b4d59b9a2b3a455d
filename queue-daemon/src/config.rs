//! `ekaci.toml` as the queue daemon reads it: `[queue]`, `[[caches]]`, `[security]`.
//!
//! In flows the file; out flows a checked `Config`, or a report of everything that is wrong with it, each with its
//! line and remedy. Keys of the CI server are passed over; keys that this version does not serve are refused.
//! Reads nothing but the file itself: `check` looks at what the values point to.

mod cache;
mod check;
mod hosted;
mod kind;
mod rights;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service_kit::config::{
    Document, Located, Problem, QUEUE_NAMES, Report, SECURITY_KEYS_OF_SERVER, SERVER_NAMES, Section,
};
use service_kit::http::Reach;
use sqlite_kit::Durability;

use crate::model::DestinationId;
pub use cache::{Accept, CacheConfig, REGEX_BYTES_MAX, REGEXES_MAX};
pub use check::{Found, check};
pub use kind::CacheKind;

/// The id of the built-in destination that signs the local store (`sign_store = true`).
pub const LOCAL_STORE: &str = "local-store";

/// Everything the daemon needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// `[queue]`.
    pub queue: QueueConfig,
    /// `[[caches]]`, in the file's order, and behind them the built-in destination if `sign_store` is on.
    pub caches: Vec<CacheConfig>,
    /// Whether caches may be in private networks and on this machine.
    pub allow_private_cache_hosts: bool,
    /// What works but deserves attention.
    pub warnings: Vec<Problem>,
}

/// `[queue]`.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Database, lock, and GC roots where Nix' own folder is not to be had.
    pub state_dir: PathBuf,
    /// Takes enqueues and claims.
    pub socket: PathBuf,
    /// Takes inspection and steering.
    pub control_socket: PathBuf,
    /// Where `eka-hook` leaves what it could not hand over.
    pub spool_dir: PathBuf,
    /// Group of the enqueue socket and of the spool.
    pub socket_group: Option<String>,
    /// Users that may enqueue; empty together with `allowed_groups` means whoever may open the socket.
    pub allowed_users: Vec<String>,
    /// Groups that may enqueue.
    pub allowed_groups: Vec<String>,
    /// Users that may speak for the CI: claims, and requests with source `ci`. Root and the daemon's own user may always.
    pub ci_users: Vec<String>,
    /// Live deliveries one user may have before its requests are put off.
    pub quota_per_uid: u64,
    /// Secret keys, each of which signs every path.
    pub signing_key_files: Vec<PathBuf>,
    /// Also add the signatures to the local store.
    pub sign_store: bool,
    /// Destinations of a request that names none; `None` means all.
    pub default_destinations: Option<Vec<DestinationId>>,
    /// Where Prometheus may ask, besides the control socket.
    pub metrics_address: Option<SocketAddr>,
    /// How long a stopping daemon waits for attempts under way.
    pub stop_timeout: Duration,
    /// How long finished deliveries are kept.
    pub keep_done: Duration,
    /// How long dead letters are kept.
    pub keep_dead: Duration,
    /// What an acknowledgement survives.
    pub durability: Durability,
    /// Most bytes a second, to all binary caches together.
    pub bandwidth_limit: Option<u64>,
    /// Threads that may compress at once; `None` is as many as there are processors.
    pub cpu_limit: Option<usize>,
}

impl Config {
    /// Loads and checks a file.
    ///
    /// # Errors
    /// A report of all problems.
    pub fn load(file: &Path) -> Result<Self, Report> {
        Self::read(Document::load(file)?, file)
    }

    /// Checks a text; `file` is what the report calls it.
    ///
    /// # Errors
    /// A report of all problems.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Report> {
        Self::read(Document::parse(file, text)?, file)
    }

    /// Variables that are credentials of some destination: no child inherits them, but for the ones everything needs.
    pub(crate) fn withheld(&self) -> Vec<String> {
        let sources = self.caches.iter().filter_map(|cache| cache.credentials.as_ref());
        let named = sources.flat_map(secrets::Source::variables);
        named.filter(|name| !matches!(name.as_str(), "PATH" | "HOME")).collect()
    }

    /// Which addresses caches may have.
    #[must_use]
    pub fn cache_reach(&self) -> Reach {
        reach(self.allow_private_cache_hosts)
    }

    fn read(doc: Document, file: &Path) -> Result<Self, Report> {
        let security = doc.section("security");
        security.pass_over(SECURITY_KEYS_OF_SERVER);
        let allowed = security.bool("allow_private_cache_hosts");
        let allow_private_cache_hosts = allowed.is_some_and(|found| found.value);
        let reach = reach(allow_private_cache_hosts);
        security.finish();
        let (queue, defaults) = read_queue(doc.section("queue"));
        let sections = doc.array("caches");
        let none_written = sections.is_empty();
        let mut caches: Vec<CacheConfig> = Vec::new();
        let mut regexes_left = REGEXES_MAX;
        for section in sections {
            if let Some(cache) = cache::read(section, &queue, reach, &caches, &mut regexes_left) {
                caches.push(cache);
            }
        }
        check_defaults(&doc, &queue, &defaults, &caches);
        if none_written && !queue.sign_store {
            doc.warn(
                "[[caches]]",
                None,
                "there is no destination: whatever is queued goes nowhere",
                "add a [[caches]] block, or set [queue] sign_store = true",
            );
        }
        if queue.sign_store
            && let Ok(id) = DestinationId::parse(LOCAL_STORE)
        {
            caches.push(CacheConfig::with_defaults(id, CacheKind::SignStore));
        }
        let warnings = doc.finish(QUEUE_NAMES, SERVER_NAMES)?;
        Ok(Self { file: file.to_owned(), queue, caches, allow_private_cache_hosts, warnings })
    }
}

fn reach(allow_private: bool) -> Reach {
    if allow_private { Reach::Private } else { Reach::Public }
}

/// The section, and where it names its default destinations: whether they exist is known later.
fn read_queue(section: Section) -> (QueueConfig, Vec<Located<DestinationId>>) {
    let path =
        |key: &str, default: &str| section.path(key).map_or_else(|| default.into(), |found| found.value);
    let duration = |key: &str, default: Duration| section.duration(key).map_or(default, |found| found.value);
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let control_socket = section.path("control_socket");
    let sign_store = section.bool("sign_store");
    let defaults = read_defaults(&section);
    let queue = QueueConfig {
        state_dir: path("state_dir", "/var/lib/eka-queue"),
        socket: path("socket", "/run/eka-queue/enqueue.sock"),
        control_socket: control_socket
            .as_ref()
            .map_or_else(|| "/run/eka-queue/control.sock".into(), |found| found.value.clone()),
        spool_dir: path("spool_dir", "/var/lib/eka-queue/spool"),
        socket_group: section.string("socket_group").map(|found| found.value),
        allowed_users: texts(&section, "allowed_users"),
        allowed_groups: texts(&section, "allowed_groups"),
        ci_users: texts(&section, "ci_users"),
        quota_per_uid: section.u64("quota_per_uid", 1..=u64::MAX / 4).map_or(100_000, |found| found.value),
        signing_key_files: section
            .paths("signing_key_files")
            .map_or_else(Vec::new, |list| list.value.into_iter().map(|path| path.value).collect()),
        sign_store: sign_store.is_some_and(|found| found.value),
        default_destinations: defaults
            .as_ref()
            .map(|list| list.iter().map(|found| found.value.clone()).collect()),
        metrics_address: read_address(&section),
        stop_timeout: duration("stop_timeout", Duration::from_secs(30)),
        keep_done: duration("keep_done", days(14)),
        keep_dead: duration("keep_dead", days(90)),
        durability: read_durability(&section),
        bandwidth_limit: read_limit(&section),
        cpu_limit: section.u64("cpu_limit", 1..=1024).and_then(|found| usize::try_from(found.value).ok()),
    };
    if queue.socket == queue.control_socket {
        let line = control_socket.map(|found| found.line).or(section.line());
        section.refuse("control_socket", line, "is the same as socket", "give each a file of its own");
    }
    if let Some(Located { value: true, line }) = sign_store
        && queue.signing_key_files.is_empty()
    {
        let what = "is true, but there is no key to sign with";
        section.refuse("sign_store", Some(line), what, "set signing_key_files, or remove sign_store");
    }
    section.finish();
    (queue, defaults.unwrap_or_default())
}

fn texts(section: &Section, key: &str) -> Vec<String> {
    section.strings(key).map_or_else(Vec::new, |list| list.value.into_iter().map(|text| text.value).collect())
}

fn read_defaults(section: &Section) -> Option<Vec<Located<DestinationId>>> {
    let list = section.strings("default_destinations")?;
    let mut ids = Vec::new();
    for text in list.value {
        match DestinationId::parse(&text.value) {
            Ok(value) => ids.push(Located { value, line: text.line }),
            Err(bad) => {
                section.refuse("default_destinations", Some(text.line), bad.to_string(), "correct it");
            }
        }
    }
    Some(ids)
}

fn read_address(section: &Section) -> Option<SocketAddr> {
    let text = section.string("metrics_address")?;
    let parsed: Result<SocketAddr, _> = text.value.parse();
    match parsed {
        Ok(address) => {
            if !address.ip().is_loopback() {
                section.warn(
                    "metrics_address",
                    Some(text.line),
                    "is not a loopback address: whoever reaches it reads the metrics",
                    "bind 127.0.0.1, or shield the port",
                );
            }
            Some(address)
        }
        Err(_) => {
            let remedy = "write address:port, such as 127.0.0.1:9190";
            section.refuse("metrics_address", Some(text.line), "is no address with a port", remedy);
            None
        }
    }
}

fn read_limit(section: &Section) -> Option<u64> {
    let found = section.rate("bandwidth_limit")?;
    if found.value == 0 {
        section.refuse("bandwidth_limit", Some(found.line), "is zero", "write \"10MiB/s\", or leave it out");
    }
    Some(found.value)
}

fn read_durability(section: &Section) -> Durability {
    let choices = [("full", Durability::Full), ("normal", Durability::Normal), ("off", Durability::Off)];
    let Some(found) = section.choice("durability", &choices) else { return Durability::Full };
    if found.value != Durability::Full {
        section.warn(
            "durability",
            Some(found.line),
            "below `full`, a power cut may lose acknowledged paths",
            "remove it, unless this is a measurement",
        );
    }
    found.value
}

/// A default must name a destination; the built-in one counts when it is on.
fn check_defaults(
    doc: &Document,
    queue: &QueueConfig,
    defaults: &[Located<DestinationId>],
    caches: &[CacheConfig],
) {
    for Located { value: id, line } in defaults {
        let built_in = queue.sign_store && id.as_str() == LOCAL_STORE;
        if !built_in && !caches.iter().any(|cache| cache.id == *id) {
            doc.refuse(
                "[queue] default_destinations",
                Some(*line),
                format!("names `{id}`, which no [[caches]] block has as its id"),
                "correct the name, or add the block",
            );
        }
    }
}
