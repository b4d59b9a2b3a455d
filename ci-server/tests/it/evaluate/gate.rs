//! A pipe that an expression reads, so that a test knows where an evaluator is, and which process that is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use test_kit::wait;

/// Longest until somebody comes to read.
const COMES_MAX: Duration = Duration::from_secs(30);

/// Does this Nix wait for what a pipe will hold? Newer releases read as much as a file says that it has. Says so when not.
pub(crate) fn waits_at_pipes() -> bool {
    let version = super::support::command("nix-instantiate").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let minor = version.split('.').nth(1).and_then(|number| number.parse::<u32>().ok());
    let waits = minor.is_some_and(|minor| minor < 20);
    if !waits {
        println!(
            "SKIPPED: {} does not wait at pipes, so nothing holds it where it is to be killed",
            version.trim()
        );
    }
    waits
}

/// Makes the pipe and kills whoever comes to read from it, so many times; the next one gets `text`, if there is one.
pub(crate) fn kill_readers(pipe: &Path, times: usize, text: Option<&'static str>) -> JoinHandle<()> {
    rustix::fs::mkfifoat(rustix::fs::CWD, pipe, 0o644.into()).unwrap();
    fs::set_permissions(pipe, fs::Permissions::from_mode(0o644)).unwrap();
    let pipe = pipe.to_owned();
    thread::spawn(move || {
        // Open all the time: whoever reads meanwhile waits, and finds no end.
        let mut open = writer(&pipe);
        for _ in 0..times {
            let reader = comes(&pipe);
            kill_process(Pid::from_raw(reader).unwrap(), Signal::KILL).unwrap();
            wait::until(COMES_MAX, || reader_of(&pipe) != Some(reader));
        }
        if let Some(text) = text {
            comes(&pipe);
            open.write_all(text.as_bytes()).unwrap();
        }
    })
}

/// The process that reads, once there is one.
fn comes(pipe: &Path) -> i32 {
    let mut reader = None;
    wait::until(COMES_MAX, || {
        reader = reader_of(pipe);
        reader.is_some()
    });
    reader.unwrap()
}

/// Open as soon as somebody reads.
fn writer(pipe: &Path) -> File {
    let mut file = None;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    wait::until(COMES_MAX, || {
        file = rustix::fs::open(pipe, flags, rustix::fs::Mode::empty()).ok();
        file.is_some()
    });
    file.unwrap().into()
}

/// The evaluator that has it open. Whatever another test starts has all that is open here, for a moment.
fn reader_of(pipe: &Path) -> Option<i32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("nix-instantiate")
            && files.filter_map(|file| fs::read_link(file.path()).ok()).any(|to| to == *pipe)
    })
}
