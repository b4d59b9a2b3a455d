//! One `[[caches]]` block.
//!
//! In flows its section; out flows a checked `CacheConfig`, or entries in the report.

use std::time::Duration;

use ci_model::CachePolicy;
use nix_types::cache_url::Place;
use nix_types::glob::Glob;
use secrets::{Owner, Source};
use service_kit::config::Section;
use service_kit::http::Reach;

use super::kind::{self, CacheKind};
use super::{LOCAL_STORE, QueueConfig, rights};
use crate::breaker::BreakerConfig;
use crate::delivery::Policy;
use crate::filter::{Filter, FixedOutputs};
use crate::model::DestinationId;

/// Most regular expressions of a file, all blocks together.
pub const REGEXES_MAX: usize = 256;
/// Most memory of one of them, in bytes; some 1,500 characters or classes, repetitions written out.
pub const REGEX_BYTES_MAX: usize = 64 << 10;

/// One destination.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Its id.
    pub id: DestinationId,
    /// How paths get there.
    pub kind: CacheKind,
    /// Whose requests it takes.
    pub accept: Accept,
    /// Whose builds it takes, of those a CI speaks of.
    pub rights: CachePolicy,
    /// Attempts under way at once.
    pub concurrency: usize,
    /// What failures mean.
    pub policy: Policy,
    /// When the destination is in doubt.
    pub breaker: BreakerConfig,
    /// How long an attempt may go on without progress.
    pub timeout: Duration,
    /// How long it is taken for granted that the destination has what it was sent.
    pub presence_ttl: Duration,
    /// What is not sent.
    pub filter: Filter,
    /// Most bytes a second.
    pub bandwidth_limit: Option<u64>,
    /// Whether logs of builds are sent as well.
    pub upload_logs: bool,
    /// As whom it is spoken to; none to look where other programs do.
    pub credentials: Option<Source>,
    /// How long what they gave is used before they are asked again.
    pub credentials_ttl: Duration,
}

/// Whose requests a destination takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// Nix' and Hydra's hooks.
    pub hook: bool,
    /// The CI.
    pub ci: bool,
}

impl CacheConfig {
    /// A destination with every default.
    #[must_use]
    pub fn with_defaults(id: DestinationId, kind: CacheKind) -> Self {
        Self {
            id,
            kind,
            accept: Accept { hook: true, ci: true },
            rights: CachePolicy::default(),
            concurrency: 8,
            policy: Policy {
                attempts_max: 25,
                backoff_min: Duration::from_secs(1),
                backoff_max: Duration::from_secs(15 * 60),
            },
            breaker: BreakerConfig { failures: 5, probe: Duration::from_secs(60) },
            timeout: Duration::from_secs(10 * 60),
            presence_ttl: Duration::from_secs(7 * 24 * 60 * 60),
            filter: Filter::default(),
            bandwidth_limit: None,
            upload_logs: false,
            credentials: None,
            credentials_ttl: secrets::KEPT,
        }
    }
}

/// Reads one block, for a cache within this reach; `None` when it has no usable id or kind, which the report then says. `regexes_left` is how many
/// regular expressions the file may still have.
pub(super) fn read(
    section: Section,
    queue: &QueueConfig,
    reach: Reach,
    earlier: &[CacheConfig],
    regexes_left: &mut usize,
) -> Option<CacheConfig> {
    let id = read_id(&section, earlier);
    let kind = kind::read(&section, queue, reach);
    refuse_of_services(&section, kind.as_ref());
    let cache = match (id, kind) {
        (Some(id), Some(kind)) => {
            Some(read_rest(&section, queue, CacheConfig::with_defaults(id, kind), regexes_left))
        }
        // Its other keys are looked at all the same, so that one run reports everything.
        (_, kind) => {
            let id = DestinationId::parse("unnamed").ok()?;
            let kind = kind.unwrap_or(CacheKind::SignStore);
            read_rest(&section, queue, CacheConfig::with_defaults(id, kind), regexes_left);
            None
        }
    };
    section.finish();
    cache
}

fn read_id(section: &Section, earlier: &[CacheConfig]) -> Option<DestinationId> {
    let Some(text) = section.string("id") else {
        section.missing("id", "give the cache a name, such as id = \"main\"");
        return None;
    };
    let id = match DestinationId::parse(&text.value) {
        Ok(id) => id,
        Err(bad) => {
            section.refuse("id", Some(text.line), bad.to_string(), "choose another");
            return None;
        }
    };
    if id.as_str() == LOCAL_STORE {
        section.refuse("id", Some(text.line), "is the name of the built-in destination", "choose another");
        return None;
    }
    if earlier.iter().any(|cache| cache.id == id) {
        section.refuse(
            "id",
            Some(text.line),
            format!("`{id}` is used twice"),
            "give each cache a name of its own",
        );
        return None;
    }
    Some(id)
}

