//! Progress on a real terminal: what is drawn, that it heeds the width, and that the cursor is there again however the
//! run ends. The pipeline is one of the test's own, in a process of its own whose standard error is the terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ci_model::change::Comparison;
use ci_model::flow::Verdict;
use ci_model::outcome::{Outcome, Progress, Side};
use clap::Parser;
use ekaci::cli::Global;
use ekaci::run::{Failure, RunArgs, conduct};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use test_kit::proc::{Guard, this_test_binary};
use test_kit::wait;

const SOON: Duration = Duration::from_secs(30);
/// Says to a child which kind of pipeline it has.
const PIPELINE: &str = "EKACI_TEST_PIPELINE";

#[derive(Parser)]
struct Alone {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    run: RunArgs,
}

/// A run whose evaluation goes on until it is interrupted.
#[test]
#[ignore = "a child that the tests here start"]
fn child() {
    let Ok(kind) = std::env::var(PIPELINE) else { return };
    let Alone { run, global } = Alone::parse_from(["run", "--eval-only"]);
    let code = conduct(&run, global, |stop, told| {
        let (job, side) = ("packages".parse().unwrap(), Side::Head);
        told(Progress::CheckingOut);
        told(Progress::Evaluated { job, side, attrs: 1_204, errors: 2, memory_bytes: 212 << 20 });
        let heeds = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match kind.as_str() {
            "tidies" => return Ok((outcome(), Box::new(|| writeln!(io::stdout(), "tidied").unwrap()))),
            "tidies for ever" => return Ok((outcome(), Box::new(loop_for_ever))),
            "heeds" => heeds.block_on(stop.requested()),
            "panics" => panic!("a promise is broken"),
            _ => heeds.block_on(std::future::pending()),
        }
        Err(Failure::Unfinished("it was stopped".into()))
    });
    let answers = kind.starts_with("tidies");
    assert_eq!(code, if answers { ExitCode::SUCCESS } else { ExitCode::from(130) });
}

fn loop_for_ever() {
    loop {
        std::thread::park();
    }
}

/// Of a run in which nothing changes.
fn outcome() -> Outcome {
    Outcome {
        repository: "r".parse().unwrap(),
        head: None,
        base: None,
        files_changed: 0,
        jobs: Vec::new(),
        comparison: Comparison::default(),
        verdict: Verdict::Good,
        reasons: vec!["Nothing changes.".into()],
        warnings: Vec::new(),
        wall_ms: 1,
    }
}

/// A run without a terminal, and the file with its standard output.
fn answering(kind: &str, folder: &Path) -> (Guard, PathBuf) {
    let out = folder.join("out");
    let mut command = this_test_binary("live::child");
    command
        .env(PIPELINE, kind)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(File::create(&out).unwrap());
    (Guard::spawn(&mut command).unwrap(), out)
}

#[test]
fn what_is_left_to_do_is_done_after_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, out) = answering("tidies", folder.path());
    assert!(run.wait(SOON).success());
    let out = std::fs::read_to_string(out).unwrap();
    let (report, after) = out.split_once("tidied").unwrap();
    assert!(report.contains("Nothing changes."), "{out}");
    assert!(!after.contains("Nothing changes."), "{out}");
}

#[test]
fn who_does_not_wait_for_what_is_left_has_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, out) = answering("tidies for ever", folder.path());
    let is_told = || std::fs::read_to_string(&out).unwrap().contains("Nothing changes.");
    assert!(wait::comes_true(SOON, is_told));
    assert!(run.child().try_wait().unwrap().is_none(), "it stays for what is left");
    kill_process(Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap(), Signal::INT).unwrap();
    let asked = Instant::now();
    assert!(run.wait(SOON).success());
    assert!(asked.elapsed() < Duration::from_secs(9), "it would have ended by itself after 10");
}

/// A terminal, and a run on it.
struct Terminal {
    master: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    run: Guard,
}

