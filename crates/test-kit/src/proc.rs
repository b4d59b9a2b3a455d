//! Child processes of tests. Each is killed by its own id and waited for when its guard goes, so that a failed
//! test leaves nothing running.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::wait;

/// A running child; dropping it kills (SIGKILL) and reaps it.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`.
    ///
    /// # Errors
    /// When the system cannot start it.
    pub fn spawn(command: &mut Command) -> io::Result<Guard> {
        command.spawn().map(|child| Guard { child })
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as `kill -9` does and waits for its end.
    ///
    /// # Errors
    /// When the system refuses; not when it had ended already.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// When it has not ended within `timeout`.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let mut status = None;
        wait::until(timeout, || {
            status = self.child.try_wait().expect("our own child can be waited for");
            status.is_some()
        });
        status.expect("until() came back, so it was some")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.kill(); // it has ended already, or nothing more can be done
    }
}

/// A command which runs one test of the running test binary again, in a child: `name` is its full path such
/// as `migrations::child`. That test looks at an environment variable to know that it is the child; mark it
/// `#[ignore]` so that it does not run by itself.
///
/// # Panics
/// When the test binary cannot be found.
pub fn this_test_binary(name: &str) -> Command {
    let binary = std::env::current_exe().expect("a test knows its own binary");
    #[expect(clippy::disallowed_methods, reason = "tests start children through this guard")]
    let mut command = Command::new(binary);
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}
