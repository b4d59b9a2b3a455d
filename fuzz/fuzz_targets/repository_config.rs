//! Any bytes go in; nothing comes out unless `ci_model::repository_config` does not hold for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| eka_fuzz::hold(bytes, eka_fuzz::checks::ci_model::repository_config));
