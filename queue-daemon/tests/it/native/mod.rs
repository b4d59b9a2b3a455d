//! The native engine through the real daemon: folders, HTTP servers and S3, with the real Nix as judge of what it
//! writes and with the bad days that places and stores have.
//!
//! `stage` holds what the modules share; each of the others is one promise.

mod answers;
mod checker;
mod corrupt;
mod costs;
mod hostile;
mod hung;
mod identity;
mod killed;
mod others;
mod reads;
pub(crate) mod stage;
mod strict;
