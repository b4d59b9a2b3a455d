//! How paths get to a destination: what `cache_type`, `destination`, `command` and `ssh_key_file` of a `[[caches]]` block
//! say.
//!
//! In flows the block's section; out flows a checked `CacheKind`, or entries in the report. Leaves out the other keys, and
//! where names lead: that is known when they are connected to.

use std::path::PathBuf;

use nix_store::copy::{Kind, StoreUrl};
use nix_types::cache_url::{CacheUrlError, Place};
use nix_types::{CacheUrl, SshUrl, SshUrlError};
use service_kit::config::{Located, Section};
use service_kit::http::{Reach, check_literal};

use super::{LOCAL_STORE, QueueConfig, hosted};
use crate::push::hosted::token::AtticPlace;

/// How paths get to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKind {
    /// A binary cache, served in this process.
    Native {
        /// Where it is and how it is written.
        url: Box<CacheUrl>,
    },
    /// The Nix of another machine, reached by ssh and spoken to in this process.
    Ssh {
        /// Where it is, with the key that is configured for it.
        url: Box<SshUrl>,
    },
    /// Any other store that Nix knows: `nix copy --to URL`.
    NixCopy {
        /// The store.
        url: StoreUrl,
    },
    /// A cache of Attic, served in this process.
    Attic {
        /// The destination as it was written.
        named: String,
        /// Where it is.
        place: AtticPlace,
    },
    /// A cache of Cachix, served in this process.
    Cachix {
        /// The cache's name.
        name: String,
        /// Its `cachix.dhall`, when it is not at the usual place.
        config_file: Option<PathBuf>,
    },
    /// A service's own program, once per batch.
    Cli {
        /// `cachix` or `attic`.
        kind: &'static str,
        /// Program and arguments, before the paths.
        argv: Vec<String>,
    },
    /// A program of the operator's, once per batch.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
    },
    /// The built-in destination that signs the local store.
    SignStore,
}

impl CacheKind {
    /// What makes it this destination and no other, without credentials.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Native { url } => url.identity(),
            Self::Ssh { url } => url.to_string(),
            Self::NixCopy { url } => url.to_string(),
            Self::Attic { named, .. } => format!("attic {named}"),
            Self::Cachix { name, .. } => format!("cachix {name}"),
            Self::Cli { argv, .. } => argv.join(" "),
            Self::Command { argv } => format!("command {}", argv.join(" ")),
            Self::SignStore => LOCAL_STORE.to_owned(),
        }
    }
}

/// Reads how paths get there; `None` when that cannot be told, which the report then says.
pub(super) fn read(section: &Section, queue: &QueueConfig, reach: Reach) -> Option<CacheKind> {
    let cache_type = section.string("cache_type");
    let destination = section.string("destination");
    let command = section.strings("command");
    let ssh_key_file = section.path("ssh_key_file");
    let Some(cache_type) = cache_type else {
        section
            .missing("cache_type", "write cache_type = \"nix-copy\", \"attic\", \"cachix\" or \"command\"");
        return None;
    };
    let line = Some(cache_type.line);
    match cache_type.value.as_str() {
        "nix-copy" => {
            if let Some(command) = command {
                section.refuse("command", Some(command.line), "is for cache_type = \"command\"", "remove it");
            }
            let Some(text) = destination else {
                section.missing("destination", "write a store URL, such as \"file:///srv/cache\"");
                return None;
            };
            read_url(section, &text, ssh_key_file, queue, reach)
        }
        "command" => {
            if let Some(text) = destination {
                section.refuse("destination", Some(text.line), "means nothing to a command", "remove it");
            }
            if let Some(key) = ssh_key_file {
                section.refuse("ssh_key_file", Some(key.line), "means nothing to a command", "remove it");
            }
            read_command(section, command)
        }
        kind @ ("attic" | "cachix") => {
            if let Some(command) = command {
                section.refuse("command", Some(command.line), "is for cache_type = \"command\"", "remove it");
            }
            if let Some(key) = ssh_key_file {
                section.refuse("ssh_key_file", Some(key.line), "is for ssh:// and ssh-ng://", "remove it");
            }
            let found = if kind == "attic" {
                hosted::attic(section, destination, reach)
            } else {
                hosted::cachix(section, destination)
            };
            hosted::driven(section, found)
        }
        other => {
            let what = format!("`{other}` is no cache type");
            section.refuse(
                "cache_type",
                line,
                what,
                "write \"nix-copy\", \"attic\", \"cachix\" or \"command\"",
            );
            None
        }
    }
}

