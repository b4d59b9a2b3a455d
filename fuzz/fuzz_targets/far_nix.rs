//! Any bytes go in; nothing comes out unless `nix_store::far_nix` does not hold for them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| eka_fuzz::hold(bytes, eka_fuzz::checks::nix_store::far_nix));