impl Terminal {
    #[expect(clippy::disallowed_methods, reason = "a test starts what it is about")]
    fn with(pipeline: &str, columns: u16) -> Self {
        // Not for children of other tests: the terminal hangs up when the last copy is closed.
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        resize(&slave, columns);
        let child = this_test_binary("live::child");
        // Whoever runs the tests may have been started by `nohup`.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(child.get_program()).args(child.get_args());
        command.env(PIPELINE, pipeline).env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave);
        let run = Guard::spawn(&mut command).unwrap();
        drop(command); // and with it our end of the terminal's other side
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, theirs) = (File::from(master.try_clone().unwrap()), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            // It ends with an error when nobody is at the other side any more.
            while let Ok(read @ 1..) = reader.read(&mut piece) {
                theirs.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { master, seen, run }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn until_seen(&self, text: &str) {
        assert!(
            wait::comes_true(SOON, || self.seen().contains(text)),
            "{text:?} in {:#?}",
            picture(&self.seen())
        );
    }

    fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.run.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

fn resize(terminal: impl AsFd, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

/// The last whole picture, without what steers the terminal; empty when there is none yet.
fn picture(seen: &str) -> Vec<String> {
    let last = seen.rsplit("\x1b[?25l").find(|picture| picture.contains("\x1b[?7h")).unwrap_or_default();
    let mut lines = Vec::new();
    for line in last.split("\r\n") {
        let mut shown = String::new();
        for (place, piece) in line.split('\x1b').enumerate() {
            let text = if place == 0 {
                piece
            } else {
                piece.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).get(1..).unwrap()
            };
            shown.push_str(text);
        }
        lines.push(shown.trim_matches('\r').to_owned());
    }
    lines
}

#[test]
fn a_picture_heeds_the_width_and_an_interrupt_gives_the_cursor_back() {
    let mut terminal = Terminal::with("heeds", 70);
    terminal.until_seen("212 MiB");
    let of_packages = |line: &String| line.contains("packages") && line.contains("1,204 attributes");
    let is_told = || picture(&terminal.seen()).iter().any(of_packages);
    assert!(wait::comes_true(SOON, is_told), "{:#?}", picture(&terminal.seen()));
    resize(&terminal.master, 20);
    let is_narrow = || picture(&terminal.seen()).iter().all(|line| line.chars().count() < 20);
    assert!(wait::comes_true(SOON, is_narrow), "{:#?}", picture(&terminal.seen()));
    terminal.interrupt();
    assert!(terminal.run.wait(SOON).success(), "{}", terminal.seen());
    terminal.until_seen("\x1b[?7h\x1b[?25h");
    terminal.until_seen("ekaci: interrupted");
    let (_, after) =
        terminal.seen().rsplit_once("\x1b[?25h").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(!after.contains("\x1b[?25l"), "it is hidden again: {after:?}");
}

#[test]
fn each_signal_that_asks_for_the_end_gives_the_cursor_back() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::with("heeds", 70);
        terminal.until_seen("212 MiB");
        terminal.signal(signal);
        assert!(terminal.run.wait(SOON).success(), "{signal:?}: {}", terminal.seen());
        terminal.until_seen("\x1b[?7h\x1b[?25h");
        terminal.until_seen("ekaci: interrupted");
    }
}

#[test]
fn who_insists_is_heard() {
    let mut terminal = Terminal::with("hangs", 70);
    terminal.until_seen("212 MiB");
    terminal.interrupt();
    terminal.interrupt();
    // Two signals at once may be one; the third is not at once.
    let ended = |terminal: &mut Terminal| terminal.run.child().try_wait().unwrap().is_some();
    assert!(wait::comes_true(SOON, || {
        let is_over = ended(&mut terminal);
        if !is_over {
            terminal.interrupt();
        }
        is_over
    }));
    assert_eq!(terminal.run.wait(SOON).code(), Some(130));
    terminal.until_seen("\x1b[?7h\x1b[?25h");
}

#[test]
fn a_panic_gives_the_cursor_back() {
    let mut terminal = Terminal::with("panics", 70);
    assert!(!terminal.run.wait(SOON).success());
    terminal.until_seen("a promise is broken");
    let seen = terminal.seen();
    assert_eq!(seen.contains("\x1b[?25l"), seen.contains("\x1b[?25h"), "{seen:?}");
}
