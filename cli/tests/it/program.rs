//! The program as tests start it: arguments and a folder in, what it said out.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `ekaci` in a folder, with nothing in its environment but what is given.
#[expect(clippy::disallowed_methods, reason = "a test starts the program it is about")]
pub(crate) fn ekaci_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_ekaci"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `ekaci` in a folder.
pub(crate) fn ekaci(folder: &Path, arguments: &[&str]) -> Said {
    ekaci_with(folder, arguments, &[])
}
