//! What binary caches are made of: hashes, keys, signatures, narinfo, `nix-cache-info`, realisations, and their URLs.

use std::error::Error;

use nix_types::cache_info::CACHE_INFO_BYTES_MAX;
use nix_types::cache_url::{Place, URL_MAX};
use nix_types::narinfo::NARINFO_BYTES_MAX;
use nix_types::realisation::REALISATION_BYTES_MAX;
use nix_types::{
    CacheInfo, CacheUrl, NarInfo, PublicKey, Realisation, SecretKey, Sha256, Signature, SshUrl, nix32,
};

const STORE: &str = "/nix/store";

/// An error and its causes can be shown, and are no essay.
fn shown(error: &dyn Error) {
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        assert!(!text.contains(char::is_control), "errors can be shown: {text}");
        assert!(text.len() < 3000, "{} bytes of error", text.len());
        next = error.source();
    }
}

/// A hash in any form, and a text in Nix' base 32: what is read is written as the same, in one way only.
pub fn hash(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Sha256::parse(&text) {
        Ok(hash) => {
            assert_eq!(Sha256::parse(&hash.to_string()), Ok(hash));
            assert_eq!(Sha256::parse(&format!("sha256:{}", hash.hex())), Ok(hash));
        }
        Err(error) => shown(&error),
    }
    match nix32::decode(&text) {
        Ok(decoded) => assert_eq!(nix32::encode(&decoded), text),
        Err(error) => shown(&error),
    }
    assert_eq!(nix32::decode(&nix32::encode(bytes)).as_deref(), Ok(bytes));
}

/// A signature and a public key: what is read is written as it was.
pub fn signature(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Signature::parse(&text) {
        Ok(read) => assert_eq!(read.to_string(), text),
        Err(error) => shown(&error),
    }
    match PublicKey::parse(&text) {
        Ok(read) => {
            assert_eq!(read.to_string(), text.trim_end());
            let signature = Signature::parse(&format!("{}:{}==", read.name(), "A".repeat(86)));
            assert!(!read.verify("1;", &signature.expect("a signature of zeros under any name")));
        }
        Err(error) => shown(&error),
    }
}

/// A secret key: what it signs is good under its public half, and nothing of it is ever printed.
pub fn secret_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match SecretKey::parse(&text) {
        Ok(key) => {
            let signature = key.sign("1;/nix/store/x;;;");
            assert!(key.public().verify("1;/nix/store/x;;;", &signature));
            assert_eq!(format!("{key:?}"), format!("SecretKey({}, ***)", key.name()));
            let (_, secret) = text.split_once(':').expect("a key has a colon");
            // A name may be anything, a key's own letters as well.
            let public = key.public().to_string();
            assert!(!public[key.name().len()..].contains(&secret[..40]));
        }
        Err(error) => {
            shown(&error);
            let damaged = text.replace(char::is_whitespace, "");
            assert!(damaged.len() < 40 || !error.to_string().contains(&damaged));
        }
    }
}

/// A narinfo: what was read is written in Nix' own form, which reads as the same again and is written the same again.
pub fn narinfo(bytes: &[u8]) {
    match NarInfo::parse(&String::from_utf8_lossy(bytes), STORE) {
        Ok(read) => {
            let written = read.to_text();
            // The lines it may leave out are written, and may be too much.
            if written.len() <= NARINFO_BYTES_MAX {
                assert_eq!(NarInfo::parse(&written, STORE).as_ref(), Ok(&read));
            }
            assert!(read.references.is_sorted() && read.nar_size > 0);
            assert!(read.store_path.as_str().starts_with(STORE));
            assert!(!read.fingerprint().contains(char::is_whitespace));
            let lines = 8
                + read.signatures.len()
                + usize::from(read.deriver.is_some())
                + usize::from(read.ca.is_some());
            assert!((lines - 2..=lines).contains(&written.lines().count()), "{written}");
        }
        Err(error) => shown(&error),
    }
}

