//! Where a Nix store of another machine is and how it is reached, as one URL in Nix' spelling:
//! `ssh-ng://nix-ssh@cache.example.org?compress=true`. The text comes in; a checked machine and typed parameters come
//! out, or what is wrong with it and what to write instead. Every parameter is one that Nix knows, is there once, and
//! has a value of its kind; nothing of it can be taken for an option by ssh. Opens nothing and reads no file it names.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use near_name::nearest;

use crate::cache_url::percent;
use crate::text::{is_word, shown};

/// Longest URL, in bytes.
pub const URL_MAX: usize = 8192;
/// Longest name of a user or machine, in bytes.
pub const NAME_MAX: usize = 255;
/// Most connections that may be asked for at once.
pub const CONNECTIONS_MAX: u32 = 256;

/// The URL of a store that is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshUrl {
    /// What is spoken there.
    pub speech: Speech,
    /// As whom to log in; ssh's own choice when `None`.
    pub user: Option<String>,
    /// The machine: a name, an address, or a `Host` of ssh's configuration.
    pub host: String,
    /// Its port; ssh's own choice when `None`.
    pub port: Option<u16>,
    /// The rest.
    pub params: SshParams,
    /// As it was given.
    shown: String,
}

/// What is spoken over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// `ssh://`: that of `nix-store --serve`.
    Serve,
    /// `ssh-ng://`: that of the Nix daemon.
    Worker,
}

impl Speech {
    /// The scheme of its URLs.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Serve => "ssh",
            Self::Worker => "ssh-ng",
        }
    }

    /// The program that speaks it, unless the URL names another, and its arguments.
    #[must_use]
    pub const fn program(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Serve => ("nix-store", &["--serve", "--write"]),
            Self::Worker => ("nix-daemon", &["--stdio"]),
        }
    }
}

/// What the URL says behind its question mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshParams {
    /// The program to be run there, words of a command line; `None` for that of the speech.
    pub remote_program: Option<String>,
    /// The store it is to open; its own choice when `None`.
    pub remote_store: Option<String>,
    /// The private key to log in with.
    pub ssh_key: Option<PathBuf>,
    /// Whether ssh compresses what it sends.
    pub compress: bool,
    /// Most connections at once; at least 1.
    pub max_connections: u32,
    /// A connection that is older is not used again.
    pub max_connection_age: Option<Duration>,
    /// The machine's public key, type and base 64: no other is believed.
    pub host_key: Option<String>,
    /// Names of those that mean nothing for what is sent.
    pub ignored: Vec<&'static str>,
}

impl Default for SshParams {
    fn default() -> Self {
        Self {
            remote_program: None,
            remote_store: None,
            ssh_key: None,
            compress: false,
            max_connections: 1,
            max_connection_age: None,
            host_key: None,
            ignored: Vec::new(),
        }
    }
}

/// Why a text is no URL of a store that is reached by ssh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshUrlError {
    /// Empty, too long, or with characters a URL cannot have.
    #[error(
        "`{shown}` is not a URL: it must have 1 to {URL_MAX} printable ASCII characters and no space (write %20)"
    )]
    Form {
        /// The start of the text, escaped.
        shown: String,
    },
    /// Another kind of store.
    #[error("`{shown}` is not reached by ssh: that begins with ssh:// or ssh-ng://")]
    Scheme {
        /// The start of the text, escaped.
        shown: String,
    },
    /// What is before the parameters.
    #[error("`{shown}` names no machine that ssh could be given: {why}")]
    Address {
        /// The part, escaped.
        shown: String,
        /// Why, and what to write.
        why: &'static str,
    },
    /// A parameter that Nix does not know.
    #[error("a store that is reached by ssh has no parameter `{name}`; {}", remedy(*.near))]
    Unknown {
        /// Its name, escaped.
        name: String,
        /// The known one it is nearest to.
        near: Option<&'static str>,
    },
    /// A parameter without `=`, or one that cannot be decoded.
    #[error(
        "the parameter `{name}` is not a name, `=` and a value; in a value, write %26 for `&` and %25 for `%`"
    )]
    NoValue {
        /// What there is of its name, escaped.
        name: String,
    },
    /// A parameter that is there twice.
    #[error("the parameter {name} is there twice; remove one")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// A parameter that cannot be honoured.
    #[error("the parameter {name} {why}")]
    Refused {
        /// Its name.
        name: &'static str,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A value that is none for its parameter.
    #[error("the parameter {name} is `{value}`, but must be {wanted}")]
    Value {
        /// Its name.
        name: &'static str,
        /// Its value, escaped.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
}

fn remedy(near: Option<&'static str>) -> String {
    near.map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"))
}

type Read<T> = Result<T, SshUrlError>;

impl SshUrl {
    /// Reads the URL.
    ///
    /// # Errors
    /// [`SshUrlError`]; [`SshUrlError::Scheme`] says that it may be the URL of another kind of store.
    pub fn parse(text: &str) -> Result<Self, SshUrlError> {
        if text.len() > URL_MAX || !is_word(text) {
            return Err(SshUrlError::Form { shown: shown(text.as_bytes()) });
        }
        let (speech, rest) = match text.split_once("://") {
            Some(("ssh", rest)) => (Speech::Serve, rest),
            Some(("ssh-ng", rest)) => (Speech::Worker, rest),
            Some(_) | None => return Err(SshUrlError::Scheme { shown: shown(text.as_bytes()) }),
        };
        let (machine, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, host, port) =
            address(machine).map_err(|why| SshUrlError::Address { shown: shown(machine.as_bytes()), why })?;
        Ok(Self { speech, user, host, port, params: params(query)?, shown: text.to_owned() })
    }

    /// Whether the machine is this one, for which Nix runs the program without ssh.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.host == "localhost" && self.user.is_none() && self.port.is_none()
    }
}

