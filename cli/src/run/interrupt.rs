//! What happens when somebody has had enough: SIGINT, SIGTERM and SIGHUP come in; a request to stop goes to the pipeline, which
//! ends its children and removes its folders. Whoever insists, or a pipeline that takes too long, ends the program at
//! once; the kernel ends the children then. The terminal has its cursor again in any case.

use std::io;
use std::time::Duration;

use service_kit::clock::Clock;
use service_kit::shutdown::{Signals, Stop};
use tokio::signal::unix::{Signal as Hangup, SignalKind, signal};

use super::live;
use crate::cli::EXIT_INTERRUPTED;

/// How long the pipeline may take to stop.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Listens from now on, for as long as the program lives.
///
/// # Errors
/// When the system refuses a thread, or to listen.
pub(super) fn listen() -> io::Result<Stop> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _within = runtime.enter();
        Asked::listen()?
    };
    let stop = Stop::new();
    let theirs = stop.clone();
    let wait = move || runtime.block_on(insist(signals, &theirs));
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(stop)
}

/// Whoever asks for the end: somebody at the terminal, a service manager, a terminal that goes away.
struct Asked {
    signals: Signals,
    hangup: Option<Hangup>,
}

impl Asked {
    fn listen() -> io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { signals: Signals::listen().map_err(io::Error::other)?, hangup })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.signals.next() => {}
            _ = hangup => {}
        }
    }
}

/// Whoever started us wants us to outlive the terminal, as `nohup` does.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0) // SIGHUP is the first of all signals
}

async fn insist(mut asked: Asked, stop: &Stop) {
    asked.next().await;
    stop.request();
    tokio::select! {
        () = asked.next() => {}
        () = Clock::system().sleep(STOP_TIME) => {}
    }
    live::restore();
    // Whoever could tidy up was asked to, and did not.
    std::process::exit(EXIT_INTERRUPTED.into());
}