/// Keys that only services have.
fn refuse_of_services(section: &Section, kind: Option<&CacheKind>) {
    let is_service =
        matches!(kind, Some(CacheKind::Cachix { .. } | CacheKind::Attic { .. } | CacheKind::Cli { .. }));
    let is_cachix = matches!(kind, Some(CacheKind::Cachix { .. } | CacheKind::Cli { kind: "cachix", .. }));
    let refuse = |key, line, what| section.refuse(key, Some(line), what, "remove it");
    if !is_service && let Some(found) = section.string("driver") {
        refuse("driver", found.line, "is for cache_type = \"cachix\" and \"attic\"");
    }
    if !is_cachix && let Some(found) = section.string("config_file") {
        refuse("config_file", found.line, "is for cache_type = \"cachix\"");
    }
}

fn read_rest(
    section: &Section,
    queue: &QueueConfig,
    mut cache: CacheConfig,
    regexes_left: &mut usize,
) -> CacheConfig {
    if let Some(found) = section.u64("concurrency", 1..=256) {
        cache.concurrency = usize::try_from(found.value).unwrap_or(256);
    }
    if let Some(found) = section.u64("attempts_max", 1..=1_000_000) {
        cache.policy.attempts_max = u32::try_from(found.value).unwrap_or(u32::MAX);
    }
    if let Some(found) = section.duration("timeout") {
        if found.value < Duration::from_secs(1) {
            section.refuse(
                "timeout",
                Some(found.line),
                "is below one second",
                "write \"10m\", or leave it out",
            );
        }
        cache.timeout = found.value;
    }
    if let Some(found) = section.duration("presence_ttl") {
        cache.presence_ttl = found.value;
    }
    read_native(section, &mut cache);
    read_credentials(section, &mut cache);
    rights::read(section, queue, &mut cache);
    read_backoff(section, &mut cache.policy);
    read_breaker(section, &mut cache.breaker);
    read_filter(section, &mut cache.filter);
    read_regexes(section, &mut cache.filter, regexes_left);
    cache
}

/// What only a cache that is served in this process has.
fn read_native(section: &Section, cache: &mut CacheConfig) {
    let limit = section.rate("bandwidth_limit");
    let logs = section.bool("upload_logs");
    let is_native = matches!(cache.kind, CacheKind::Native { .. });
    let takes_limit = matches!(
        cache.kind,
        CacheKind::Native { .. } | CacheKind::Ssh { .. } | CacheKind::Attic { .. } | CacheKind::Cachix { .. }
    );
    if takes_limit {
        if let Some(found) = &limit
            && found.value == 0
        {
            section.refuse(
                "bandwidth_limit",
                Some(found.line),
                "is zero",
                "write \"10MiB/s\", or leave it out",
            );
        }
        cache.bandwidth_limit = limit.map(|found| found.value);
    } else if let Some(found) = limit {
        let what =
            "is for what this daemon sends itself: what is run for this destination knows no such thing";
        section.refuse("bandwidth_limit", Some(found.line), what, "remove it");
    }
    if is_native {
        cache.upload_logs = logs.is_some_and(|found| found.value);
        return;
    }
    let what = "is for file://, http(s):// and s3:// alone: this destination keeps no logs";
    if let Some(found) = logs {
        section.refuse("upload_logs", Some(found.line), what, "remove it");
    }
}

