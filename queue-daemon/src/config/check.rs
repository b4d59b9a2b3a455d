//! What `check-config` and `serve` look at beyond the file: keys, programs, users, groups, credentials.
//!
//! In flows a checked `Config`; out flows one problem per thing that will not work, one entry per file that is not there
//! (this may be another machine than the daemon's), and one warning per thing that may be there later, or is open to
//! others. Reads, never writes, and asks no service.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use service_kit::config::Problem;

use super::{CacheConfig, CacheKind, Config, QueueConfig};
use crate::peer;
use crate::push::credentials::lookup;
use crate::push::hosted;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// With these the daemon does not start, here or elsewhere.
    pub problems: Vec<Problem>,
    /// What is not on this machine. The daemon does not start without it.
    pub absent: Vec<Problem>,
    /// What an operator should know.
    pub warnings: Vec<Problem>,
}

/// Looks at everything the configuration points to.
#[must_use]
pub fn check(config: &Config) -> Found {
    let mut found = Found::default();
    check_queue(&config.queue, &mut found);
    for cache in &config.caches {
        check_cache(cache, &mut found);
        check_credentials(cache, &mut found);
        check_login(cache, &mut found);
    }
    found
}

/// Why something that the configuration names cannot be used.
enum Unusable {
    /// It is not on this machine.
    Absent(String),
    /// It is there, or would be wrong anywhere.
    Wrong(String),
}

impl Found {
    fn say(&mut self, place: &str, why: Unusable, remedy: &str) {
        match why {
            Unusable::Absent(what) => self.absent.push(problem(place, what, remedy)),
            Unusable::Wrong(what) => self.problems.push(problem(place, what, remedy)),
        }
    }

    /// A secret that everybody can read.
    fn warn_of_others(&mut self, place: &str, file: &Path) {
        if fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o004 != 0) {
            let shown = file.display();
            let what = format!("everybody on this machine can read {shown}");
            self.warnings.push(problem(place, what, &format!("chmod o-rwx {shown}")));
        }
    }
}

impl Unusable {
    fn unread(what: &str, error: &io::Error) -> Self {
        let text = format!("{what} cannot be read: {error}");
        if is_absent(error) { Self::Absent(text) } else { Self::Wrong(text) }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn check_queue(queue: &QueueConfig, found: &mut Found) {
    for file in &queue.signing_key_files {
        if let Err(why) = secret_key(file) {
            let remedy = "make one with `nix-store --generate-binary-cache-key`, readable by the daemon";
            found.say("[queue] signing_key_files", why, remedy);
        } else {
            found.warn_of_others("[queue] signing_key_files", file);
        }
    }
    let mut say = |place: &str, what, remedy| found.problems.push(problem(place, what, remedy));
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

fn check_cache(cache: &CacheConfig, found: &mut Found) {
    let place = format!("[[caches]] {}", cache.id);
    match &cache.kind {
        CacheKind::Command { argv } | CacheKind::Cli { argv, .. } => {
            if let Some(why) = argv.first().and_then(|program| not_a_program(program)) {
                found.say(&place, why, "correct the path; it must be executable");
            }
        }
        CacheKind::Ssh { url } => {
            let Some(file) = &url.params.ssh_key else { return };
            if let Err(error) = fs::File::open(file) {
                let what = format!("ssh_key_file {}", file.display());
                found.say(&place, Unusable::unread(&what, &error), "make it readable by the daemon");
            }
            found.warn_of_others(&place, file);
        }
        CacheKind::Native { url } => {
            for file in &url.params.secret_keys {
                if let Err(why) = secret_key(file) {
                    let remedy = "correct secret-key in the destination; the daemon must be able to read it";
                    found.say(&place, why, remedy);
                } else {
                    found.warn_of_others(&place, file);
                }
            }
        }
        CacheKind::Cachix { config_file: Some(file), .. } => {
            if let Err(error) = fs::File::open(file) {
                let what = format!("config_file {}", file.display());
                found.say(&place, Unusable::unread(&what, &error), "make it readable by the daemon");
            }
            found.warn_of_others(&place, file);
        }
        CacheKind::NixCopy { .. }
        | CacheKind::Attic { .. }
        | CacheKind::Cachix { .. }
        | CacheKind::SignStore => {} // where tokens are: check_login
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

/// Services without `credentials` are spoken to as their own clients would.
fn check_login(cache: &CacheConfig, found: &mut Found) {
    let lacks = match &cache.kind {
        CacheKind::Attic { place, .. } if cache.credentials.is_none() => hosted::token::lacks_token(place),
        CacheKind::Cachix { name, config_file } if cache.credentials.is_none() => {
            hosted::cachix_file::lacks_token(name, config_file.as_deref())
        }
        _ => None,
    };
    if let Some((what, remedy)) = lacks {
        found.warnings.push(problem(&format!("[[caches]] {}", cache.id), what, &remedy));
    }
}

fn problem(place: &str, what: String, remedy: &str) -> Problem {
    Problem { line: None, place: place.into(), what, remedy: remedy.into() }
}

/// A secret key is `name:base64` of 64 bytes; its content never leaves this function.
fn secret_key(file: &Path) -> Result<(), Unusable> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| Unusable::unread(&shown.to_string(), &error))?;
    let shape = text.trim_end().split_once(':').filter(|(name, _)| !name.is_empty());
    let Some((_, base64)) = shape else {
        return Err(Unusable::Wrong(format!("{shown} holds no `name:base64` secret key")));
    };
    // 64 bytes are 88 characters of base64 with padding.
    let fine = base64.len() == 88
        && base64.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    if fine {
        Ok(())
    } else {
        let what = "holds no secret key: its base64 part is not 64 bytes (is it the public one?)";
        Err(Unusable::Wrong(format!("{shown} {what}")))
    }
}

fn not_a_program(program: &str) -> Option<Unusable> {
    let executable = |meta: &fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
    if program.contains('/') {
        return match fs::metadata(program) {
            Ok(meta) if executable(&meta) => None,
            Err(error) if is_absent(&error) => {
                Some(Unusable::Absent(format!("program {program} is not there")))
            }
            Ok(_) | Err(_) => Some(Unusable::Wrong(format!("program {program} is not executable"))),
        };
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .any(|folder| fs::metadata(folder.join(program)).is_ok_and(|meta| executable(&meta)));
    (!found).then(|| Unusable::Absent(format!("program {program} is not on PATH")))
}
