//! What the tests share: a wait for what a condition gives, commands, whether a process lives.
#![expect(clippy::disallowed_methods, reason = "tests start what they test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_kit::proc::this_test_binary;
use test_kit::wait;

/// Looks again until `condition` gives something, for at most 20 seconds.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    println!("waits for: {what}"); // shown when it fails
    let mut found = None;
    wait::until(Duration::from_secs(20), || {
        found = condition();
        found.is_some()
    });
    found.unwrap()
}

/// A command of a test.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// This very test program, or the copy of it in `program`, to run one of its ignored tests as another process.
pub(crate) fn again(test: &str, program: Option<&Path>) -> Command {
    let ours = this_test_binary(test);
    let mut other = command(program.map_or(ours.get_program(), Path::as_os_str));
    other.args(ours.get_args());
    other
}

/// Is there a process of this number that has not ended?
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // "pid (name) state …"; the name may hold anything, so look behind the last bracket.
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}
