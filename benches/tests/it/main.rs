//! The programs of this crate, as a shell sees them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::process::{Command, Output};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

#[test]
fn the_floor_program_does_nothing_and_ends_well() {
    let output = run(env!("CARGO_BIN_EXE_bench-empty"), &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn a_goal_nobody_measures_is_refused_with_those_that_are() {
    let output = run(env!("CARGO_BIN_EXE_eka-bench"), &["--only", "P1,P99"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("'P99'") && said.contains("P1, P2, P3, P4, P5, P6, P7, P8, P9"), "{said}");
}

#[test]
fn a_destination_without_a_listener_fails() {
    let output = run(env!("CARGO_BIN_EXE_eka-bench"), &["stamp", "/nonexistent/socket"]);
    assert_eq!(output.status.code(), Some(1));
}