/// As it was given: it can hold no password.
impl fmt::Display for SshUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

type Address = (Option<String>, String, Option<u16>);

/// `user@host:port`, where no part can be an option of ssh or mean anything to a shell.
fn address(text: &str) -> Result<Address, &'static str> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    if user.is_some_and(|user| user.contains(':')) {
        return Err("ssh takes no password; write user@host and give it a key");
    }
    if user.is_some_and(|user| !is_name(user, b"._-+$@")) {
        return Err("a user is letters, digits and `._-+$@`, and does not begin with a dash");
    }
    if host.contains('/') {
        return Err("there is no path behind the machine; another store there is named by remote-store=");
    }
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) =
                rest.split_once(']').ok_or("an address that begins with `[` ends with `]`")?;
            let port = match behind.strip_prefix(':') {
                None if behind.is_empty() => None,
                None => return Err("behind `]` there is nothing, or `:` and a port"),
                Some(port) => Some(port),
            };
            (host, port)
        }
        None => match host.split_once(':') {
            // More than one colon: an address without brackets, which has no port.
            Some((_, port)) if port.contains(':') => (host, None),
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    if !is_name(host, b"._-:%") {
        return Err("a machine is letters, digits and `._-`, or an address, and does not begin with a dash");
    }
    let number = |port: &str| port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok()).flatten();
    let port = match port {
        None => None,
        Some(port) => {
            Some(number(port).filter(|port| *port > 0).ok_or("a port is a number from 1 to 65535")?)
        }
    };
    Ok((user.map(str::to_owned), host.to_owned(), port))
}

fn is_name(text: &str, also: &[u8]) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || also.contains(&byte);
    !text.is_empty() && text.len() <= NAME_MAX && !text.starts_with('-') && text.bytes().all(plain)
}

type Set = fn(&mut SshParams, &Value) -> Read<()>;

/// Every parameter Nix knows for these stores, up to 2.35.
static KNOWN: &[(&str, Set)] = &[
    ("remote-program", |p, v| put(&mut p.remote_program, v.words().map(Some))),
    ("remote-store", |p, v| put(&mut p.remote_store, v.text().map(|text| Some(text.to_owned())))),
    ("ssh-key", |p, v| put(&mut p.ssh_key, v.path().map(Some))),
    ("compress", |p, v| put(&mut p.compress, v.flag())),
    ("max-connections", |p, v| put(&mut p.max_connections, v.number(1, CONNECTIONS_MAX, "from 1 to 256"))),
    ("max-connection-age", |p, v| {
        let seconds = v.number(1, u32::MAX, "a number of seconds from 1 up");
        put(&mut p.max_connection_age, seconds.map(|seconds| Some(Duration::from_secs(u64::from(seconds)))))
    }),
    (HOST_KEY, |p, v| put(&mut p.host_key, v.host_key().map(Some))),
    ("store", |_, v| v.refuse("is not honoured: paths keep the folder they were built for; remove it")),
    ("log-fd", |_, v| v.refuse("is not honoured: what the other side says is kept; remove it")),
    ("path-info-cache-size", |p, v| ignore(p, v)),
    ("priority", |p, v| ignore(p, v)),
    ("system-features", |p, v| ignore(p, v)),
    ("trusted", |p, v| ignore(p, v)),
    ("want-mass-query", |p, v| ignore(p, v)),
];