/// Whoever is asked as whom has to be one who can be told.
fn read_credentials(section: &Section, cache: &mut CacheConfig) {
    let found = secrets::take(section, "credentials", Owner::Cache);
    let ttl = section.duration("credentials_ttl");
    let Some(found) = found else {
        if let CacheKind::Native { url } = &cache.kind
            && let Place::Http { login: Some(_), .. } = url.place
            && let Some(line) = section.line()
        {
            rights::in_the_clear(section, "destination", line, &cache.kind);
        }
        if let Some(ttl) = ttl {
            section.refuse(
                "credentials_ttl",
                Some(ttl.line),
                "is for credentials, and there are none",
                "remove it",
            );
        }
        return;
    };
    let (twice, none) = ("keep one of them", "remove it, or write \"none\"");
    let is_none = found.value == Source::None;
    let refused = match &cache.kind {
        CacheKind::Native { url } => match &url.place {
            Place::S3 { .. } if url.params.s3.profile.is_some() => {
                Some(("are named twice: the destination has a profile", twice))
            }
            Place::Http { login: Some(_), .. } => {
                Some(("are named twice: the destination has a user", twice))
            }
            Place::File { .. } if !is_none => Some(("mean nothing to a folder", none)),
            Place::S3 { .. } | Place::Http { .. } | Place::File { .. } => None,
        },
        CacheKind::Ssh { .. } | CacheKind::NixCopy { .. } if !is_none => {
            Some(("mean nothing to this kind of store: for ssh there is ssh_key_file", none))
        }
        CacheKind::Cli { kind: "attic", .. } if !is_none => {
            Some(("mean nothing to `attic push`, which reads its own file", "remove it, or driver = \"cli\""))
        }
        CacheKind::Ssh { .. }
        | CacheKind::NixCopy { .. }
        | CacheKind::Attic { .. }
        | CacheKind::Cachix { .. }
        | CacheKind::Cli { .. }
        | CacheKind::Command { .. }
        | CacheKind::SignStore => None,
    };
    if let Some((what, remedy)) = refused {
        section.refuse("credentials", Some(found.line), what, remedy);
    }
    if !is_none {
        rights::in_the_clear(section, "credentials", found.line, &cache.kind);
    }
    cache.credentials = Some(found.value);
    cache.credentials_ttl = ttl.map_or(secrets::KEPT, |ttl| ttl.value);
}

fn read_backoff(section: &Section, policy: &mut Policy) {
    let Some(table) = section.table("backoff") else { return };
    if let Some(found) = table.duration("min") {
        policy.backoff_min = found.value;
    }
    if let Some(found) = table.duration("max") {
        policy.backoff_max = found.value;
    }
    if policy.backoff_min.is_zero() {
        table.refuse("min", table.line(), "is zero", "write at least \"1ms\"");
    }
    if policy.backoff_min > policy.backoff_max {
        table.refuse("min", table.line(), "is above max", "make min the smaller one");
    }
    table.finish();
}

fn read_breaker(section: &Section, breaker: &mut BreakerConfig) {
    let Some(table) = section.table("breaker") else { return };
    if let Some(found) = table.u64("failures", 1..=1_000_000) {
        breaker.failures = u32::try_from(found.value).unwrap_or(u32::MAX);
    }
    if let Some(found) = table.duration("probe") {
        if found.value.is_zero() {
            table.refuse("probe", Some(found.line), "is zero", "write \"1m\", or leave it out");
        }
        breaker.probe = found.value;
    }
    table.finish();
}

fn read_filter(section: &Section, filter: &mut Filter) {
    if let Some(list) = section.strings("exclude") {
        for text in list.value {
            match Glob::parse(&text.value) {
                Ok(glob) => filter.exclude.push(glob),
                Err(why) => section.refuse("exclude", Some(text.line), why.to_string(), "correct the glob"),
            }
        }
    }
    filter.max_nar_bytes = section.size("max_nar_size").map(|found| found.value);
    let choices =
        [("both", FixedOutputs::Both), ("only", FixedOutputs::Only), ("never", FixedOutputs::Never)];
    if let Some(found) = section.choice("fod", &choices) {
        filter.fixed_outputs = found.value;
    }
    if let Some(list) = section.strings("skip_signed_by") {
        // A whole public key is accepted too; its name is what signatures carry.
        let name = |text: String| text.split(':').next().unwrap_or_default().to_owned();
        filter.skip_signed_by = list.value.into_iter().map(|text| name(text.value)).collect();
    }
}

fn read_regexes(section: &Section, filter: &mut Filter, left: &mut usize) {
    let Some(list) = section.strings("exclude_regex") else { return };
    let Some(rest) = left.checked_sub(list.value.len()) else {
        let what = format!("the file has more than {REGEXES_MAX} regular expressions");
        section.refuse("exclude_regex", Some(list.line), what, "write some as one, or as a glob in exclude");
        return;
    };
    *left = rest;
    for text in list.value {
        match regex_lite::RegexBuilder::new(&text.value).size_limit(REGEX_BYTES_MAX).build() {
            Ok(regex) => filter.exclude_regex.push(regex),
            Err(why) => {
                let remedy = "correct the expression";
                section.refuse("exclude_regex", Some(text.line), why.to_string(), remedy);
            }
        }
    }
}
