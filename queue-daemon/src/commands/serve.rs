//! `eka-queue serve`: the process around the daemon: logs, signals, systemd.
//!
//! In flows a checked configuration; out flows an exit code when the daemon has ended.

use std::process::ExitCode;
use std::time::Duration;

use nix_store::StoreDirs;
use service_kit::clock::Clock;
use service_kit::notify;
use service_kit::shutdown::Signals;
use service_kit::telemetry::{self, chain};

use super::{fail, privacy};
use crate::cli::{EXIT_CONFIG, EXIT_OK, EXIT_SOFTWARE, LogFormat, ServeArgs};
use crate::config::{self, Config, Found};
use crate::serve::{Running, Setup, start};
use crate::sockets::Inherited;

/// Threads that serve sockets and lanes; waiting is most of what they do.
const WORKER_THREADS: usize = 2;
/// Threads for disk and store questions.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long blocking work that nobody waits for any more may hold up the end.
const LEFT_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn run(config: Config, arguments: &ServeArgs) -> ExitCode {
    let format = match arguments.log_format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    if let Err(error) = telemetry::start(arguments.log.as_deref(), format) {
        return fail(&chain(&error), EXIT_CONFIG);
    }
    // Before anything reads a secret.
    if let Err(error) = privacy::keep() {
        return fail(&chain(&error), EXIT_SOFTWARE);
    }
    let Found { mut problems, absent, warnings } = config::check(&config);
    problems.extend(absent);
    for warning in config.warnings.iter().chain(&warnings) {
        tracing::warn!("{}", warning.in_file(&config.file));
    }
    if !problems.is_empty() {
        for problem in problems {
            tracing::error!("{}", problem.in_file(&config.file));
        }
        return EXIT_CONFIG.into();
    }
    crate::allocator::bound();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(serve(config));
            runtime.shutdown_timeout(LEFT_WITHIN);
            code
        }
        Err(error) => fail(&format!("cannot start the runtime: {error}"), EXIT_SOFTWARE),
    }
}

async fn serve(config: Config) -> ExitCode {
    let running = match prepare(config).await {
        Ok(running) => running,
        Err(error) => {
            tracing::error!("cannot start: {}", chain(&*error));
            return EXIT_SOFTWARE.into();
        }
    };
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&chain(&error), EXIT_SOFTWARE),
    };
    let (count, version) = (running.queue().config.caches.len(), env!("CARGO_PKG_VERSION"));
    tracing::info!("eka-queue {version} is ready: {count} destination(s)");
    say(notify::ready("taking paths in"));
    let stop = running.stop().clone();
    let told = stop.clone();
    tokio::spawn(async move {
        told.requested().await;
        say(notify::stopping());
    });
    tokio::select! {
        ended = running.finish() => match ended {
            Ok(()) => {
                tracing::info!("ended; what is still owed is on disk");
                EXIT_OK.into()
            }
            Err(error) => {
                tracing::error!("ended by a failure: {}", chain(&error));
                EXIT_SOFTWARE.into()
            }
        },
        insisted = signals.stop_then_insist(&stop) => insisted.exit_code().into(),
    }
}

async fn prepare(config: Config) -> Result<Running, Box<dyn std::error::Error>> {
    let inherited = Inherited::sort(notify::take_listen_fds()?)?;
    let setup = Setup {
        config,
        clock: Clock::system(),
        dirs: StoreDirs::from_env()?,
        store: None,
        engines: None,
        vfs: None,
        inherited,
    };
    Ok(start(setup).await?)
}

/// Systemd may be gone; we are not.
fn say(told: Result<(), notify::NotifyError>) {
    if let Err(error) = told {
        tracing::warn!("systemd was not told: {}", chain(&error));
    }
}
