//! What `check-config` and `serve` look at beyond the file: keys, programs, users, groups, credentials.
//!
//! In flows a checked `Config`; out flows one problem per thing that will not work, and one warning per thing that is not
//! there now and may be later, or is open to others. Reads, never writes, and asks no service.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use service_kit::config::Problem;

use super::{CacheConfig, CacheKind, Config, QueueConfig};
use crate::peer;
use crate::push::credentials::lookup;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// With these the daemon does not start.
    pub problems: Vec<Problem>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
}

/// Looks at everything the configuration points to.
#[must_use]
pub fn check(config: &Config) -> Found {
    let mut found = Found::default();
    check_queue(&config.queue, &mut found.problems);
    for cache in &config.caches {
        check_cache(cache, &mut found.problems);
        check_credentials(cache, &mut found);
    }
    found
}

fn check_queue(queue: &QueueConfig, problems: &mut Vec<Problem>) {
    let mut say = |place: &str, what, remedy| problems.push(problem(place, what, remedy));
    for file in &queue.signing_key_files {
        if let Err(why) = secret_key(file) {
            let remedy = "make one with `nix-store --generate-binary-cache-key`, readable by the daemon";
            say("[queue] signing_key_files", why, remedy);
        }
    }
    for user in queue.allowed_users.iter().chain(&queue.ci_users) {
        if let Err(why) = peer::uid_of(user) {
            say("[queue] allowed_users, ci_users", why.of("user", user), why.remedy());
        }
    }
    for group in queue.allowed_groups.iter().chain(&queue.socket_group) {
        if let Err(why) = peer::gid_of(group) {
            say("[queue] allowed_groups, socket_group", why.of("group", group), why.remedy());
        }
    }
}

fn check_cache(cache: &CacheConfig, problems: &mut Vec<Problem>) {
    let place = format!("[[caches]] {}", cache.id);
    let mut say = |what, remedy| problems.push(problem(&place, what, remedy));
    match &cache.kind {
        CacheKind::Command { argv } => {
            if let Some(why) = argv.first().and_then(|program| not_a_program(program)) {
                say(why, "correct the path; it must be executable");
            }
        }
        CacheKind::NixCopy { ssh_key_file: Some(file), .. } => {
            if let Err(error) = fs::File::open(file) {
                let what = format!("ssh_key_file {} cannot be read: {error}", file.display());
                say(what, "make it readable by the daemon");
            }
        }
        CacheKind::Native { url } => {
            for why in url.params.secret_keys.iter().filter_map(|file| secret_key(file).err()) {
                say(why, "correct secret-key in the destination; the daemon must be able to read it");
            }
        }
        CacheKind::NixCopy { .. } | CacheKind::SignStore => {}
    }
}

/// What is absent may be there where the daemon runs, or when it is needed.
fn check_credentials(cache: &CacheConfig, found: &mut Found) {
    let place = format!("[[caches]] {}", cache.id);
    for finding in cache.credentials.iter().flat_map(|source| source.check(&lookup())) {
        let problem = problem(&place, format!("credentials: {}", finding.what), &finding.remedy);
        if finding.is_error { found.problems.push(problem) } else { found.warnings.push(problem) }
    }
}

fn problem(place: &str, what: String, remedy: &str) -> Problem {
    Problem { line: None, place: place.into(), what, remedy: remedy.into() }
}

/// A secret key is `name:base64` of 64 bytes; its content never leaves this function.
fn secret_key(file: &Path) -> Result<(), String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let shape = text.trim_end().split_once(':').filter(|(name, _)| !name.is_empty());
    let Some((_, base64)) = shape else {
        return Err(format!("{shown} holds no `name:base64` secret key"));
    };
    // 64 bytes are 88 characters of base64 with padding.
    let fine = base64.len() == 88
        && base64.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if fine {
        Ok(())
    } else {
        Err(format!("{shown} holds no secret key: its base64 part is not 64 bytes (is it the public one?)"))
    }
}

fn not_a_program(program: &str) -> Option<String> {
    let executable = |path: &Path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let path = Path::new(program);
        return (!executable(path)).then(|| format!("program {program} is not there or not executable"));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|folder| executable(&folder.join(program)));
    (!found).then(|| format!("program {program} is not on PATH"))
}
