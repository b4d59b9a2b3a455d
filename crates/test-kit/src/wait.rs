//! Waiting for a condition, with a deadline that fails the test. The only place in tests that sleeps.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(2);

/// Asks every two milliseconds until `condition` holds.
///
/// # Panics
/// When it does not hold within `timeout`.
#[track_caller]
pub fn until(timeout: Duration, condition: impl FnMut() -> bool) {
    assert!(comes_true(timeout, condition), "the condition did not come to hold within {timeout:?}");
}

/// The same, for who has more to say when it does not: whether it came to hold within `timeout`.
pub fn comes_true(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        #[expect(clippy::disallowed_methods, reason = "polling helper of tests, bounded by its deadline")]
        std::thread::sleep(STEP);
    }
    true
}
