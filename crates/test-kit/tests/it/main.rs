//! Tests of the test tools themselves, and of promises that hold for the whole workspace.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod arrows;
mod book;
mod faults;
mod ignored;
mod powercut;
mod tools;
