//! From what a person asked for to a run of the pipeline. In: arguments and the environment; out: the pipeline's outcome, or
//! why there is none. Everything that depends on this machine (its memory, its Nix, its folders) is found out here.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ci_model::diff::MAX_REBUILD_COUNT;
use ci_model::outcome::Outcome;
use ci_server::evaluate::confine::Confine;
use ci_server::evaluate::{Limits, Nix, Share};
use ci_server::pipeline::{Base, Head as WantedHead, Identity, RESULTS_BYTES_MAX, Request, RunError};
use ci_server::sandbox::Decision;
use ci_server::store::{Class, SqlitePlace, SqliteStore, StoreError};
use nix_types::System;
use service_kit::clock::Clock;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;
use tokio::task::spawn_blocking;

use super::args::{Engine, Head, RunArgs};
use super::{Failure, Tidy, Told, conduct, confined};
use crate::cli::Global;

/// Memory of one evaluator, unless something else is said: what a whole nixpkgs needs, and less where there is less.
const MEMORY_USUAL: u64 = 4 << 30;
/// The part of this machine's memory that evaluators may have together, in percent.
const MEMORY_SHARE_PERCENT: u64 = 75;
/// Variables of the environment that a person's own evaluators get: where Nix, its settings and its certificates are.
const VARIABLES: [&str; 16] = [
    "HOME",
    "USER",
    "NIX_PATH",
    "NIX_REMOTE",
    "NIX_STORE_DIR",
    "NIX_STATE_DIR",
    "NIX_LOG_DIR",
    "NIX_CONF_DIR",
    "NIX_CONFIG",
    "NIX_USER_CONF_FILES",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "https_proxy",
    "http_proxy",
];

/// What a person allows of nixpkgs, for their own code that is not locked in.
const VARIABLES_OF_NIXPKGS: [&str; 5] = [
    "NIXPKGS_ALLOW_BROKEN",
    "NIXPKGS_ALLOW_INSECURE",
    "NIXPKGS_ALLOW_UNFREE",
    "NIXPKGS_ALLOW_UNSUPPORTED_SYSTEM",
    "NIXPKGS_CONFIG",
];

/// Runs `ekaci run`.
pub(crate) fn run(args: &RunArgs, global: Global) -> ExitCode {
    conduct(args, global, |stop, told| pipeline(args, stop, told))
}

fn pipeline(args: &RunArgs, stop: &Stop, told: Told<'_>) -> Result<(Outcome, Tidy), Failure> {
    let unfinished = |what: &str, error: &dyn std::error::Error| {
        Failure::Unfinished(format!("cannot {what}: {}", chain(error)))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| unfinished("start a runtime", &error))?;
    args.check().map_err(Failure::Usage)?;
    runtime.block_on(async {
        let limits = limits(args);
        let clock = Clock::system();
        let confine = tokio::select! {
            confine = confined::confine(args, &limits, &clock) => confine?,
            () = stop.requested() => return Err(Failure::Interrupted),
        };
        let nix = nix(args)?;
        let identity = tokio::select! {
            identity = identity(args, nix.clone()) => identity?,
            () = stop.requested() => return Err(Failure::Interrupted),
        };
        let request = request(args, (limits, clock, confine), nix, identity)?;
        let outcome = ci_server::pipeline::run(&request, stop, told).await.map_err(failure)?;
        let tidy = move || ci_server::pipeline::forget(&*request.store, request.clock.now());
        Ok((outcome, Box::new(tidy) as Tidy))
    })
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Cancelled => Failure::Interrupted,
        error if error.is_usage() => Failure::Usage(chain(&error)),
        RunError::Store(error) => Failure::Unfinished(told(&error)),
        error => Failure::Unfinished(chain(&error)),
    }
}

/// What is wrong with what is remembered. It is nothing but time that is lost with it.
fn told(error: &StoreError) -> String {
    let more = match error.class() {
        Class::Damaged => {
            ". Nothing but what earlier runs evaluated is kept there: once it is moved away, it is made anew"
        }
        Class::Retry | Class::DiskFull | Class::Operator | Class::Refused | Class::Ours => "",
    };
    chain(error) + more
}

fn request(
    args: &RunArgs,
    (limits, clock, confine): (Limits, Clock, Arc<dyn Confine>),
    nix: Nix,
    identity: Identity,
) -> Result<Request, Failure> {
    let folders = Folders::find()?;
    let place = SqlitePlace { path: folders.state.join("ci.db"), clock: clock.clone(), vfs: None };
    let store = SqliteStore::open(&place).map_err(|error| Failure::Unfinished(told(&error)))?;
    let memory = memory_of_machine() / 100 * MEMORY_SHARE_PERCENT;
    let key = ci_server::store::RunKey::random().map_err(|error| {
        Failure::Unfinished(format!("cannot read /dev/urandom: {error}; see that it is there"))
    })?;
    Ok(Request {
        key,
        path: args.path.clone(),
        head: match &args.head {
            Head::Worktree => WantedHead::Worktree,
            Head::Revision(revision) => WantedHead::Revision(revision.clone()),
        },
        base: match (&args.base, args.no_base) {
            (_, true) => Base::Nothing,
            (Some(revision), false) => Base::Revision(revision.clone()),
            (None, false) => Base::WhereItBegan,
        },
        jobs: args.jobs.clone(),
        systems: args.systems.clone(),
        local_system: local_system()?,
        trust: args.trust(),
        allowed_uris: args.allow_uris.clone(),
        share: Share::new(limits.workers, memory.max(limits.memory_bytes), clock.clone()),
        clock,
        limits,
        engine: identity.text,
        fleeting: identity.fleeting,
        nix,
        confine,
        store: Arc::new(store),
        checkouts: folders.cache.join("checkouts"),
        results_bytes_max: RESULTS_BYTES_MAX,
        afresh: args.fresh,
        quick: args.quick,
        max_rebuild_count: MAX_REBUILD_COUNT,
    })
}

