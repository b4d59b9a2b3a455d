//! The variables of a confined child. In: those it is asked to be given. Out: all that it has, or which setting in
//! them is not for code of outsiders.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use nix_store::process::Environment;

use super::view::{CERTIFICATES, as_seen};
use super::{Confinement, HOME, PROXY_PORT, SandboxError, StoreAccess};

/// The variables a confined child keeps. All others are left out, whoever sets them: what they say is about the outside, or
/// for nobody inside. `HOME`, `TMPDIR`, `NIX_REMOTE` and those for the way out are the sandbox's own.
pub const VARIABLES: [&str; 16] = [
    "GC_INITIAL_HEAP_SIZE",
    "GC_MAXIMUM_HEAP_SIZE",
    "LANG",
    "LC_ALL",
    "NIX_CONFIG",
    "NIX_CONF_DIR",
    "NIX_LOG_DIR",
    "NIX_PATH",
    "NIX_SHOW_STATS",
    "NIX_STATE_DIR",
    "NIX_STORE_DIR",
    "NIX_USER_CONF_FILES",
    "NO_COLOR",
    "PATH",
    "TERM",
    "TZ",
];

/// Settings of Nix that hold logins, say where some are, or turn to another store than the one that is meant.
const NOT_INSIDE: [&str; 11] = [
    "access-tokens",
    "binary-cache-secret-key-file",
    "build-hook",
    "builders",
    "diff-hook",
    "netrc-file",
    "plugin-files",
    "post-build-hook",
    "secret-key-file",
    "secret-key-files",
    "store",
];
/// Where programs are looked for inside, behind what of `PATH` is there as well.
const PATH: [&str; 2] = ["/usr/bin", "/bin"];

/// The variables inside: nothing of ours is inherited, not even by bubblewrap itself, whose own variables stand in
/// `/proc/1/environ`.
pub(super) fn environment(
    asked: &Environment,
    confinement: &Confinement,
) -> Result<Environment, SandboxError> {
    let mut changes: Vec<(OsString, Option<OsString>)> = Vec::new();
    for (name, value) in &asked.changes {
        let kept = name.to_str().is_some_and(|name| VARIABLES.contains(&name));
        if let (true, Some(value)) = (kept, value) {
            no_secrets(name, value)?;
            changes.push((name.clone(), Some(value.clone())));
        }
    }
    let remote = match confinement.store {
        StoreAccess::None => "dummy://",
        StoreAccess::Daemon { .. } => "daemon",
    };
    let path =
        asked.changes.iter().rev().find(|(name, _)| name == "PATH").and_then(|(_, path)| path.as_deref());
    let ours = [
        ("HOME", OsString::from(HOME)),
        ("PATH", path_inside(path)),
        ("TMPDIR", OsString::from("/tmp")),
        ("NIX_REMOTE", OsString::from(remote)),
    ];
    changes.extend(ours.map(|(name, value)| (name.into(), Some(value))));
    if confinement.door.is_some() {
        let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
        let names = ["http_proxy", "https_proxy"].map(|name| (name, proxy.as_str()));
        let files = ["NIX_SSL_CERT_FILE", "GIT_SSL_CAINFO"].map(|name| (name, CERTIFICATES));
        changes.extend(names.into_iter().chain(files).map(|(name, value)| (name.into(), Some(value.into()))));
    }
    Ok(Environment { clear: true, changes })
}

fn no_secrets(name: &OsStr, value: &OsStr) -> Result<(), SandboxError> {
    let text = value.to_string_lossy();
    if has_login(&text) {
        return Err(SandboxError::Login { variable: name.to_string_lossy().into_owned() });
    }
    if name != "NIX_CONFIG" {
        return Ok(());
    }
    let set = |setting: &&str| {
        text.lines().filter_map(|line| line.split_once('=')).any(|(word, value)| {
            // `extra-` adds to a setting; without a value nothing is said.
            word.trim().trim_start_matches("extra-") == *setting && !value.trim().is_empty()
        })
    };
    match NOT_INSIDE.into_iter().find(|setting| set(setting)) {
        Some(name) => Err(SandboxError::Setting { name }),
        None => Ok(()),
    }
}

/// Is there a URL with a user, as `https://user:word@host/`? A comment goes inside as well, so it counts.
fn has_login(text: &str) -> bool {
    let hosts = text.split("://").skip(1).filter_map(|rest| {
        rest.split(|c: char| c == '/' || c.is_whitespace()).next() // what stands before the path
    });
    hosts.into_iter().any(|host| host.contains('@'))
}

/// Those folders of a `PATH` that are inside, as they are named there.
fn path_inside(path: Option<&OsStr>) -> OsString {
    let asked = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in asked.iter().filter_map(|folder| as_seen(folder)).chain(PATH.map(PathBuf::from)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    // A folder with a colon cannot be in a PATH; none came out of one.
    std::env::join_paths(folders).unwrap_or_else(|_| PATH.join(":").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_path_what_is_inside_is_kept() {
        let path = path_inside(Some(OsStr::new("/home/me/bin:/usr/bin:/nonexistent:/tmp:/usr/sbin")));
        assert_eq!(path, "/usr/bin:/usr/sbin:/bin");
        assert_eq!(path_inside(None), "/usr/bin:/bin");
    }

    #[test]
    fn a_url_with_a_login_is_named_wherever_it_stands() {
        let said = |name: &str, text: &str| {
            no_secrets(OsStr::new(name), OsStr::new(text)).map_err(|error| error.to_string())
        };
        for text in [
            "substituters = https://user:hunter2@cache.example/",
            "cores = 1\nextra-substituters = https://cache.example https://word@cache.example",
            "trusted-substituters = http://a:b?c#d@cache.example",
            "# https://user:hunter2@cache.example",
        ] {
            let said = said("NIX_CONFIG", text).unwrap_err();
            assert!(
                said.contains("NIX_CONFIG has a URL with a login") && !said.contains("hunter2"),
                "{said}"
            );
        }
        let path = "a=/x:nixpkgs=https://user:hunter2@example.org/x.tar.gz";
        assert!(said("NIX_PATH", path).unwrap_err().contains("NIX_PATH has a URL with a login"));
        for text in
            ["substituters = https://cache.example/a@b", "x = me@example.org", "://", "a = file:///x@y"]
        {
            assert_eq!(said("NIX_CONFIG", text), Ok(()), "{text}");
        }
        assert_eq!(said("NIX_PATH", "a=https://example.org/x:b=/home/me@work"), Ok(()));
    }

    #[test]
    fn a_setting_with_a_login_is_named() {
        let said = |text: &str| {
            no_secrets(OsStr::new("NIX_CONFIG"), OsStr::new(text)).map_err(|error| error.to_string())
        };
        for text in [
            "access-tokens = github.com=x",
            "a = b\nextra-access-tokens=x",
            " netrc-file = /x",
            "builders = ssh://host x86_64-linux /root/key",
            "store = daemon",
        ] {
            assert!(said(text).unwrap_err().contains("NIX_CONFIG sets "), "{text}");
        }
        for text in ["", "substituters = access-tokens", "cores = 1\n# access-tokens", "builders =\n"] {
            assert_eq!(said(text), Ok(()), "{text}");
        }
    }
}
