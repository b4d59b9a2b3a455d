//! The queue through its doors: the real programs, a real Nix store, real destinations.
//!
//! Every module is one theme of what users rely on; `world` is the stage they play on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod alone;
mod chaos;
mod commands;
mod config;
mod crash;
mod credentials;
mod delivery;
mod disk_full;
mod filters;
mod frames;
mod fuzz;
mod hostile;
mod inside;
mod intake;
mod migrate;
mod native;
mod nixos;
mod nobody;
mod outage;
mod poison;
mod powercut;
mod sockets;
mod units;
mod world;
