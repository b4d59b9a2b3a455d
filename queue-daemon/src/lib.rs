//! `eka-queue`: the durable queue between Nix' post-build-hook and binary caches.
//!
//! In flow store paths, from the hook's socket, its spool and the operator; out flow deliveries to every configured
//! destination, each retried until it is verified or given up with a reason. The stages, in flow order: `intake`,
//! `store` (the tables), `lane`, `push`; `delivery`, `breaker`, `route` and `filter` decide, without IO; `control` is
//! for people; `serve` wires it all. It evaluates nothing and builds nothing.

mod allocator;
mod audit;
mod backup;
pub mod breaker;
pub mod cli;
mod commands;
pub mod config;
pub mod control;
pub mod delivery;
pub mod filter;
mod folders;
mod housekeeping;
mod intake;
pub mod lane;
mod metrics;
pub mod model;
mod pack;
pub mod peer;
mod progress;
pub mod push;
pub mod queue;
pub mod roots;
pub mod route;
pub mod serve;
pub mod sockets;
mod store;

pub use commands::run;
