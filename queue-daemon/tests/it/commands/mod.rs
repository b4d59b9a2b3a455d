//! Every subcommand of `eka-queue` as an operator meets it: what it prints, what it does, its exit code.

mod claims;
mod describe;
mod help;
mod list;
mod metrics;
pub(crate) mod patience;
mod permissions;
mod push;
mod retention;
mod service;
mod sign;
mod steer;
mod verify;
mod wait;
mod watch;
