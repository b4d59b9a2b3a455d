//! Checkouts of real repositories, made by the tests: what they should have, and what hostile ones must not do.

mod bounds;
mod hostile;
mod local;
mod server;
mod ssh;
mod support;
mod web;
mod worktree;
