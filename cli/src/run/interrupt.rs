//! What happens when somebody has had enough: SIGINT and SIGTERM come in; a request to stop goes to the pipeline, which
//! ends its children and removes its folders. Whoever insists, or a pipeline that takes too long, ends the program at
//! once; the kernel ends the children then. The terminal has its cursor again in any case.

use std::io;
use std::time::Duration;

use service_kit::clock::Clock;
use service_kit::shutdown::{Signals, Stop};

use super::live;

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
        Signals::listen().map_err(io::Error::other)?
    };
    let stop = Stop::new();
    let theirs = stop.clone();
    let wait = move || runtime.block_on(insist(signals, &theirs));
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(stop)
}

async fn insist(mut signals: Signals, stop: &Stop) {
    let first = signals.next().await;
    stop.request();
    tokio::select! {
        _ = signals.next() => {}
        () = Clock::system().sleep(STOP_TIME) => {}
    }
    live::restore();
    // Whoever could tidy up was asked to, and did not.
    std::process::exit(first.exit_code().into());
}
