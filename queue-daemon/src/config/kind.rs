//! How paths get to a destination: what `cache_type`, `destination`, `command` and `ssh_key_file` of a `[[caches]]` block
//! say.
//!
//! In flows the block's section; out flows a checked `CacheKind`, or entries in the report. Leaves out the other keys.

use std::path::PathBuf;

use nix_store::copy::{Kind, StoreUrl};
use nix_types::CacheUrl;
use nix_types::cache_url::CacheUrlError;
use service_kit::config::{Located, Section};

use super::{LOCAL_STORE, QueueConfig};

/// How paths get to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKind {
    /// A binary cache, served in this process.
    Native {
        /// Where it is and how it is written.
        url: Box<CacheUrl>,
    },
    /// Any other store that Nix knows: `nix copy --to URL`.
    NixCopy {
        /// The store, as it was written.
        named: StoreUrl,
        /// The same with the keys that are configured for it.
        url: StoreUrl,
        /// The ssh key named in it, for `check-config`.
        ssh_key_file: Option<PathBuf>,
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
            Self::NixCopy { named, .. } => named.to_string(),
            Self::Command { argv } => format!("command {}", argv.join(" ")),
            Self::SignStore => LOCAL_STORE.to_owned(),
        }
    }
}

/// Reads how paths get there; `None` when that cannot be told, which the report then says.
pub(super) fn read(section: &Section, queue: &QueueConfig) -> Option<CacheKind> {
    let cache_type = section.string("cache_type");
    let destination = section.string("destination");
    let command = section.strings("command");
    let ssh_key_file = section.path("ssh_key_file");
    let Some(cache_type) = cache_type else {
        section.missing("cache_type", "write cache_type = \"nix-copy\" or \"command\"");
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
            read_url(section, &text, ssh_key_file, queue)
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
        "cachix" | "attic" => {
            let what = format!("\"{}\" is not served by this version", cache_type.value);
            section.refuse("cache_type", line, what, "use \"nix-copy\" or \"command\"");
            None
        }
        other => {
            let what = format!("`{other}` is no cache type");
            section.refuse("cache_type", line, what, "write \"nix-copy\" or \"command\"");
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
) -> Option<CacheKind> {
    let line = Some(text.line);
    match CacheUrl::parse(&text.value) {
        Ok(url) => {
            if let Some(key) = ssh_key_file {
                section.refuse("ssh_key_file", Some(key.line), "is for ssh:// and ssh-ng://", "remove it");
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
    let url = match StoreUrl::parse(&text.value) {
        Ok(url) => url,
        Err(why) => {
            section.refuse("destination", line, why.to_string(), "write a store URL that Nix knows");
            return None;
        }
    };
    let named = url.clone();
    let url = with_ssh_key(section, url, ssh_key_file.as_ref());
    signed_before(section, &url, line, queue);
    Some(CacheKind::NixCopy { named, url, ssh_key_file: ssh_key_file.map(|key| key.value) })
}

fn with_ssh_key(section: &Section, url: StoreUrl, key: Option<&Located<PathBuf>>) -> StoreUrl {
    let Some(key) = key else { return url };
    match url.with_ssh_key(&key.value) {
        Ok(with_key) => with_key,
        Err(why) => {
            section.refuse("ssh_key_file", Some(key.line), why.to_string(), "remove it");
            url
        }
    }
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
