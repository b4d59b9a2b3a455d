//! What the fuzz targets share: any bytes and a check come in; a panic, which libFuzzer keeps with its input, comes out
//! when the check does not hold or takes too long. The checks themselves are plain functions, and the crates' own tests
//! play them as well (`test_kit::mutate`).

use test_kit::mutate::{TIME_MAX, within};

pub mod checks;

/// How much slower the build for fuzzing is (branches are counted, debug assertions hold), rounded up.
const SLOWER: u32 = 5;

/// Runs a check and its clock.
///
/// # Panics
/// When the check does, or computes longer than it may over any input of 1 MiB.
pub fn hold(bytes: &[u8], check: fn(&[u8])) {
    let limit = TIME_MAX * SLOWER;
    if let Err(best) = within(limit, || check(bytes)) {
        panic!("{} bytes took {best:?} at best, {limit:?} is the most here", bytes.len());
    }
}
