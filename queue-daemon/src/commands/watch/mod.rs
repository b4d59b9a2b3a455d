//! `eka-queue watch`: what is under way, again and again, until somebody ends it.
//!
//! In flow snapshots of the daemon, one each interval; out flow, on a terminal, a picture that is drawn over itself,
//! elsewhere a line for each change, or with `--json` one object each. A daemon that is away for a while is waited for.

mod draw;
mod screen;
#[cfg(test)]
mod tests;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use service_kit::clock::Clock;
use service_kit::shutdown::Signals;
use service_kit::telemetry::chain;

use super::{fail, out};
use crate::cli::{EXIT_OK, EXIT_SOFTWARE, WatchArgs};
use crate::control::client::{ClientError, Patience, ask_with};
use crate::control::protocol::{Reply, Request, Watched};
use screen::Screen;
use view::History;

/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Looks are not closer to each other than this: each one counts deliveries.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How what is seen is shown.
enum Show {
    Json,
    /// The whole picture, once.
    Once,
    /// A line for each change.
    Lines(view::Changes),
    Live(Screen),
}

pub(super) fn run(socket: &Path, arguments: &WatchArgs, json: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}"), EXIT_SOFTWARE),
    };
    let show = match (json, arguments.once) {
        (true, _) => Show::Json,
        (false, true) => Show::Once,
        (false, false) if screen::is_live() => Show::Live(Screen::new()),
        (false, false) => Show::Lines(view::Changes::default()),
    };
    let signals = {
        let _within = runtime.enter();
        Signals::listen()
    };
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => return fail(&chain(&error), EXIT_SOFTWARE),
    };
    let ended = runtime.block_on(watch(socket.to_owned(), arguments, show, signals));
    // A question that is not answered is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => EXIT_OK.into(),
        Err(error) => super::ask::failed(&error, json),
    }
}

async fn watch(
    socket: PathBuf,
    arguments: &WatchArgs,
    mut show: Show,
    mut signals: Signals,
) -> Result<(), ClientError> {
    let (clock, mut history) = (Clock::system(), History::default());
    let mut resized = screen::Resized::listen();
    loop {
        let looked = tokio::select! {
            _ = signals.next() => return Ok(()),
            looked = look(socket.clone()) => looked,
        };
        match looked {
            Ok(watched) => history.take(watched),
            Err(error) if history.is_empty() || arguments.once || !is_passing(&error) => return Err(error),
            Err(error) => history.none(chain(&error)),
        }
        if show.show(&history).is_err() || arguments.once {
            return Ok(()); // done, or our own output is closed
        }
        let next = clock.mono() + arguments.interval.max(INTERVAL_MIN);
        loop {
            tokio::select! {
                _ = signals.next() => return Ok(()),
                () = resized.next() => {
                    if let Show::Live(_) = &show
                        && show.show(&history).is_err()
                    {
                        return Ok(());
                    }
                }
                () = clock.sleep_until(next) => break,
            }
        }
    }
}

/// One snapshot.
async fn look(socket: PathBuf) -> Result<Watched, ClientError> {
    let asked = tokio::task::spawn_blocking(move || {
        let mut watched = None;
        ask_with(&socket, &Request::Watch, Patience::Silence(ANSWER_TIME), |reply| {
            if let Reply::Watched(found) = reply {
                watched = Some(*found);
            }
            Ok(())
        })?;
        watched.ok_or(ClientError::Hangup { socket })
    });
    asked.await.expect("asking the daemon does not panic: it returns its errors")
}

/// Whether a later look may be answered.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Hangup { .. } | ClientError::Silent { .. } => true,
        ClientError::Output(_) | ClientError::Stranger { .. } | ClientError::Refused(_) => false,
    }
}

impl Show {
    fn show(&mut self, history: &History) -> io::Result<()> {
        match self {
            Self::Json => match history.newest() {
                Some(watched) => out(&serde_json::to_string(watched)?),
                None => Ok(()),
            },
            Self::Once => {
                let width = if io::stdout().is_terminal() { screen::size().columns } else { usize::MAX };
                draw::draw(&history.still(), width, false).iter().try_for_each(|line| out(line))
            }
            Self::Lines(changes) => changes.of(&history.frame()).iter().try_for_each(|line| out(line)),
            Self::Live(screen) => {
                screen.draw(|size, paint| draw::draw(&history.frame(), size.columns, paint))
            }
        }
    }
}
