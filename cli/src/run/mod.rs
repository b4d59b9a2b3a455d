//! `ekaci run`: what a change touches, seen from a terminal. Arguments come in; progress goes to standard error while the
//! pipeline works, its outcome to standard output as a report, Markdown or JSON, and an exit code to whoever asked. What
//! the pipeline does is not known here.

mod args;
mod confined;
mod interrupt;
mod json;
mod line;
mod live;
mod markdown;
mod phrase;
mod render;
mod rows;
pub(crate) mod start;
mod text;
mod words;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ci_model::flow::Verdict;
use ci_model::outcome::{Outcome, Progress};
use service_kit::shutdown::Stop;

use crate::cli::{
    Color, EXIT_BAD, EXIT_INTERRUPTED, EXIT_NO_OUTPUT, EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE, Global,
};
pub use args::{Engine, Head, RunArgs, Sandbox, Size};
use live::Live;
use render::View;

/// Columns of a report that goes to no terminal, where nobody says how many.
const COLUMNS_USUAL: usize = 80;
/// What `$COLUMNS` may say.
const COLUMNS_TAKEN: std::ops::RangeInclusive<usize> = 20..=1_000;

/// Longest that the program stays for what nobody waits for.
const TIDY_MAX: Duration = Duration::from_secs(10);
/// How often it looks whether somebody wants it to end.
const TIDY_LOOK: Duration = Duration::from_millis(20);

/// Why there is no outcome.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for, or the repository's configuration, makes no sense.
    Usage(String),
    /// Something on the way broke.
    Unfinished(String),
    /// Somebody interrupted it.
    Interrupted,
}

/// What is left to do once the outcome is told. It can be cut off at any moment.
pub type Tidy = Box<dyn FnOnce() + Send>;

/// Whom a pipeline tells how far it is.
pub type Told<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Runs a pipeline, shows how far it is, prints what it came to. What it leaves to be done is done after that.
pub fn conduct(
    args: &RunArgs,
    global: Global,
    pipeline: impl FnOnce(&Stop, Told<'_>) -> Result<(Outcome, Tidy), Failure>,
) -> ExitCode {
    if !args.eval_only {
        return failed(&Failure::Usage("building comes later; pass --eval-only".into()));
    }
    let unheard = |error: io::Error| Failure::Unfinished(format!("cannot show progress: {error}"));
    let stop = match interrupt::listen().map_err(unheard) {
        Ok(stop) => stop,
        Err(failure) => return failed(&failure),
    };
    match watched(global.color, &stop, |told| pipeline(&stop, told)) {
        Ok((outcome, tidy)) => {
            let code = shown(&outcome, args, global);
            tidy_up(tidy, &stop);
            code
        }
        Err(failure) => failed(&failure),
    }
}

/// Does what nobody waits for, as long as nobody does.
fn tidy_up(tidy: Tidy, stop: &Stop) {
    let (done, is_done) = mpsc::channel::<()>();
    let work = move || {
        tidy();
        drop(done);
    };
    if let Err(error) = std::thread::Builder::new().name("tidy".into()).spawn(work) {
        return tracing::debug!("nothing is tidied up: {error}");
    }
    let begun = Instant::now();
    while begun.elapsed() < TIDY_MAX && !stop.is_requested() {
        if is_done.recv_timeout(TIDY_LOOK) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn watched<T>(
    color: Color,
    stop: &Stop,
    pipeline: impl FnOnce(Told<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let unfinished = |error: io::Error| Failure::Unfinished(format!("cannot show progress: {error}"));
    let mut live = Live::start(paints(color, live::is_terminal())).map_err(unfinished)?;
    let outcome = pipeline(&mut |progress| live.hear(&progress));
    if outcome.is_ok() {
        live.finish();
    } else {
        drop(live);
    }
    // What was cut short is no outcome, whatever it looks like.
    if stop.is_requested() { Err(Failure::Interrupted) } else { outcome }
}

fn shown(outcome: &Outcome, args: &RunArgs, global: Global) -> ExitCode {
    let code = exit_code(outcome.verdict);
    match text(outcome, args, global, code).and_then(|text| print(&text)) {
        Ok(()) => code.into(),
        Err(error) => said(&format!("cannot write the report: {error}"), EXIT_NO_OUTPUT),
    }
}

fn text(outcome: &Outcome, args: &RunArgs, global: Global, code: u8) -> io::Result<String> {
    if global.json {
        return Ok(json::report(outcome, code)? + "\n");
    }
    if args.markdown {
        return Ok(markdown::report(outcome, args.full));
    }
    let is_terminal = io::stdout().is_terminal();
    let view = View { width: width(is_terminal), full: args.full, paint: paints(global.color, is_terminal) };
    Ok(render::report(outcome, view).join("\n") + "\n")
}

/// What the program ends with when there is a verdict.
fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Good | Verdict::Neutral => EXIT_OK,
        Verdict::Bad | Verdict::NeedsAction => EXIT_BAD,
    }
}

fn failed(failure: &Failure) -> ExitCode {
    let (text, code) = match failure {
        Failure::Usage(text) => (text.as_str(), EXIT_USAGE),
        Failure::Unfinished(text) => (text.as_str(), EXIT_UNFINISHED),
        Failure::Interrupted => ("interrupted", EXIT_INTERRUPTED),
    };
    said(text, code)
}

/// Ends with a message.
fn said(text: &str, code: u8) -> ExitCode {
    let lines: Vec<String> = text.lines().map(text::safe).collect();
    let said = writeln!(io::stderr().lock(), "ekaci: {}", lines.join("\n"));
    let _ = said; // nobody reads it; the exit code says the same
    code.into()
}

/// Writes to standard output. Who reads only the beginning (`| head`) has what they wanted.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn paints(color: Color, is_terminal: bool) -> bool {
    let says = |name: &str, what: &dyn Fn(&std::ffi::OsStr) -> bool| {
        std::env::var_os(name).is_some_and(|v| what(&v))
    };
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            is_terminal
                && !says("NO_COLOR", &|value| !value.is_empty())
                && !says("TERM", &|term| term == "dumb")
        }
    }
}

/// Columns of the report.
fn width(is_terminal: bool) -> usize {
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let told = || std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    width_of(is_terminal, if is_terminal { terminal() } else { told() })
}

/// No columns at all: nobody knows.
fn width_of(is_terminal: bool, columns: Option<usize>) -> usize {
    let (min, max) = (*COLUMNS_TAKEN.start(), *COLUMNS_TAKEN.end());
    let wanted = columns.filter(|columns| *columns > 0).unwrap_or(COLUMNS_USUAL);
    wanted.clamp(if is_terminal { 1 } else { min }, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_columns_are_as_good_as_none_said() {
        let elsewhere = [None, Some(0), Some(5), Some(100), Some(5_000)].map(|said| width_of(false, said));
        assert_eq!(elsewhere, [80, 80, 20, 100, 1_000]);
        assert_eq!([None, Some(0), Some(5)].map(|said| width_of(true, said)), [80, 80, 5]);
    }
}
