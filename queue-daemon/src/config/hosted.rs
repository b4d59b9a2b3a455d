//! Caches that are a service: what `destination` of `cache_type = "attic"` and `"cachix"` says.
//!
//! In flow located texts; out flows a checked `CacheKind`, or entries in the report.

use service_kit::config::{Located, Section};
use service_kit::http::{Reach, check_literal};

use super::kind::CacheKind;
use crate::push::hosted::token::AtticPlace;

/// Reads a cache of Attic.
pub(super) fn attic(
    section: &Section,
    destination: Option<Located<String>>,
    reach: Reach,
) -> Option<CacheKind> {
    let Some(text) = destination else {
        section
            .missing("destination", "write \"https://HOST/CACHE\", or \"SERVER:CACHE\" after `attic login`");
        return None;
    };
    let Some(place) = AtticPlace::parse(&text.value) else {
        let what = "is no cache of Attic"; // not quoted: it may hold a password
        let remedy = "write \"https://HOST/CACHE\" without credentials, or \"SERVER:CACHE\"";
        section.refuse("destination", Some(text.line), what, remedy);
        return None;
    };
    if let AtticPlace::Url { endpoint, .. } = &place
        && let Err(refused) = check_literal(endpoint, reach)
    {
        section.refuse("destination", Some(text.line), refused.what(), refused.remedy());
    }
    Some(CacheKind::Attic { named: text.value, place })
}

/// Reads a cache of Cachix.
pub(super) fn cachix(section: &Section, destination: Option<Located<String>>) -> Option<CacheKind> {
    let config_file = section.path("config_file").map(|found| found.value);
    let Some(text) = destination else {
        section.missing("destination", "write the name of the cache");
        return None;
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.value.is_empty() || !text.value.bytes().all(is_name) {
        let what = "is no name of a cache of Cachix";
        section.refuse("destination", Some(text.line), what, "write NAME, of https://NAME.cachix.org");
        return None;
    }
    Some(CacheKind::Cachix { name: text.value, config_file })
}

/// The same by the service's own program, when `driver` says so.
pub(super) fn driven(section: &Section, found: Option<CacheKind>) -> Option<CacheKind> {
    let driver = section.choice("driver", &[("native", false), ("cli", true)]);
    if !driver.is_some_and(|driver| driver.value) {
        return found;
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Some(match found? {
        CacheKind::Attic { named, place } => {
            let to = match place {
                // The program knows servers by their names alone.
                AtticPlace::Url { .. } => {
                    let what = "is an address, which `attic push` does not take";
                    let remedy = "write \"SERVER:CACHE\" after `attic login`";
                    section.refuse("destination", section.line(), what, remedy);
                    return None;
                }
                AtticPlace::Server { .. } => named,
            };
            CacheKind::Cli { kind: "attic", argv: words(&["attic", "push", &to]) }
        }
        CacheKind::Cachix { name, config_file } => {
            let mut argv = words(&["cachix"]);
            if let Some(file) = config_file {
                argv.extend(["--config".to_owned(), file.display().to_string()]);
            }
            argv.extend(words(&["push", &name]));
            CacheKind::Cli { kind: "cachix", argv }
        }
        other => other,
    })
}
