//! Every source against its real part where that can be had, else against a stand-in that keeps state; every spelling of
//! the configuration; and that no secret shows anywhere.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod canary;
mod forms;
mod fuzz;
mod local;
mod metadata;
mod real;
mod support;
mod vault;
