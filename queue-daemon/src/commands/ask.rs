//! The subcommands that ask the daemon.
//!
//! In flow arguments; out flow one request over the control socket, printed replies and an exit code.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use service_kit::clock::{Clock, since};
use service_kit::telemetry::chain;

use super::print::{self, Printer};
use super::{fail, verdict};
use crate::cli::{
    AuditArgs, Cli, Command, EXIT_BAD, EXIT_NOT_FOUND, EXIT_OK, EXIT_TIME_OUT, EXIT_UNAVAILABLE, EXIT_USAGE,
    ListArgs, LookArgs, PushArgs, SelectArgs, WaitArgs,
};
use crate::control::client::{ClientError, Patience, ask_with};
use crate::control::protocol::{End, FailureKind, PushWhat, Request, Selection};
use crate::delivery::StateName;

/// What a daemon may need beyond the time it was given, before it counts as not answering.
const GRACE: Duration = Duration::from_secs(1);
/// Between two tries to reach a daemon that is being restarted.
const RECONNECT_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(socket: &Path, cli: &Cli) -> ExitCode {
    let request = match request(&cli.command) {
        Ok(request) => request,
        Err(message) => return fail(&message, EXIT_USAGE),
    };
    let mut printer = Printer::new(cli.json);
    let ended = match &cli.command {
        Command::Wait(arguments) => wait(socket, request, arguments, &mut printer),
        Command::Drain { timeout } => {
            // A drain that is not waited for any more is called off: as if its time were over.
            match ask_with(socket, &request, until(*timeout), |reply| printer.reply(reply)) {
                Err(ClientError::Silent { .. }) => Ok(End { timed_out: true, ..End::default() }),
                ended => ended,
            }
        }
        command => {
            let patience = look(command).map_or(Patience::Endless, |look| Patience::Silence(look.timeout));
            ask_with(socket, &request, patience, |reply| printer.reply(reply))
        }
    };
    match ended {
        Ok(end) => {
            let _ = printer.end(&cli.command, &end); // nobody reads it; the exit code says the rest
            if let Some(why) = met_nothing(&cli.command, &end) {
                return fail(why, EXIT_NOT_FOUND);
            }
            exit_code(&cli.command, &end)
        }
        Err(error) => failed(&error, cli.json),
    }
}

/// What bounds a command that only looks. One that steers, or asks the destinations, takes the time it needs.
fn look(command: &Command) -> Option<&LookArgs> {
    match command {
        Command::Status(arguments) => Some(&arguments.look),
        Command::List(arguments) => Some(&arguments.look),
        Command::Show(arguments) => Some(&arguments.look),
        Command::Audit(arguments) => Some(&arguments.look),
        _ => None,
    }
}

fn request(command: &Command) -> Result<Request, String> {
    Ok(match command {
        Command::Status(_) => Request::Status,
        Command::Verify(arguments) => Request::Verify {
            destination: arguments.destination.clone(),
            paths: arguments.paths.clone(),
            dry_run: arguments.dry_run,
        },
        Command::List(arguments) => list(arguments),
        Command::Show(arguments) => Request::Show { path: arguments.path.clone() },
        Command::Push(arguments) => push(arguments)?,
        Command::Wait(arguments) => Request::Wait { selection: waited(arguments), timeout_ms: None },
        Command::Retry(arguments) => Request::Retry { selection: selected(arguments) },
        Command::Drop(arguments) => Request::Drop { selection: selected(arguments) },
        Command::Pause { destination } => Request::Pause { destination: destination.clone() },
        Command::Resume { destination } => Request::Resume { destination: destination.clone() },
        Command::Drain { timeout } => Request::Drain { timeout_ms: timeout.map(millis) },
        Command::Audit(arguments) => audit(arguments)?,
        Command::Serve(_)
        | Command::Watch(_)
        | Command::Backup(_)
        | Command::Restore { .. }
        | Command::CheckConfig { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => return Err("this command is no single request".into()),
    })
}

fn list(arguments: &ListArgs) -> Request {
    let ago = |span: Duration| Clock::system().now().minus(span).as_ms();
    let selection = Selection {
        states: arguments.states.clone(),
        destination: arguments.destination.clone(),
        tag: arguments.tag.clone(),
        paths: arguments.paths.clone(),
        queued_before_ms: arguments.older_than.map(ago),
        queued_since_ms: arguments.newer_than.map(ago),
    };
    Request::List { selection, limit: arguments.limit }
}

fn audit(arguments: &AuditArgs) -> Result<Request, String> {
    if arguments.verify {
        return Ok(Request::VerifyAudit { head: arguments.head.clone() });
    }
    let since_ms = arguments.since.as_deref().map(since_ms).transpose()?;
    Ok(Request::Audit { since_ms, act: arguments.act.clone(), limit: arguments.limit })
}

/// `--since`, in milliseconds since 1970.
fn since_ms(text: &str) -> Result<i64, String> {
    let time = since(text, Clock::system().now()).map_err(|error| format!("--since: {error}"))?;
    Ok(time.as_ms())
}

fn push(arguments: &PushArgs) -> Result<Request, String> {
    let what = if arguments.all_valid {
        let since_ms = arguments.since.as_deref().map(since_ms).transpose()?;
        PushWhat::AllValid { ultimate: arguments.ultimate, since_ms }
    } else {
        PushWhat::Paths { paths: named_paths(&arguments.paths)?, closure: arguments.closure }
    };
    Ok(Request::Push {
        what,
        destinations: arguments.to.clone(),
        tag: arguments.tag.clone(),
        priority: arguments.priority,
    })
}

/// The named paths; `-` stands for those on standard input.
fn named_paths(named: &[String]) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    for path in named {
        if path == "-" {
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| format!("standard input cannot be read as text: {error}"))?;
            paths.extend(text.split_whitespace().map(str::to_owned));
        } else {
            paths.push(path.clone());
        }
    }
    Ok(paths)
}

