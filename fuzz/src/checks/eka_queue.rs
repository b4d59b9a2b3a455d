//! The queue daemon: its configuration, and requests on its control socket.

use std::collections::BTreeSet;
use std::path::Path;

use eka_queue::config::{Config, LOCAL_STORE};
use eka_queue::control::protocol::Request;

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
