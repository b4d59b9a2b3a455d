//! Stores of other machines through the real daemon, the real ssh and the real Nix at both ends: an sshd of the test's
//! own on the loopback interface, with a store of its own behind it.
//!
//! `stage` holds what the modules share; each of the others is one promise.

mod delivers;
mod refused;
pub(crate) mod stage;