fn waited(arguments: &WaitArgs) -> Selection {
    Selection {
        destination: arguments.destination.clone(),
        tag: arguments.tag.clone(),
        paths: arguments.paths.clone(),
        ..Selection::default()
    }
}

fn selected(arguments: &SelectArgs) -> Selection {
    Selection {
        states: arguments.states.clone(),
        destination: arguments.destination.clone(),
        tag: arguments.tag.clone(),
        paths: arguments.paths.clone(),
        ..Selection::default()
    }
}

/// Waits over restarts of the daemon: what it owes is on its disk, so the same question may be asked again.
fn wait(
    socket: &Path,
    request: Request,
    arguments: &WaitArgs,
    printer: &mut Printer,
) -> Result<End, ClientError> {
    let Request::Wait { selection, .. } = request else {
        unreachable!("wait is given its own request: run built it from the same arguments")
    };
    let begun = Instant::now();
    let mut away: Option<Instant> = None;
    loop {
        let left = arguments.timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
        let request = Request::Wait { selection: selection.clone(), timeout_ms: left.map(millis) };
        let error = match ask_with(socket, &request, until(left), |reply| printer.reply(reply)) {
            Ok(end) => return Ok(end),
            Err(ClientError::Silent { .. }) => return Ok(End { timed_out: true, ..End::default() }),
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(End { timed_out: true, ..End::default() });
        }
        let since = match (&error, away) {
            (ClientError::Hangup { .. }, _) | (_, None) => *away.insert(Instant::now()),
            (_, Some(since)) => since,
        };
        if since.elapsed() >= arguments.reconnect {
            return Err(error);
        }
        pause(RECONNECT_EVERY);
    }
}

/// Until when an answer that may take so long must be there; a moment beyond all time is none.
fn until(limit: Option<Duration>) -> Patience {
    let moment = limit.and_then(|limit| Instant::now().checked_add(limit.saturating_add(GRACE)));
    moment.map_or(Patience::Endless, Patience::Until)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a subcommand is a plain process: it may sleep between two tries"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn exit_code(command: &Command, end: &End) -> ExitCode {
    match command {
        Command::Wait(_) | Command::Drain { .. } => {
            if end.timed_out {
                return EXIT_TIME_OUT.into();
            }
            let bad = end.tally.as_ref().is_some_and(|t| t.of(StateName::Dead) + t.of(StateName::Gone) > 0);
            verdict(matches!(command, Command::Drain { .. }) || !bad)
        }
        Command::Push(_) => verdict(end.refused == 0),
        Command::Verify(_) if end.refused > 0 => EXIT_UNAVAILABLE.into(),
        Command::Verify(_) => verdict(end.count == 0),
        Command::Audit(arguments) if arguments.verify => verdict(end.refused == 0),
        _ => EXIT_OK.into(),
    }
}

/// What is said when a command met nothing of what it was told to look for.
fn met_nothing(command: &Command, end: &End) -> Option<&'static str> {
    match command {
        Command::Retry(arguments) if end.count == 0 && !arguments.all => Some(
            "nothing that was selected is waiting, dead or vanished; `eka-queue list` shows what there is",
        ),
        Command::Drop(arguments) if end.count == 0 && !arguments.all => {
            Some("nothing was selected that no attempt holds; `eka-queue list` shows what there is")
        }
        _ => None,
    }
}

pub(super) fn failed(error: &ClientError, json: bool) -> ExitCode {
    let code = match error {
        ClientError::Refused(failure) => match failure.kind {
            FailureKind::NotFound => EXIT_NOT_FOUND,
            FailureKind::BadRequest => EXIT_USAGE,
            FailureKind::Unavailable => EXIT_UNAVAILABLE,
        },
        // As with every program in front of `head`.
        ClientError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        ClientError::Output(_)
        | ClientError::Unreachable { .. }
        | ClientError::Hangup { .. }
        | ClientError::Silent { .. }
        | ClientError::Stranger { .. } => EXIT_UNAVAILABLE,
    };
    debug_assert!(code != EXIT_BAD, "a failure to ask is no bad answer");
    let message = chain(error);
    if json {
        let _ = print::error_json(&message); // nobody reads it; the exit code says the rest
    }
    fail(&message, code)
}
