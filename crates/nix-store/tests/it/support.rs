//! What the tests share: a wait for conditions, children that are ended by their number.
#![expect(
    clippy::disallowed_methods,
    reason = "tests start what they test, and look again until a condition holds"
)]

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Looks again until `condition` gives something, for at most 20 seconds.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited 20 seconds for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command of a test.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// This very test program, or the copy of it in `program`, to run one of its ignored tests as another process.
pub(crate) fn again(test: &str, program: Option<&Path>) -> Command {
    let program = program.map_or_else(|| std::env::current_exe().unwrap(), Path::to_owned);
    let mut command = Command::new(program);
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Is there a process of this number that has not ended?
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // "pid (name) state …"; the name may hold anything, so look behind the last bracket.
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}

/// Ends a child by its number when the test ends, however it ends.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait(); // as above
    }
}