const HOST_KEY: &str = "base64-ssh-public-host-key";

fn put<T>(field: &mut T, value: Read<T>) -> Read<()> {
    *field = value?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "as all that set a parameter")]
fn ignore(params: &mut SshParams, value: &Value) -> Read<()> {
    params.ignored.push(value.name);
    Ok(())
}

fn params(query: &str) -> Read<SshParams> {
    let mut params = SshParams::default();
    let mut seen: Vec<&str> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or(pair);
        let no_value = || SshUrlError::NoValue { name: shown(name.as_bytes()) };
        let (name, value) = pair.split_once('=').ok_or_else(no_value)?;
        let name = percent::decode(name).ok_or_else(no_value)?;
        let bytes = percent::decode(value).ok_or_else(no_value)?;
        let Some((name, set)) = KNOWN.iter().find(|(known, _)| known.as_bytes() == name) else {
            let near = nearest(&String::from_utf8_lossy(&name), KNOWN.iter().map(|(known, _)| *known));
            return Err(SshUrlError::Unknown { name: shown(&name), near });
        };
        if seen.contains(name) {
            return Err(SshUrlError::Twice { name });
        }
        seen.push(name);
        set(&mut params, &Value { name, bytes })?;
    }
    Ok(params)
}

/// A value and whose it is.
struct Value {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Value {
    fn fail(&self, wanted: &'static str) -> SshUrlError {
        SshUrlError::Value { name: self.name, value: shown(&self.bytes), wanted }
    }

    fn refuse(&self, why: &'static str) -> Read<()> {
        Err(SshUrlError::Refused { name: self.name, why })
    }

    /// Printable text, not empty.
    fn text(&self) -> Read<&str> {
        let text = std::str::from_utf8(&self.bytes).ok();
        text.filter(|text| !text.is_empty() && text.chars().all(hook_wire::is_printable))
            .ok_or_else(|| self.fail("printable text"))
    }

    fn words(&self) -> Read<String> {
        let text = self.text()?;
        let first = text.split_whitespace().next();
        if first.is_none_or(|first| first.starts_with('-')) {
            return Err(self.fail("a program, and arguments behind it"));
        }
        Ok(text.to_owned())
    }

    fn flag(&self) -> Read<bool> {
        match self.bytes.as_slice() {
            b"true" | b"yes" | b"1" => Ok(true),
            b"false" | b"no" | b"0" => Ok(false),
            _ => Err(self.fail("true or false")),
        }
    }

    fn number(&self, min: u32, max: u32, wanted: &'static str) -> Read<u32> {
        let text =
            std::str::from_utf8(&self.bytes).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let number = text.and_then(|text| text.parse().ok());
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| self.fail(wanted))
    }

    fn path(&self) -> Read<PathBuf> {
        if self.bytes.first() != Some(&b'/') || self.bytes.contains(&0) {
            return Err(self.fail("an absolute path"));
        }
        Ok(PathBuf::from(OsString::from_vec(self.bytes.clone())))
    }

