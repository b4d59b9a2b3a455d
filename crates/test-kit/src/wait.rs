//! Waiting for a condition, with a deadline that fails the test. The only place in tests that sleeps.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(2);

/// Asks every two milliseconds until `condition` holds.
///
/// # Panics
/// When it does not hold within `timeout`.
#[track_caller]
pub fn until(timeout: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come to hold within {timeout:?}");
        #[expect(clippy::disallowed_methods, reason = "polling helper of tests, bounded by its deadline")]
        std::thread::sleep(STEP);
    }
}
