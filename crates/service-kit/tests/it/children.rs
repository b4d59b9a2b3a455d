//! Starts this very test binary again, to run one ignored test of it in a process of its own. In: the test's
//! name and variables. Out: a child that is killed and waited for when dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// A child process; ends with its guard.
pub(crate) struct Helper {
    child: Child,
    lines: BufReader<ChildStdout>,
}

#[expect(clippy::disallowed_methods, reason = "a test of processes starts processes")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// The path of this test binary and the arguments that run the ignored test `name` alone.
pub(crate) fn this_binary(name: &str) -> (String, Vec<String>) {
    let path = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    (path, ["--ignored", "--exact", "--nocapture", "--test-threads=1", name].map(str::to_owned).into())
}

impl Helper {
    /// Runs the ignored test `name` in a process with these variables set.
    pub(crate) fn start(name: &str, variables: &[(&str, &str)]) -> Self {
        let (program, arguments) = this_binary(name);
        let mut command = command(&program);
        command.args(arguments).envs(variables.iter().copied());
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads on to the line that begins with `prefix` and gives what follows it.
    pub(crate) fn line_after(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            // The test harness writes "test NAME ... " before what a test prints first.
            if let Some(at) = line.find(prefix) {
                return line[at + prefix.len()..].trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the child ended without saying {prefix}");
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = command("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "kill -{name} {}", self.child.id());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait(); // already waited for is as good
    }
}
