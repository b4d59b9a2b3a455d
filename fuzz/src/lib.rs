//! What the fuzz targets share: any bytes and a check come in; a panic, which libFuzzer keeps with its input, comes out
//! when the check does not hold or takes too long. The checks themselves are plain functions, and the crates' own tests
//! play them as well (`test_kit::mutate`).

use std::time::{Duration, Instant};

pub mod checks;

/// The longest a check may take on an input of 1 MiB, in the programs' own build.
const TIME_MAX: Duration = Duration::from_millis(100);
/// How much slower the build for fuzzing is (coverage counters, debug assertions), rounded up.
const SLOWER: u32 = 8;
/// An input that took too long gets this many more chances: the machine may have been busy elsewhere.
const CHANCES: usize = 4;

/// Runs a check and its clock.
///
/// # Panics
/// When the check does, or takes longer than an input of any size may.
pub fn hold(bytes: &[u8], check: fn(&[u8])) {
    let time = || {
        let start = Instant::now();
        check(bytes);
        start.elapsed()
    };
    let limit = TIME_MAX * SLOWER;
    if time() <= limit {
        return;
    }
    let best = (0..CHANCES).map(|_| time()).min().unwrap_or_default();
    assert!(best <= limit, "{} bytes took {best:?} at best, {limit:?} is the most here", bytes.len());
}