    /// Type and base 64 of one key, in base 64 once more.
    fn host_key(&self) -> Read<String> {
        let wanted = "a line of a machine's public key file, such as `ssh-ed25519 AAAA…`, in base 64";
        let line = STANDARD.decode(&self.bytes).ok().and_then(|line| String::from_utf8(line).ok());
        let line = line.ok_or_else(|| self.fail(wanted))?;
        let mut words = line.split([' ', '\t', '\n']).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some(kind), Some(key))
                if is_name(kind, b"._-@")
                    && STANDARD.decode(key).is_ok()
                    && line.trim_end().lines().count() == 1 =>
            {
                Ok(format!("{kind} {key}"))
            }
            (_, _) => Err(self.fail(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> SshUrl {
        SshUrl::parse(text).unwrap()
    }

    fn why(text: &str) -> String {
        SshUrl::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_machine_in_each_of_its_forms() {
        let plain = parse("ssh://far");
        assert_eq!((plain.speech, plain.host.as_str(), plain.port), (Speech::Serve, "far", None));
        let full = parse("ssh-ng://nix-ssh@far.example.org:2222/?compress=true");
        assert_eq!((full.speech, full.user.as_deref()), (Speech::Worker, Some("nix-ssh")));
        assert_eq!(
            (full.host.as_str(), full.port, full.params.compress),
            ("far.example.org", Some(2222), true)
        );
        assert_eq!((parse("ssh://[::1]:22").host.as_str(), parse("ssh://[::1]:22").port), ("::1", Some(22)));
        assert_eq!((parse("ssh://fe80::1%25eth0").host.as_str()), "fe80::1%25eth0");
        assert_eq!(parse("ssh://a@b@c").user.as_deref(), Some("a@b"));
        assert!(parse("ssh://localhost").is_here() && !parse("ssh://me@localhost").is_here());
        assert_eq!(full.to_string(), "ssh-ng://nix-ssh@far.example.org:2222/?compress=true");
    }

    #[test]
    fn nothing_of_it_can_be_an_option_or_mean_something_to_a_shell() {
        for bad in [
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-a@h",
            "ssh://me@-h",
            "ssh://h;x",
            "ssh://h$(x)",
            "ssh://a`b@h",
            "ssh://me:word@h",
            "ssh://h/path",
            "ssh://[::1",
            "ssh://[::1]x",
            "ssh://h:",
            "ssh://h:0",
            "ssh://h:65536",
            "ssh://h:-1",
            "ssh://h:+1",
            "ssh://@h",
            "ssh://'h'",
            "ssh://h|x",
            "ssh://h\\x",
        ] {
            assert!(matches!(SshUrl::parse(bad), Err(SshUrlError::Address { .. })), "{bad}");
        }
        assert!(matches!(SshUrl::parse("ssh://h x"), Err(SshUrlError::Form { .. })));
        assert!(matches!(SshUrl::parse("s3://h"), Err(SshUrlError::Scheme { .. })));
    }

    #[test]
    fn parameters_are_honoured_ignored_or_refused_by_name() {
        let all = parse(
            "ssh-ng://h?remote-program=/run/nix%20daemon&remote-store=/srv/a%20b&ssh-key=/k&max-connections=3\
             &max-connection-age=60&priority=3&trusted=1&base64-ssh-public-host-key=c3NoLWVkMjU1MTkgQUFBQSByb290QGgK",
        );
        let p = all.params;
        assert_eq!(p.remote_program.as_deref(), Some("/run/nix daemon"));
        assert_eq!((p.remote_store.as_deref(), p.ssh_key), (Some("/srv/a b"), Some("/k".into())));
        assert_eq!((p.max_connections, p.max_connection_age), (3, Some(Duration::from_secs(60))));
        assert_eq!(
            (p.host_key.as_deref(), p.ignored),
            (Some("ssh-ed25519 AAAA"), vec!["priority", "trusted"])
        );
        for (query, says) in [
            ("compres=1", "has no parameter `compres`; did you mean compress?"),
            ("compress", "the parameter `compress` is not a name"),
            ("compress=1&compress=0", "compress is there twice"),
            ("compress=maybe", "but must be true or false"),
            ("max-connections=0", "from 1 to 256"),
            ("max-connections=+1", "from 1 to 256"),
            ("ssh-key=id", "an absolute path"),
            ("remote-program=-x", "a program"),
            ("remote-store=", "printable text"),
            ("store=/other", "the parameter store is not honoured"),
            ("base64-ssh-public-host-key=QUFBQQ==", "a line of a machine's public key file"),
            ("base64-ssh-public-host-key=IQ", "a line of a machine's public key file"),
        ] {
            let said = why(&format!("ssh://h?{query}"));
            assert!(said.contains(says), "{query}: {said}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_safe(text in "ssh(-ng)?://[-a-z@:.\\[\\]/%?&=;$]{0,30}") {
            if let Ok(url) = SshUrl::parse(&text) {
                prop_assert!(!url.host.starts_with('-') && !url.host.is_empty());
                prop_assert!(url.user.iter().all(|user| !user.starts_with('-') && !user.is_empty()));
                prop_assert_eq!(url.to_string(), text);
            }
        }
    }
}
