//! Caches that are a service, through the real daemon: doubles that take documented calls alone, the real Nix as judge of
//! what can be had from them, and their bad days.

mod attic;
mod cachix;
mod cli;
