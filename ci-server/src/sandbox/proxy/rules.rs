//! Where a confined evaluation may go. In: prefixes of URIs, as a person or an operator wrote them, and what a client of the
//! proxy asks for. Out: yes or no.
//! Pure; addresses are judged where they are dialled.
//!
//! Of `https` the proxy sees a host and a port and nothing of the path: a rule with a path then lets the whole host in. Nix'
//! own `allowed-uris`, which is given the same list, compares whole URLs. Of `http` the path is compared here as well, by
//! whole segments.

use std::fmt;

/// One place that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    secure: bool,
    /// In lower case, IPv6 without brackets.
    host: String,
    port: u16,
    /// Begins with a slash.
    path: String,
}

/// All places that may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    places: Vec<Place>,
}

/// Longest prefix that is taken, in bytes.
pub const URI_BYTES_MAX: usize = 2_048;
/// Most prefixes that are taken.
pub const URIS_MAX: usize = 100;

/// A list of prefixes that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// One of them says no place.
    #[error("{uri:?} cannot be allowed: {wrong}")]
    Uri {
        /// It, as it was written, but for a login.
        uri: String,
        /// What is wrong with it.
        wrong: Wrong,
    },
    /// There are too many.
    #[error("{0} prefixes of URIs are more than {URIS_MAX}: allow what they have in common")]
    TooMany(usize),
}

/// What is wrong with a prefix, and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The proxy speaks nothing of the kind.
    #[error(
        "only what is fetched over http and https can be; write https://HOST/PATH, http://HOST/PATH, github:OWNER, gitlab:OWNER or sourcehut:~OWNER"
    )]
    Scheme,
    /// There is a user before the host.
    #[error("it has a login, which does not go into the sandbox; leave out what stands before the @")]
    Login,
    /// The host or the port is none.
    #[error("its host or port is none; write https://HOST/PATH or https://HOST:PORT/PATH")]
    Host,
    /// A server could read the path in another way than it is judged.
    #[error(
        "its path has `.` or `..`, an escaped slash, dot or percent sign, `#`, or what is not printable ASCII; write it without"
    )]
    Path,
    /// Of a forge everything would be allowed, or a part of it that Nix does not name so.
    #[error(
        "it names no owner; write github:OWNER, github:OWNER/REPOSITORY, or the same of gitlab and sourcehut"
    )]
    Owner,
    /// It is too long.
    #[error("it has more than {URI_BYTES_MAX} bytes; write the beginning alone")]
    Long,
}

/// What a client of the proxy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` for a tunnel, of which nothing more is seen.
    pub(super) path: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, self.path.as_deref().unwrap_or_default())
    }
}

/// Where the forges that Nix knows by short names keep what is fetched from them.
const FORGES: [(&str, &[&str]); 3] = [
    ("github:", &["github.com", "api.github.com", "codeload.github.com"]),
    ("gitlab:", &["gitlab.com"]),
    ("sourcehut:", &["git.sr.ht", "hg.sr.ht"]),
];

impl Rules {
    /// From prefixes of URIs. Nix is given the same list, with a blank between two, so none has a blank in it.
    ///
    /// # Errors
    /// [`RuleError`] at the first prefix that is not taken, or when there are more than [`URIS_MAX`].
    pub fn parse<S: AsRef<str>>(uris: &[S]) -> Result<Self, RuleError> {
        if uris.len() > URIS_MAX {
            return Err(RuleError::TooMany(uris.len()));
        }
        let mut places = Vec::new();
        for uri in uris.iter().map(AsRef::as_ref) {
            let refused = |wrong| RuleError::Uri { uri: without_login(uri), wrong };
            places.extend(places_of(uri).map_err(refused)?);
        }
        Ok(Self { places })
    }

    /// Is there no place at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// May it be asked?
    pub(super) fn allow(&self, target: &Target) -> bool {
        self.places.iter().any(|place| {
            let there = place.host == target.host && place.port == target.port;
            match &target.path {
                None => there && place.secure,
                Some(path) => there && !place.secure && within(path, &place.path),
            }
        })
    }
}

/// Where what begins with this prefix lies.
fn places_of(uri: &str) -> Result<Vec<Place>, Wrong> {
    if uri.len() > URI_BYTES_MAX {
        return Err(Wrong::Long);
    }
    let forge = FORGES.iter().find_map(|(short, hosts)| Some((uri.strip_prefix(short)?, hosts)));
    match forge {
        Some((what, _)) if !is_owner(what) => Err(Wrong::Owner),
        Some((_, hosts)) => {
            let place = |host: &&str| Place {
                secure: true,
                host: (*host).to_owned(),
                port: 443,
                path: "/".to_owned(),
            };
            Ok(hosts.iter().map(place).collect())
        }
        None => Ok(vec![place(uri)?]),
    }
}

/// `OWNER`, `OWNER/REPOSITORY` or `OWNER/REPOSITORY/COMMIT`, as Nix spells them.
fn is_owner(what: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(of_name);
    let what = what.strip_suffix('/').unwrap_or(what);
    what.split('/').all(is_name)
}

fn place(uri: &str) -> Result<Place, Wrong> {
    let uri = uri.strip_prefix("git+").or_else(|| uri.strip_prefix("tarball+")).unwrap_or(uri);
    let (secure, rest) = match (uri.strip_prefix("https://"), uri.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, rest) => (false, rest.ok_or(Wrong::Scheme)?),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Wrong::Login);
    }
    let (host, port) = host_and_port(authority, if secure { 443 } else { 80 }).ok_or(Wrong::Host)?;
    let path = if path.is_empty() { "/" } else { path };
    if !is_plain(path) {
        return Err(Wrong::Path);
    }
    Ok(Place { secure, host, port, path: path.to_owned() })
}

