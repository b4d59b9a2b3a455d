//! The rules of the CI, judged by tables, by expressions of another engine, and by an oracle of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod config;
mod diff;
mod fuzz;
mod graph;
mod graph_cache;
mod oracle;
mod patterns;
mod permissions;