fn read_command(section: &Section, command: Option<Located<Vec<Located<String>>>>) -> Option<CacheKind> {
    let Some(command) = command else {
        section.missing("command", "write command = [\"/path/of/program\", \"argument\"]");
        return None;
    };
    let argv: Vec<String> = command.value.into_iter().map(|word| word.value).collect();
    if argv.first().is_none_or(String::is_empty) || argv.iter().any(|word| word.contains('\0')) {
        let what = "must begin with a program, and hold no NUL";
        section.refuse("command", Some(command.line), what, "write [\"/path/of/program\"]");
        return None;
    }
    Some(CacheKind::Command { argv })
}

/// A binary cache is served in this process; what is none goes to `nix copy`.
fn read_url(
    section: &Section,
    text: &Located<String>,
    ssh_key_file: Option<Located<PathBuf>>,
    queue: &QueueConfig,
    reach: Reach,
) -> Option<CacheKind> {
    let line = Some(text.line);
    match CacheUrl::parse(&text.value) {
        Ok(url) => {
            if let Some(key) = ssh_key_file {
                section.refuse("ssh_key_file", Some(key.line), "is for ssh:// and ssh-ng://", "remove it");
            }
            if let Err(refused) = check_literal(&address(&url), reach) {
                section.refuse("destination", line, refused.what(), refused.remedy());
            }
            for parameter in &url.params.ignored {
                let what = format!("has the parameter {parameter}, which means nothing for what is sent");
                section.warn("destination", line, what, "remove it");
            }
            return Some(CacheKind::Native { url: Box::new(url) });
        }
        Err(CacheUrlError::Scheme { .. }) => {}
        Err(why) => {
            section.refuse("destination", line, why.to_string(), "correct the URL");
            return None;
        }
    }
    match SshUrl::parse(&text.value) {
        Ok(url) => {
            return Some(CacheKind::Ssh { url: Box::new(with_ssh_key(section, line, url, ssh_key_file)) });
        }
        Err(SshUrlError::Scheme { .. }) => {}
        Err(why) => {
            section.refuse("destination", line, why.to_string(), "correct the URL");
            return None;
        }
    }
    if let Some(key) = ssh_key_file {
        section.refuse("ssh_key_file", Some(key.line), "is for ssh:// and ssh-ng://", "remove it");
    }
    let url = match StoreUrl::parse(&text.value) {
        Ok(url) => url,
        Err(why) => {
            section.refuse("destination", line, why.to_string(), "write a store URL that Nix knows");
            return None;
        }
    };
    signed_before(section, &url, line, queue);
    Some(CacheKind::NixCopy { url })
}

/// Where a cache is spoken to; empty where it is not, or where the host follows from the region.
fn address(url: &CacheUrl) -> String {
    match (&url.place, &url.params.s3.endpoint) {
        (Place::Http { base, .. }, _) => base.clone(),
        (Place::S3 { .. }, Some(endpoint)) if endpoint.contains("://") => endpoint.clone(),
        (Place::S3 { .. }, Some(endpoint)) => format!("https://{endpoint}"),
        (Place::S3 { .. }, None) | (Place::File { .. }, _) => String::new(),
    }
}

fn with_ssh_key(
    section: &Section,
    line: Option<u32>,
    mut url: SshUrl,
    key: Option<Located<PathBuf>>,
) -> SshUrl {
    for parameter in &url.params.ignored {
        let what = format!("has the parameter {parameter}, which means nothing for what is sent");
        section.warn("destination", line, what, "remove it");
    }
    if let Some(key) = key {
        if url.params.ssh_key.is_some() {
            let what = "is named twice: the destination has the parameter ssh-key";
            section.refuse("ssh_key_file", Some(key.line), what, "keep one of them");
        }
        url.params.ssh_key = Some(key.value);
    }
    url
}

/// `nix copy` signs nothing on its way to a store that is no binary cache.
fn signed_before(section: &Section, url: &StoreUrl, line: Option<u32>, queue: &QueueConfig) {
    if queue.sign_store || queue.signing_key_files.is_empty() || url.kind() == Kind::BinaryCache {
        return;
    }
    let what = "paths copied to this kind of store are not signed on the way, but signing_key_files is set";
    section.refuse(
        "destination",
        line,
        what,
        "set [queue] sign_store = true, so that they are signed before",
    );
}
