//! Evaluation with the Nix of this machine, in stores of the tests' own.

mod bad_days;
mod failures;
pub(crate) mod gate;
mod hostile;
mod jobs;
mod repository;
mod shapes;
mod support;
mod turns;
mod walk;
