//! Tools for tests, never for programs: faults and power cuts below SQLite, small full disks, a cache over HTTP with
//! faults, Attic and Cachix on it, stand-ins for a Vault and for clouds' metadata, an sshd, child processes that end with their
//! test, scripts in place of programs, ports for programs that cannot choose one, seeds that are printed when a test fails, graphs of derivations as package sets have them, where a Nix of a test's own keeps its
//! things, and the one polling helper.
//!
//! Depends on none of our crates, so that any of them can use it in its tests.

pub mod attic;
pub mod cachix;
pub mod cloud;
pub mod cpu;
mod double;
pub mod drv_graph;
pub mod http_cache;
pub mod mutate;
pub mod nix;
pub mod port;
pub mod powercut;
pub mod proc;
pub mod script;
pub mod seed;
pub mod sshd;
pub mod tmpfs;
pub mod vault;
pub mod vfs;
pub mod wait;
