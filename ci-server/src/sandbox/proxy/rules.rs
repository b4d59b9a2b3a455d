//! Where a confined evaluation may go. In: `[eval] allowed_uris`, and what a client of the proxy asks for. Out: yes or no.
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

/// An entry of `allowed_uris` that says no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[eval] allowed_uris: {uri:?} is not understood: write https://HOST/PATH, http://HOST/PATH, or github:OWNER, gitlab:OWNER, sourcehut:~OWNER"
)]
pub struct RuleError {
    /// The entry.
    pub uri: String,
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
    /// From the configuration.
    ///
    /// # Errors
    /// [`RuleError`] at the first entry that is not understood.
    pub fn parse<S: AsRef<str>>(uris: &[S]) -> Result<Self, RuleError> {
        let mut places = Vec::new();
        for uri in uris.iter().map(AsRef::as_ref) {
            let forge = FORGES.iter().find(|(short, _)| uri.starts_with(short));
            match forge {
                Some((_, hosts)) => places.extend(hosts.iter().map(|host| Place {
                    secure: true,
                    host: (*host).to_owned(),
                    port: 443,
                    path: "/".to_owned(),
                })),
                None => places.push(place(uri).ok_or_else(|| RuleError { uri: uri.to_owned() })?),
            }
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

fn place(uri: &str) -> Option<Place> {
    let uri = uri.strip_prefix("git+").or_else(|| uri.strip_prefix("tarball+")).unwrap_or(uri);
    let (secure, rest) = match (uri.strip_prefix("https://"), uri.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, rest) => (false, rest?),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = host_and_port(authority, if secure { 443 } else { 80 })?;
    let path = if path.is_empty() { "/" } else { path };
    is_plain(path).then(|| Place { secure, host, port, path: path.to_owned() })
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
        for uri in [
            "",
            "ftp://x",
            "file:///",
            "/path",
            "https://",
            "https://u:p@h/",
            "http://h:0/",
            "http://h:99999/",
            "https://h/../x",
            "http://[::1/",
        ] {
            assert!(Rules::parse(&[uri]).is_err(), "{uri}");
        }
        assert_eq!(Rules::parse(&["git+https://h./p", "tarball+https://h/p"]).unwrap().places.len(), 2);
    }
}
