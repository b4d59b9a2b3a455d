//! `ekaci` through its doors: the real program, its exit codes and what it prints, real git repositories, a real Nix
//! store, a real terminal.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod check_config;
mod describe;
mod example;
mod faults;
mod live;
mod program;
mod run;
mod stage;
mod untrusted;
