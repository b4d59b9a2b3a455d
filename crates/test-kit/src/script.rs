//! Programs that a test makes up. In: a text that begins with `#!`. Out: an executable file, which can be started at once.
//! Leaves out what the text does.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes an executable script, in place of whatever file is there.
///
/// Another process does it. Were the file open for writing in the test's own one, a child that another thread starts in
/// that moment would have it open too until its exec, and until then the system refuses to execute it ("Text file busy").
///
/// # Panics
/// When it cannot be written.
#[track_caller]
pub fn write(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "it ends before this function does")]
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut child = install.spawn().expect("`install` can be started");
    let told = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(text.as_bytes()).is_ok());
    let ended = child.wait().expect("our own child can be waited for");
    assert!(told && ended.success(), "{} is written", path.display());
}

/// Copies a program to a place where it can be started at once, by another process for the same reason.
///
/// # Panics
/// When it cannot be copied.
#[track_caller]
pub fn copy(program: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "it ends before this function does")]
    let ended = Command::new("cp").arg(program).arg(to).status();
    assert!(
        ended.is_ok_and(|status| status.success()),
        "{} is copied to {}",
        program.display(),
        to.display()
    );
}