/// What evaluates, whether it sees the machine, and how far it reaches.
async fn identity(args: &RunArgs, nix: Nix) -> Result<Identity, Failure> {
    let (decision, reach) = (confined::decision(args), confined::reach(args));
    let is_locked_in = decision == Decision::Confined;
    let looked = spawn_blocking(move || ci_server::pipeline::identity(&nix, is_locked_in)).await;
    let looked = looked.map_err(|error| Failure::Unfinished(format!("cannot look at Nix: {error}")))?;
    let Identity { text, fleeting } = looked.map_err(|error| Failure::Unfinished(chain(&error)))?;
    Ok(Identity { text: format!("{text}\n{decision:?} {reach:?}"), fleeting })
}

/// Where things are kept between runs.
struct Folders {
    state: PathBuf,
    cache: PathBuf,
}

impl Folders {
    fn find() -> Result<Self, Failure> {
        let of = |variable: &str, usual: &str| -> Result<PathBuf, Failure> {
            let set =
                |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let folder = set(variable).or_else(|| Some(set("HOME")?.join(usual)));
            let missing = || format!("neither {variable} nor HOME is set to a folder; set one of them");
            let folder = folder.ok_or_else(|| Failure::Unfinished(missing()))?.join("ekaci");
            // What it holds is as private as the repositories it is about.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
                let what = folder.display();
                Failure::Unfinished(format!(
                    "cannot make the folder {what}: {error}; set {variable} to another one"
                ))
            })?;
            Ok(folder)
        };
        Ok(Self { state: of("XDG_STATE_HOME", ".local/state")?, cache: of("XDG_CACHE_HOME", ".cache")? })
    }
}

fn limits(args: &RunArgs) -> Limits {
    let mut limits = Limits::default();
    let budget = memory_of_machine() / 100 * MEMORY_SHARE_PERCENT;
    limits.memory_bytes = args.memory.map_or_else(|| MEMORY_USUAL.min(budget.max(1 << 30)), |size| size.0);
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let fit = usize::try_from(budget / limits.memory_bytes).unwrap_or(usize::MAX).max(1);
    limits.workers = args.workers.map_or(cores.min(fit), |workers| usize::from(workers.get()));
    if let Some(timeout) = args.timeout {
        limits.wall = timeout;
    }
    limits
}

/// All of it, in bytes.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::useless_conversion, reason = "the kernel's number is narrower on other machines")
)]
fn memory_of_machine() -> u64 {
    let said = rustix::system::sysinfo();
    u64::from(said.totalram).saturating_mul(u64::from(said.mem_unit.max(1)))
}

fn nix(args: &RunArgs) -> Result<Nix, Failure> {
    let engine = match args.engine {
        Engine::Auto => ci_server::evaluate::Engine::Any,
        Engine::Walker => ci_server::evaluate::Engine::Walk,
        Engine::NixEvalJobs => ci_server::evaluate::Engine::Tool,
    };
    let names = variables(confined::decision(args));
    let env = names.filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
    Ok(Nix { env: env.collect(), options: Vec::new(), engine })
}

/// Which variables evaluators get, where they are set.
fn variables(decision: Decision) -> impl Iterator<Item = &'static str> {
    let of_nixpkgs = match decision {
        Decision::Unconfined => &VARIABLES_OF_NIXPKGS[..],
        Decision::Confined | Decision::NoSandbox | Decision::NotWished => &[],
    };
    VARIABLES.iter().chain(of_nixpkgs).copied()
}

/// As Nix names it.
fn local_system() -> Result<System, Failure> {
    let arch = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        same => same,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        same => same,
    };
    format!("{arch}-{os}")
        .parse()
        .map_err(|error| Failure::Unfinished(format!("this machine's system: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a person allows themselves they do not allow code that is locked in.
    #[test]
    fn what_is_allowed_of_nixpkgs_is_for_code_that_is_not_locked_in() {
        let given = |decision| variables(decision).filter(|name| name.starts_with("NIXPKGS_")).count();
        let decisions = [Decision::Unconfined, Decision::Confined, Decision::NoSandbox, Decision::NotWished];
        assert_eq!(decisions.map(given), [5, 0, 0, 0]);
        assert!(variables(Decision::Confined).any(|name| name == "NIX_PATH"));
    }
}
