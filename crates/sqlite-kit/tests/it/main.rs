//! The kit seen from the programs that use it: what an answer means, what a failure leaves, what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod backup;
mod faults;
mod group;
mod kit;
mod migrate;
mod mode;
mod open;
mod powercut;
mod reader;
mod speed;
