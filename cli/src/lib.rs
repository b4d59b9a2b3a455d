//! `ekaci`: what a person asks comes in as arguments; what the CI's stages say goes out to their terminal. `cli` is the
//! command line, `commands` is what it does, `run` is what is seen of a run.

pub mod cli;
mod commands;
pub mod run;

pub use commands::run;
