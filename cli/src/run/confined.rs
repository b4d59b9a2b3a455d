//! What keeps evaluators in. In: how far a person trusts the code, whether they want it locked in, what it may fetch. Out: what
//! each evaluator is started in, or why nothing is evaluated. Where this machine's Nix daemon is, is found out here.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use ci_server::evaluate::Limits;
use ci_server::evaluate::confine::{Bare, Confine};
use ci_server::sandbox::{
    self, DaemonGate, DaemonStore, Decision, Helper, NoDaemon, Prepared, Settings, Wish,
};
use service_kit::address::Reach;
use service_kit::clock::Clock;
use service_kit::telemetry::chain;

use super::Failure;
use super::args::{RunArgs, Sandbox};

/// Variables that say where Nix and its things are: who asks the daemon for us needs them as we do.
const NIX_FOLDERS: [&str; 4] = ["NIX_STORE_DIR", "NIX_STATE_DIR", "NIX_LOG_DIR", "NIX_CONF_DIR"];

/// Gets it ready: a person's own code is not kept in unless they ask for it.
pub(super) async fn confine(
    args: &RunArgs,
    limits: &Limits,
    clock: &Clock,
) -> Result<Arc<dyn Confine>, Failure> {
    if decision(args) == Decision::Unconfined {
        return Ok(Arc::new(Bare)); // and no daemon is asked whether it is there
    }
    let helper = Helper::ourselves()
        .map_err(|error| Failure::Unfinished(format!("cannot find this program: {error}")))?;
    let settings = Settings { bubblewrap: None, helper };
    let gate = DaemonGate::new(nix_folder("NIX_STATE_DIR", "/nix/var/nix"), variables());
    let workers = limits.workers as u64;
    let run = sandbox::Run {
        trust: args.trust(),
        wish: wish(args),
        settings: &settings,
        allowed_uris: &args.allow_uris,
        reach: reach(args),
        limits: sandbox::Limits { memory_bytes: limits.memory_bytes, ..sandbox::Limits::default() },
        share: sandbox::Share {
            memory_bytes: limits.memory_bytes.saturating_mul(workers),
            processes: sandbox::Limits::default().processes * workers,
        },
        daemon: daemon().map(|store| (store, &gate)),
        writes: true,
        clock,
    };
    match sandbox::prepare(run).await.map_err(|error| Failure::Unfinished(chain(&error)))? {
        Prepared::Unconfined => Ok(Arc::new(Bare)),
        Prepared::Confined(keeper) => Ok(Arc::new(keeper)),
    }
}

/// Is anything locked in, where this machine can do that?
pub(super) fn decision(args: &RunArgs) -> Decision {
    sandbox::decide(args.trust(), wish(args), true)
}

/// How far the places that may be fetched from may be away.
pub(super) fn reach(args: &RunArgs) -> Reach {
    if args.allow_private_hosts { Reach::Private } else { Reach::Public }
}

fn wish(args: &RunArgs) -> Wish {
    match args.sandbox {
        Sandbox::Auto => Wish::AsTrusted,
        Sandbox::On => Wish::Always,
        Sandbox::Off => Wish::Never,
    }
}

fn variables() -> Vec<(OsString, OsString)> {
    NIX_FOLDERS.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

fn nix_folder(variable: &str, usual: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from)
}

/// The Nix daemon, where one listens.
fn daemon() -> Result<DaemonStore, NoDaemon> {
    let socket_folder = nix_folder("NIX_STATE_DIR", "/nix/var/nix").join("daemon-socket");
    DaemonStore::find(socket_folder, nix_folder("NIX_STORE_DIR", "/nix/store"))
}
