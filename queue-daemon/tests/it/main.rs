//! The queue through its doors: the real programs, a real Nix store, real destinations.
//!
//! Every module is one theme of what users rely on; `world` is the stage they play on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod config;
mod delivery;
mod world;
