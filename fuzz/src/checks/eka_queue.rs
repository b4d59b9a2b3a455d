//! The queue daemon: its configuration, requests on its control socket, and small files that a cache has stored.

use std::collections::BTreeSet;
use std::path::Path;

use eka_queue::config::{Config, LOCAL_STORE};
use eka_queue::control::protocol::Request;
use eka_queue::push::{dhall_records, stored_text};
use nix_types::cache_url::Encoding;
use object_kit::Found;

/// Most bytes of a stored text that are asked for here.
const STORED_MAX: usize = 4096;

/// A configuration: what is taken keeps the rules between its values, what is refused is so line by line, in text that
/// can be shown.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Config::parse(Path::new("ekaci.toml"), text) {
        Ok(config) => consistent(&config),
        Err(report) => {
            assert!(!report.problems.is_empty());
            let lines = u32::try_from(text.split('\n').count()).expect("an input has fewer lines");
            for problem in report.problems.iter().chain(&report.warnings) {
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem:?}");
                assert!(!problem.in_file(&report.file).contains(char::is_control), "{problem:?}");
            }
            assert_eq!(report.to_string().lines().count(), report.problems.len());
        }
    }
}

fn consistent(config: &Config) {
    let ids: BTreeSet<&str> = config.caches.iter().map(|cache| cache.id.as_str()).collect();
    assert_eq!(ids.len(), config.caches.len(), "ids are unique");
    assert_eq!(ids.contains(LOCAL_STORE), config.queue.sign_store);
    assert!(!config.queue.sign_store || !config.queue.signing_key_files.is_empty());
    assert!(config.queue.default_destinations.iter().flatten().all(|id| ids.contains(id.as_str())));
    assert_ne!(config.queue.socket, config.queue.control_socket);
    for cache in &config.caches {
        assert!((1..=256).contains(&cache.concurrency) && cache.policy.attempts_max > 0);
        assert!(cache.policy.backoff_min <= cache.policy.backoff_max && !cache.policy.backoff_min.is_zero());
        assert!(cache.breaker.failures > 0 && !cache.breaker.probe.is_zero() && !cache.timeout.is_zero());
    }
    for warning in &config.warnings {
        assert!(!warning.in_file(&config.file).contains(char::is_control), "{warning:?}");
    }
}

/// A line on the control socket: what is taken is said the same way again.
pub fn control_request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
    let line = serde_json::to_vec(&request).expect("a request has no key that is no text");
    assert!(!line.contains(&b'\n'), "a request is one line");
    let again: Request = serde_json::from_slice(&line).expect("what was said can be read");
    assert_eq!(again, request);
}

/// A settings file of Cachix' client: what is understood is understood again when it is written anew.
pub fn dhall(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some(records) = dhall_records(text) else { return };
    for record in records {
        let mut written = String::from("{ ");
        for (key, value) in &record {
            assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            for piece in [key, " = \"", &value, "\", "] {
                written.push_str(piece);
            }
        }
        written.push('}');
        assert_eq!(dhall_records(&written).as_deref(), Some([record].as_slice()), "{written}");
    }
}

/// A stored file behind a line with its encoding, `-` for one that the place did not say: a text within the bound,
/// whatever is packed in it, the same text each time, or words that can be shown.
pub fn stored_file(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let word = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let body = bytes.get(end + 1..).unwrap_or_default();
    let found = Found {
        bytes: body.to_vec().into(),
        content_encoding: (word != "-").then(|| word.clone()),
        tag: None,
        modified: None,
    };
    for ours in [Encoding::None, Encoding::Gzip] {
        let read = stored_text(&found, ours, STORED_MAX);
        match &read {
            Ok(text) => {
                assert!(text.len() <= STORED_MAX);
                if matches!(word.as_str(), "" | "identity") {
                    assert_eq!(text.as_bytes(), body, "what is not encoded is as it is stored");
                }
                assert_eq!(stored_text(&found, ours, text.len()).as_ref(), Ok(text), "the bound is exact");
                if let Some(less) = text.len().checked_sub(1) {
                    assert!(stored_text(&found, ours, less).is_err(), "the bound is exact");
                }
            }
            Err(why) => assert!(why.len() < 500 && !why.contains(char::is_control), "{why}"),
        }
        if word != "-" {
            assert_eq!(read, stored_text(&found, Encoding::None, STORED_MAX), "what the place says counts");
        }
    }
}