/// As it may be printed.
fn without_login(uri: &str) -> String {
    let scheme_end = uri.find("://").map_or(0, |at| at + 3);
    let host_end = uri[scheme_end..].find('/').map_or(uri.len(), |at| scheme_end + at);
    // A password with a slash in it seems to end the host.
    let of_password = |at: &usize| uri[scheme_end..scheme_end + at].contains(':');
    let login_end = uri[scheme_end..host_end].rfind('@');
    match login_end.or_else(|| uri[scheme_end..].rfind('@').filter(of_password)) {
        Some(at) => format!("{}***{}", &uri[..scheme_end], &uri[scheme_end + at..]),
        None => uri.to_owned(),
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`. Nothing before an `@`: logins have no place here.
pub(super) fn host_and_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().ok()?,
        None if rest.is_empty() => default,
        _ => return None,
    };
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let of_address = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let bracketed = authority.starts_with('[');
    let good = host.bytes().all(|byte| if bracketed { of_address(byte) } else { of_name(byte) });
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (good && !host.is_empty() && port != 0).then_some((host, port))
}

/// No segment of it goes up or nowhere, in any spelling: a server would see another path than was judged.
pub(super) fn is_plain(path: &str) -> bool {
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#');
    let path = path.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let hides = path.contains("%2e") || path.contains("%2f") || path.contains("%5c") || path.contains("%25");
    let goes = path.split('/').any(|segment| segment == "." || segment == "..");
    visible && path.starts_with('/') && !hides && !goes
}

/// Does it begin with all segments of `prefix`?
fn within(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(host: &str, port: u16, path: Option<&str>) -> Target {
        Target { host: host.into(), port, path: path.map(Into::into) }
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let list =
            ["https://a.example/x", "http://B.example:8080/files", "github:ekala-project", "http://[::1]/"];
        let rules = Rules::parse(&list).unwrap();
        let tunnel = |host, port| rules.allow(&target(host, port, None));
        let plain = |host, port, path| rules.allow(&target(host, port, Some(path)));
        assert!(tunnel("a.example", 443) && tunnel("api.github.com", 443));
        assert!(!tunnel("a.example", 80) && !tunnel("b.example", 8080) && !tunnel("evil.a.example", 443));
        assert!(!tunnel("a.example.evil", 443) && !tunnel("aXexample", 443));
        for path in ["/files", "/files/a", "/files?x=/../.."] {
            assert!(plain("b.example", 8080, path), "{path}");
        }
        for path in ["/", "/filesystem", "/file", "/other"] {
            assert!(!plain("b.example", 8080, path), "{path}");
        }
        assert!(
            !plain("b.example", 80, "/files") && !plain("a.example", 443, "/x") && plain("::1", 80, "/x")
        );
        assert!(!Rules::default().allow(&target("a.example", 443, None)));
    }

    #[test]
    fn a_path_that_is_not_what_it_seems_is_not_plain() {
        for path in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2E/b",
            "/a%2fb",
            "/%5c",
            "/%252e",
            "a",
            "/a\\b",
            "/a b",
            "/a\r\nb",
            "/é",
            "/a#b",
        ] {
            assert!(!is_plain(path), "{path}");
        }
        for path in ["/", "/a..b/...", "/a?b=%2e%2e/..", "/%20"] {
            assert!(is_plain(path), "{path}");
        }
    }

    #[test]
    fn what_names_no_place_is_an_error() {
        for (uri, wrong) in [
            ("", Wrong::Scheme),
            ("ftp://x", Wrong::Scheme),
            ("file:///", Wrong::Scheme),
            ("/path", Wrong::Scheme),
            ("git+ssh://h/p", Wrong::Scheme),
            ("https://", Wrong::Host),
            ("https://u:p@h/", Wrong::Login),
            ("http://h:0/", Wrong::Host),
            ("http://h:99999/", Wrong::Host),
            ("https://h https://other", Wrong::Host),
            ("http://[::1/", Wrong::Host),
            ("https://h/../x", Wrong::Path),
            ("https://h/a b", Wrong::Path),
            ("github:", Wrong::Owner),
            ("github:/", Wrong::Owner),
            ("github:a//b", Wrong::Owner),
            ("github:a/..", Wrong::Owner),
            ("github:a https://other", Wrong::Owner),
            ("github:a?host=other", Wrong::Owner),
        ] {
            let said = Rules::parse(&[uri]).unwrap_err();
            assert!(matches!(said, RuleError::Uri { wrong: it, .. } if it == wrong), "{uri}: {said}");
        }
        let long = format!("https://h/{}", "x".repeat(URI_BYTES_MAX));
        assert!(Rules::parse(&[long]).unwrap_err().to_string().contains("more than 2048 bytes"));
        assert_eq!(Rules::parse(&["https://h"; URIS_MAX + 1]), Err(RuleError::TooMany(URIS_MAX + 1)));
        let good = ["git+https://h./p", "tarball+https://h/p", "sourcehut:~a/b", "gitlab:a%2Fb/c/main"];
        assert_eq!(Rules::parse(&good).unwrap().places.len(), 5);
    }

    #[test]
    fn a_login_is_not_said() {
        for uri in ["https://u:hunter2@h/x@y", "git+http://hunter2@h", "ftp://u:hunter2@h/"] {
            let said = Rules::parse(&[uri]).unwrap_err().to_string();
            assert!(said.contains("://***@h") && !said.contains("hunter2"), "{said}");
        }
        let said = Rules::parse(&["https://u:hun/ter2@h/"]).unwrap_err().to_string();
        assert!(said.contains("://***@h"), "{said}");
    }
}
