//! Where a repository is and how one proves to be allowed to read it. Text comes in; an address that git can take for
//! nothing but that comes out. A credential never becomes part of an address or an argument: it travels in git's
//! environment, and nothing prints it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use service_kit::secret::Secret;

use super::CheckoutError;
use super::git::Command;

/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 2048;

/// A repository's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remote(Address);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Address {
    /// `https://…`, or `http://` on this machine.
    Web { scheme: &'static str, url: String },
    /// `ssh://[user@]host[:port]/path`.
    Ssh { url: String },
    /// A repository on this machine.
    Local { path: PathBuf },
}

/// What proves that we may read a repository. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A user and a password or token, for `https`.
    Login {
        /// The user; forges take any beside a token, such as `x-access-token`.
        user: String,
        /// The password or token.
        password: Secret,
    },
    /// A private key without a passphrase, for `ssh`. Only servers whose keys are known are spoken to.
    Key {
        /// The key's file, readable by us alone.
        key_file: PathBuf,
        /// The servers' keys, as in `~/.ssh/known_hosts`.
        known_hosts_file: PathBuf,
    },
}

impl FromStr for Remote {
    type Err = CheckoutError;

    /// `https://`, `ssh://`, `file://` or an absolute path.
    fn from_str(text: &str) -> Result<Self, CheckoutError> {
        let bad = |why| Err(CheckoutError::Remote { remote: without_login(text), why });
        if text.len() > ADDRESS_BYTES_MAX || text.contains(char::is_control) {
            return bad("at most 2048 bytes in one line are expected");
        }
        if let Some(rest) = text.strip_prefix("https://") {
            return match check_web(rest) {
                Ok(()) => {
                    Ok(Self(Address::Web { scheme: "https", url: text.trim_end_matches('/').to_owned() }))
                }
                Err(why) => bad(why),
            };
        }
        if let Some(rest) = text.strip_prefix("ssh://") {
            return match check_ssh(rest) {
                Ok(()) => Ok(Self(Address::Ssh { url: text.trim_end_matches('/').to_owned() })),
                Err(why) => bad(why),
            };
        }
        if let Some(path) = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') {
                Ok(Self(Address::Local { path: PathBuf::from(path) }))
            } else {
                bad("file:// is followed by an absolute path")
            };
        }
        bad("https://HOST/PATH, ssh://USER@HOST/PATH, file:///PATH or an absolute path is expected")
    }
}

impl Remote {
    /// A repository on this machine.
    ///
    /// # Errors
    /// [`CheckoutError::Remote`] when the path is not absolute.
    pub fn local(path: &Path) -> Result<Self, CheckoutError> {
        if path.is_absolute() {
            return Ok(Self(Address::Local { path: path.to_owned() }));
        }
        Err(CheckoutError::Remote { remote: path.display().to_string(), why: "an absolute path is expected" })
    }

    /// `http://` without TLS, on a loopback address of this machine and nowhere else: for a forge behind a proxy of its
    /// own, and for tests.
    ///
    /// # Errors
    /// [`CheckoutError::Remote`] for anything else.
    pub fn http_on_loopback(text: &str) -> Result<Self, CheckoutError> {
        let bad = |why| CheckoutError::Remote { remote: without_login(text), why };
        let rest = text.strip_prefix("http://").ok_or_else(|| bad("http:// is expected"))?;
        check_web(rest).map_err(bad)?;
        let host = host_of(rest.split('/').next().unwrap_or_default());
        let is_loopback = host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        if !is_loopback {
            return Err(bad(
                "without TLS only loopback addresses such as 127.0.0.1 are spoken to; use https://",
            ));
        }
        Ok(Self(Address::Web { scheme: "http", url: text.trim_end_matches('/').to_owned() }))
    }

    /// Its path, when it is on this machine.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Address::Local { path } => Some(path),
            Address::Web { .. } | Address::Ssh { .. } => None,
        }
    }

    /// The address as git gets it.
    pub(super) fn url(&self) -> String {
        match &self.0 {
            Address::Web { url, .. } | Address::Ssh { url } => url.clone(),
            Address::Local { path } => format!("file://{}", path.display()),
        }
    }

    /// Lets a command speak to it, with this credential and no other.
    pub(super) fn allow(
        &self,
        command: Command,
        credential: Option<&Credential>,
    ) -> Result<Command, CheckoutError> {
        let unfit = |why| Err(CheckoutError::Remote { remote: self.to_string(), why });
        match (&self.0, credential) {
            (Address::Web { scheme, .. }, None) => Ok(command.transport(scheme)),
            (Address::Web { scheme, url }, Some(Credential::Login { user, password })) => {
                if user.contains([':', '\n', '\r']) {
                    return unfit("its credential's user has a colon or a line break");
                }
                let login = Secret::new(STANDARD.encode(format!("{user}:{}", password.reveal())));
                let header = format!("Authorization: Basic {}", login.reveal());
                // A redirect could lead to somebody who should not see it.
                let command = command.transport(scheme).setting("http.followRedirects", "false");
                Ok(command.setting(format!("http.{url}.extraHeader"), header))
            }
            (Address::Ssh { .. }, Some(Credential::Key { key_file, known_hosts_file })) => {
                let ssh = ssh_command(key_file, known_hosts_file);
                Ok(command.transport("ssh").env("GIT_SSH_COMMAND", ssh).env("GIT_SSH_VARIANT", "ssh"))
            }
            (Address::Ssh { .. }, _) => {
                unfit("ssh needs a key file and a known_hosts file as its credential")
            }
            (Address::Web { .. }, Some(Credential::Key { .. })) => unfit("its credential is a key for ssh"),
            (Address::Local { .. }, _) => unfit("it is on this machine and is not fetched"),
        }
    }
}

