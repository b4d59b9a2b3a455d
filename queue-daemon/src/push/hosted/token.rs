//! As whom a service is spoken to.
//!
//! In flow the files that the service's own tools write; out flows a token, read anew for each batch, so that a new one
//! needs no restart. Never says what is in a file.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use object_kit::Secret;
use toml::de::{DeTable, DeValue};

use crate::delivery::FaultClass;
use crate::push::Fault;

/// Most bytes of a file with tokens.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A cache of Attic, as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtticPlace {
    /// At an address.
    Url {
        /// `https://HOST…`, without the cache and without a slash at its end.
        endpoint: String,
        /// The cache's name.
        cache: String,
    },
    /// At a server that `attic login` knows.
    Server {
        /// Its name there.
        server: String,
        /// The cache's name.
        cache: String,
    },
}

impl AtticPlace {
    /// Reads `https://HOST/CACHE` or `SERVER:CACHE`; `None` when it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
                && !name.starts_with('.')
        };
        if text.starts_with("https://") || text.starts_with("http://") {
            let (endpoint, cache) = text.trim_end_matches('/').rsplit_once('/')?;
            let (_, rest) = endpoint.split_once("://")?;
            let bad = rest.is_empty() || rest.contains(['@', '?', '#', ' ']);
            return (!bad && is_name(cache))
                .then(|| Self::Url { endpoint: endpoint.trim_end_matches('/').into(), cache: cache.into() });
        }
        let (server, cache) = text.split_once(':')?;
        (is_name(server) && is_name(cache))
            .then(|| Self::Server { server: server.into(), cache: cache.into() })
    }

    /// The cache's name.
    #[must_use]
    pub fn cache(&self) -> &str {
        match self {
            Self::Url { cache, .. } | Self::Server { cache, .. } => cache,
        }
    }
}

/// What `attic login` has written about a server.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) endpoint: String,
    pub(crate) token: Option<Secret>,
}

/// Where Attic's client keeps its servers.
pub(crate) fn attic_file() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.unwrap_or_else(|| PathBuf::from("/root/.config")).join("attic/config.toml")
}

/// What Attic's client knows of a place; `None` when it knows nothing.
pub(crate) async fn attic_login(place: AtticPlace, file: PathBuf) -> Result<Option<Login>, Fault> {
    let read = tokio::task::spawn_blocking(move || read_attic(&place, &file));
    read.await.expect("reading a file does not panic: it returns its errors")
}

/// What `check-config` says when Attic's client has no token for a place. Blocks.
pub(crate) fn lacks_token(place: &AtticPlace) -> Option<(String, String)> {
    let file = attic_file();
    let remedy = "run `attic login` as the daemon's user, or name a source in credentials".to_owned();
    match read_attic(place, &file) {
        Ok(Some(Login { token: Some(_), .. })) => None,
        Ok(_) => Some((format!("there is no token for it in {}", file.display()), remedy)),
        Err(Fault::Failed { why, .. }) => Some((why, remedy)),
        Err(Fault::Gone(_) | Fault::Cancelled) => None,
    }
}

fn read_attic(place: &AtticPlace, file: &Path) -> Result<Option<Login>, Fault> {
    let Some(text) = read(file)? else { return Ok(None) };
    let no_toml = || refuse(file, "is no TOML with [servers.NAME] tables; run `attic login` anew");
    let table = DeTable::parse(&text).map_err(|_| no_toml())?;
    let Some(servers) = table.get_ref().get("servers") else { return Ok(None) };
    let DeValue::Table(servers) = servers.get_ref() else { return Err(no_toml()) };
    for (name, server) in servers {
        let DeValue::Table(server) = server.get_ref() else { return Err(no_toml()) };
        let word = |key: &str| match server.get(key).map(|value| value.get_ref()) {
            Some(DeValue::String(text)) => Some(text.to_string()),
            _ => None,
        };
        let Some(endpoint) = word("endpoint") else { return Err(no_toml()) };
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let fits = match place {
            AtticPlace::Server { server, .. } => server == name.get_ref().as_ref(),
            AtticPlace::Url { endpoint: wanted, .. } => *wanted == endpoint,
        };
        if fits {
            let token = match (word("token"), word("token-file")) {
                (Some(token), _) => Some(Secret::new(token)),
                (None, Some(other)) => token_file(Path::new(&other))?,
                (None, None) => None,
            };
            return Ok(Some(Login { endpoint, token }));
        }
    }
    Ok(None)
}

fn token_file(file: &Path) -> Result<Option<Secret>, Fault> {
    let Some(text) = read(file)? else {
        return Err(refuse(file, "is named as a token-file and is not there"));
    };
    Ok(Some(Secret::new(text.trim())))
}

/// A file's text; `None` when it is not there.
pub(super) fn read(file: &Path) -> Result<Option<String>, Fault> {
    let mut text = String::new();
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(file, &format!("cannot be opened: {error}"))),
    };
    let read = opened.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| refuse(file, &format!("cannot be read: {error}")))?;
    Ok(Some(text))
}

pub(super) fn refuse(file: &Path, why: &str) -> Fault {
    Fault::failed(FaultClass::Unreachable, format!("no token: {} {why}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_server_and_a_cache() {
        let url = |endpoint: &str, cache: &str| {
            Some(AtticPlace::Url { endpoint: endpoint.into(), cache: cache.into() })
        };
        assert_eq!(AtticPlace::parse("https://h/c"), url("https://h", "c"));
        assert_eq!(AtticPlace::parse("http://h:1/below/c/"), url("http://h:1/below", "c"));
        let server = AtticPlace::Server { server: "s".into(), cache: "c".into() };
        assert_eq!(AtticPlace::parse("s:c"), Some(server));
        for bad in [
            "",
            "c",
            "https://h",
            "https:///c",
            "https://u:p@h/c",
            "https://h/c?x",
            "s:",
            ":c",
            "s:c/d",
            "s:..",
        ] {
            assert_eq!(AtticPlace::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_is_found_by_server_and_by_address_and_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("config.toml"), folder.path().join("token"));
        std::fs::write(&token, "tok-b\n").unwrap();
        let text = format!(
            "default-server = \"a\"\n[servers.a]\nendpoint = \"https://a/\"\ntoken = \"tok-a\"\n\
             [servers.b]\nendpoint = \"https://b\"\ntoken-file = \"{}\"\n",
            token.display()
        );
        std::fs::write(&file, text).unwrap();
        let found = |place: &str| {
            let login = read_attic(&AtticPlace::parse(place).unwrap(), &file).unwrap()?;
            Some((login.endpoint, login.token.unwrap().reveal().to_owned()))
        };
        let want = |endpoint: &str, token: &str| Some((endpoint.to_owned(), token.to_owned()));
        assert_eq!(found("a:x"), want("https://a", "tok-a"));
        assert_eq!(found("https://a/x"), want("https://a", "tok-a"));
        assert_eq!(found("b:x"), want("https://b", "tok-b"));
        assert_eq!(found("https://c/x"), None);
        std::fs::write(&file, "token = canary-in-bad-toml").unwrap();
        let told = format!("{:?}", read_attic(&AtticPlace::parse("a:x").unwrap(), &file));
        assert!(told.contains("is no TOML") && !told.contains("canary"), "{told}");
    }
}
