//! Who may push to a cache: `accept`, `permissions`, `allow_untrusted` and `allow_pull_requests` of a `[[caches]]` block.
//!
//! In flows the block; out flow checked patterns in its `CacheConfig`, and warnings for what is written and is unsafe, or
//! means something else than it seems to.

use std::net::Ipv4Addr;

use ci_model::{BranchPattern, PatternError, Permissions, RepositoryPattern, Written};
use nix_types::cache_url::Place;
use service_kit::config::{Located, Section};

use super::cache::{Accept, CacheConfig};
use super::{CacheKind, QueueConfig};

/// Most patterns of one list.
const PATTERNS_MAX: usize = 1_000;

/// Reads who may push. The kind of the cache is known already.
pub(super) fn read(section: &Section, queue: &QueueConfig, cache: &mut CacheConfig) {
    cache.rights.permissions = read_permissions(section);
    let restricts = cache.rights.permissions.restricts();
    if let Some(found) = section.bool("allow_pull_requests") {
        cache.rights.allow_pull_requests = found.value;
    }
    if let Some(found) = section.bool("allow_untrusted") {
        cache.rights.allow_untrusted = found.value;
        if found.value {
            warn_of_untrusted(section, found.line, queue, cache);
        }
    }
    if let Some(accept) = read_accept(section) {
        cache.accept = accept.value;
        if restricts && accept.value.hook {
            section.warn(
                "accept",
                Some(accept.line),
                "has `hook`, and permissions are for the CI's builds alone: whatever this machine builds, and no \
                 claim of a CI holds back, is pushed here",
                "write accept = [\"ci\"], which is the default beside permissions that restrict",
            );
        }
    } else if restricts {
        cache.accept = Accept { hook: false, ci: true };
    }
}

fn read_accept(section: &Section) -> Option<Located<Accept>> {
    let list = section.strings("accept")?;
    let mut value = Accept { hook: false, ci: false };
    for word in list.value {
        match word.value.as_str() {
            "hook" => value.hook = true,
            "ci" => value.ci = true,
            other => {
                let what = format!("`{other}` is no source");
                section.refuse("accept", Some(word.line), what, "write \"hook\" or \"ci\"");
            }
        }
    }
    Some(Located { value, line: list.line })
}

fn read_permissions(section: &Section) -> Permissions {
    let Some(table) = section.table("permissions") else { return Permissions::Everything };
    let allow_all = table.bool("allow_all");
    let repositories =
        read_patterns(&table, "allowed_repos", RepositoryPattern::parse, RepositoryPattern::matches_nothing);
    let branches =
        read_patterns(&table, "allowed_branches", BranchPattern::parse, BranchPattern::matches_nothing);
    let has_lists = repositories.is_some() || branches.is_some();
    if let Some(found) = allow_all.as_ref().filter(|found| found.value && has_lists) {
        let what = "is true: the lists beside it mean nothing, and every repository and branch is let in";
        table.warn("allow_all", Some(found.line), what, "remove allow_all, or the lists");
    }
    warn_of_every_branch(&table, branches.as_ref());
    let line = table.line();
    let written = Written {
        allow_all: allow_all.map(|found| found.value),
        allowed_repos: repositories.map(|list| list.value),
        allowed_branches: branches.map(|list| list.value),
    };
    let permissions = written.meaning();
    if permissions == Permissions::Nothing {
        let what = "let in no repository: nothing that a CI builds is pushed here";
        section.warn(
            "permissions",
            line,
            what,
            "name repositories in allowed_repos, or write allow_all = true",
        );
    }
    table.finish();
    permissions
}

fn read_patterns<P>(
    table: &Section,
    key: &str,
    parse: impl Fn(&str) -> Result<P, PatternError>,
    matches_nothing: impl Fn(&P) -> Option<&'static str>,
) -> Option<Located<Vec<P>>> {
    let list = table.strings(key)?;
    if list.value.len() > PATTERNS_MAX {
        let what = format!("has more than {PATTERNS_MAX} patterns");
        table.refuse(key, Some(list.line), what, "write some as one, with *");
    }
    let (mut patterns, mut good) = (Vec::new(), true);
    for text in list.value.iter().take(PATTERNS_MAX) {
        match parse(&text.value) {
            Ok(pattern) => {
                if let Some(why) = matches_nothing(&pattern) {
                    let what = format!("`{}` matches nothing: it {why}", text.value);
                    table.warn(key, Some(text.line), what, "correct the pattern, or remove it");
                }
                patterns.push(pattern);
            }
            Err(why) => {
                table.refuse(key, Some(text.line), why.to_string(), "correct the pattern");
                good = false;
            }
        }
    }
    // A list with a bad pattern says nothing further: the file is refused.
    good.then_some(Located { value: patterns, line: list.line })
}

fn warn_of_every_branch(table: &Section, branches: Option<&Located<Vec<BranchPattern>>>) {
    let Some(list) = branches else { return };
    if list.value.iter().any(|pattern| matches!(pattern.as_str(), "*" | "**")) {
        let what = "has `*`: every branch may push, those that anybody with write access makes up too";
        table.warn(
            "allowed_branches",
            Some(list.line),
            what,
            "name the branches, such as [\"main\", \"release/*\"]",
        );
    }
}

fn warn_of_untrusted(section: &Section, line: u32, queue: &QueueConfig, cache: &CacheConfig) {
    let signed = match &cache.kind {
        CacheKind::Native { url } => {
            !queue.signing_key_files.is_empty() || !url.params.secret_keys.is_empty()
        }
        CacheKind::Ssh { .. } | CacheKind::NixCopy { .. } => !queue.signing_key_files.is_empty(),
        // The service signs, whoever holds the key.
        CacheKind::Attic { .. } | CacheKind::Cachix { .. } | CacheKind::Cli { .. } => true,
        CacheKind::Command { .. } | CacheKind::SignStore => false,
    };
    if signed {
        section.warn(
            "allow_untrusted",
            Some(line),
            "is true, and what is sent here is signed: machines that trust the key take what strangers built",
            "give pull requests a cache of their own, in a daemon without this key",
        );
    }
    let keeps_out = matches!(
        &cache.rights.permissions,
        Permissions::Listed { branches, .. } if !branches.is_empty() && !cache.rights.allow_pull_requests
    );
    if keeps_out {
        let what = "is true, and allowed_branches keeps every pull request out";
        section.warn("allow_untrusted", Some(line), what, "set allow_pull_requests = true, or remove it");
    }
}

/// A login that goes over a network as it is.
pub(super) fn in_the_clear(section: &Section, key: &str, line: u32, kind: &CacheKind) {
    let CacheKind::Native { url } = kind else { return };
    let Place::Http { base, .. } = &url.place else { return };
    let Some(rest) = base.strip_prefix("http://") else { return };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    let loopback = host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    if loopback || host == "localhost" || rest.starts_with("[::1]") {
        return;
    }
    let what = "a login goes over http:// as it is: whoever is on the way reads it";
    section.warn(key, Some(line), what, "write https:// in the destination");
}