/// A shell of git's reads it.
fn ssh_command(key: &Path, known_hosts: &Path) -> String {
    let option = |name: &str, path: &Path| {
        let text = format!("{name}=\"{}\"", path.display());
        format!("'{}'", text.replace('\'', r"'\''"))
    };
    format!(
        "ssh -F /dev/null -o {} -o {} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes -o IdentityAgent=none \
         -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o PermitLocalCommand=no \
         -o ForwardAgent=no -o ClearAllForwardings=yes -o ConnectTimeout=30 -o ServerAliveInterval=30",
        option("IdentityFile", key),
        option("UserKnownHostsFile", known_hosts),
    )
}

/// What follows `https://`.
fn check_web(rest: &str) -> Result<(), &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("a host and a path are expected")?;
    if authority.contains('@') {
        return Err(
            "a user or password in an address would be seen by everybody; configure it as the credential",
        );
    }
    check_authority(authority)?;
    check_path(path)
}

/// What follows `ssh://`.
fn check_ssh(rest: &str) -> Result<(), &'static str> {
    let (authority, path) = rest.split_once('/').ok_or("a host and a path are expected")?;
    let host = match authority.split_once('@') {
        Some((user, _)) if user.contains(':') => {
            return Err(
                "a password in an address would be seen by everybody; configure a key as the credential",
            );
        }
        Some((user, host)) if is_word(user, "._-") => host,
        Some(_) => return Err("the user has odd characters"),
        None => authority,
    };
    check_authority(host)?;
    check_path(path)
}

fn check_authority(authority: &str) -> Result<(), &'static str> {
    let host = host_of(authority);
    let port = &authority[authority.len().min(authority.find(host).unwrap_or(0) + host.len())..];
    let port = port.trim_start_matches(']');
    let is_port = |text: &str| text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    if !(port.is_empty() || is_port(port)) {
        return Err("its port is no number");
    }
    let is_v6 = authority.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    if is_v6 || is_word(host, ".-_") { Ok(()) } else { Err("its host has odd characters") }
}

/// Without port and brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_word(text: &str, also: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.starts_with('-') {
        return Err("a path is expected after its host");
    }
    if path.contains(['?', '#', '\\', ' ', '\'', '"']) || path.split('/').any(|part| part == "..") {
        return Err("its path has odd characters");
    }
    Ok(())
}

/// The address without what may be a password.
fn without_login(text: &str) -> String {
    let text: String = text.chars().take(ADDRESS_BYTES_MAX).collect();
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        (None, Some(at)) => format!("***{}", &text[at..]),
        _ => text,
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Web { url, .. } | Address::Ssh { url } => f.write_str(url),
            Address::Local { path } => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_git_could_take_for_something_else_are_refused() {
        for text in [
            "ext::sh -c true",
            "-uhttps://a/b",
            "--upload-pack=x",
            "https://",
            "https://host",
            "https:///x",
            "https://-oProxyCommand=x/y",
            "ssh://-oProxyCommand=x/y",
            "ssh://u@-oProxyCommand=x/y",
            "git://h/x",
            "http://127.0.0.1/x",
            "fd::7",
            "https://h:99999/x",
            "https://h/x?y",
            "https://h/../x",
            "file://x",
            "rel/x",
            "https://h/\nx",
            "ssh://u:p@h/x",
            "https://u:secret@h/x",
            "https://secret@h/x",
            "host:path",
            "https://h/-x",
        ] {
            let error = Remote::from_str(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn addresses_that_are_taken() {
        for text in [
            "https://h/o/n.git",
            "https://h:8443/o/n",
            "https://[::1]:8443/o",
            "ssh://git@h/o/n",
            "/srv/x",
            "file:///srv/x",
        ] {
            text.parse::<Remote>().unwrap();
        }
        assert_eq!("file:///srv/x".parse::<Remote>().unwrap(), "/srv/x".parse().unwrap());
        Remote::http_on_loopback("http://127.0.0.1:80/x").unwrap();
        Remote::http_on_loopback("http://[::1]:80/x").unwrap();
        for text in [
            "http://10.0.0.1/x",
            "http://localhost.evil/x",
            "http://127.0.0.1.evil/x",
            "http://127.0.0.1@evil/x",
        ] {
            Remote::http_on_loopback(text).unwrap_err();
        }
    }

    #[test]
    fn a_credential_shows_nothing() {
        let login = Credential::Login { user: "u".into(), password: Secret::new("canary") };
        assert!(!format!("{login:?}").contains("canary"));
    }
}
