//! Any bytes go in; nothing comes out unless `eka_queue::dhall` does not hold for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| eka_fuzz::hold(bytes, eka_fuzz::checks::eka_queue::dhall));
