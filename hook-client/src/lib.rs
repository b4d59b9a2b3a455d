//! Everything `eka-hook` decides. In flow the words a person or Nix gives it (arguments, environment, a file
//! of settings, standard input, Hydra's JSON); out flow one request to `eka-queue`, or one file in its spool,
//! lines on standard error, and an exit code. The world is behind one small door, [`Sys`]: this library has
//! no system call, no allocator and no `unsafe`, so that the same code runs on bare Linux, on the standard
//! library, and in tests.
//!
//! ```text
//! args, settings → gather → request → ask (socket) → spool → exit code
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod args;
mod ask;
mod deliver;
mod gather;
pub mod hydra;
mod json;
mod request;
mod run;
mod say;
mod settings;
mod spool;
mod sys;

pub use json::{JsonFault, JsonProblem};
pub use run::{panic_exit_code, run};
pub use sys::{Fault, Stream, Sys};
