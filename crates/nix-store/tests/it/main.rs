//! The crate through its public doors: real children, a real Nix in private stores, a real daemon. Every store lies in
//! a folder of its own that is removed at the end; nothing leaves the loopback interface.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod copy;
mod formats;
mod fuzz;
mod gcroots;
mod http;
mod log;
mod nar;
mod nix;
mod process;
mod store;
mod support;
mod worker;
