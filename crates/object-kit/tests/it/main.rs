//! The three kinds of places through their one door, on folders, on the stateful test server with its faults, and on
//! real servers where `scripts/test-tools` has installed them.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod ask;
mod aws;
mod file;
mod fuzz;
mod http;
mod places;
mod real;
mod s3;
mod support;
mod throttle;
mod tls;
mod uploads;
