//! The queue through its doors: the real programs, a real Nix store, real destinations.
//!
//! Every module is one theme of what users rely on; `world` is the stage they play on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod addresses;
mod alone;
mod audit;
mod backup;
mod canaries;
mod chaos;
mod commands;
mod config;
mod config_rights;
mod crash;
mod credentials;
mod delivery;
mod disk_full;
mod eight;
mod filters;
mod frames;
mod fuzz;
mod hosted;
mod hostile;
mod howto;
mod inside;
mod intake;
mod migrate;
mod native;
mod nixos;
mod nobody;
mod operations;
mod outage;
mod pages;
mod poison;
mod powercut;
mod privacy;
mod readme;
mod sockets;
mod ssh;
mod units;
mod world;