/// A `nix-cache-info`: what was read is written and read again as the same.
pub fn cache_info(bytes: &[u8]) {
    match CacheInfo::parse(&String::from_utf8_lossy(bytes)) {
        Ok(read) => {
            let written = read.to_text();
            // As for a narinfo, and so for a realisation.
            assert!(written.len() > CACHE_INFO_BYTES_MAX || CacheInfo::parse(&written) == Ok(read));
        }
        Err(error) => shown(&error),
    }
}

/// A realisation: as a narinfo, and its key is a file of one folder.
pub fn realisation(bytes: &[u8]) {
    match Realisation::parse(&String::from_utf8_lossy(bytes), STORE) {
        Ok(read) => {
            let written = read.to_json();
            if written.len() <= REALISATION_BYTES_MAX {
                assert_eq!(Realisation::parse(&written, STORE).as_ref(), Ok(&read));
            }
            assert!(written.starts_with(read.fingerprint().trim_end_matches('}')));
            let key = read.id.key();
            let name = key.strip_prefix("realisations/").expect("all are in one folder");
            assert!(!name.contains(['/', '\0']) && name.is_ascii() && key.ends_with(".doi"));
        }
        Err(error) => shown(&error),
    }
}

/// The URL of a store that is reached by ssh: it is printed as it was, names a machine and user that ssh cannot take for
/// options and a shell for nothing else, and an error can be shown.
pub fn ssh_url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match SshUrl::parse(&text) {
        Ok(url) => {
            assert!(text.len() <= nix_types::ssh_url::URL_MAX && text.is_ascii() && url.to_string() == text);
            for word in url.user.iter().chain([&url.host]) {
                let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+$@:%".contains(&byte);
                assert!(!word.is_empty() && !word.starts_with('-') && word.bytes().all(harmless), "{word}");
            }
            let params = &url.params;
            assert!(
                params.max_connections > 0 && params.ssh_key.as_ref().is_none_or(|key| key.is_absolute())
            );
            for text in params.remote_program.iter().chain(&params.remote_store).chain(&params.host_key) {
                assert!(!text.contains(char::is_control) && !text.is_empty(), "{text:?}");
            }
        }
        Err(error) => shown(&error),
    }
}

/// The URL of a cache: what is printed of it reads as the same destination, has no login in it, and neither has an
/// error. `hunter2` stands for a password.
pub fn cache_url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match CacheUrl::parse(&text) {
        Ok(url) => {
            assert!(text.len() <= URL_MAX && text.is_ascii());
            let again = CacheUrl::parse(&url.to_string()).expect("what is printed is a URL");
            assert_eq!((again.identity(), &again.params), (url.identity(), &url.params));
            // Escaped, it may be longer than what is read.
            if url.identity().len() <= URL_MAX {
                let identity = CacheUrl::parse(&url.identity()).expect("an identity is a URL");
                assert_eq!(identity.identity(), url.identity());
            }
            assert!(url.identity().bytes().all(|byte| byte.is_ascii_graphic()));
            let login = matches!(url.place, Place::Http { login: Some(_), .. });
            let without = text.split_once("://").and_then(|(scheme, rest)| {
                let (_, host) = rest.split_once('@').filter(|_| login)?;
                Some(format!("{scheme}://***@{host}"))
            });
            assert_eq!(url.to_string(), without.unwrap_or_else(|| text.into_owned()));
        }
        Err(error) => {
            shown(&error);
            let (address, query) = text.split_once('?').unwrap_or((&text, ""));
            let behind_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
            let (login, rest) = behind_scheme.rsplit_once('@').unwrap_or(("", behind_scheme));
            let elsewhere = [query, rest, &address[..address.len() - behind_scheme.len()]];
            if login.contains("hunter2") && !elsewhere.iter().any(|part| part.contains("hunter2")) {
                assert!(!error.to_string().contains("hunter2"), "{error}");
            }
        }
    }
}
