//! The sandbox of one run, made ready. In: how far its code is trusted, what is wished, what it may fetch and take. Out: what
//! confines its evaluators, or that they run as they are, or why nothing of it runs. The order of the questions is here:
//! whether at all, then with what, and last whether the Nix daemon is safe.

use std::io;
use std::sync::Arc;

use ci_model::flow::Trust;
use service_kit::address::Reach;
use service_kit::clock::Clock;

use super::proxy::{Proxy, RuleError, Rules};
use super::{
    DaemonGate, DaemonStore, Decision, Groups, Keeper, Limits, Missing, NOBODY, NoDaemon, Sandbox, Settings,
    Share, Unconfined, Wish, decide,
};

/// What a run needs of the sandbox.
#[derive(Debug)]
pub struct Run<'a> {
    /// How far its code is trusted.
    pub trust: Trust,
    /// What is wished.
    pub wish: Wish,
    /// Where the sandbox's parts are.
    pub settings: &'a Settings,
    /// What may be fetched: prefixes of URIs.
    pub allowed_uris: &'a [String],
    /// How far the addresses behind them may reach.
    pub reach: Reach,
    /// What one evaluator may take.
    pub limits: Limits,
    /// What all of them may take, where the machine has a place for a control group.
    pub share: Share,
    /// The daemon through which derivations are written, and the gate before it; or why there is none.
    pub daemon: Result<(DaemonStore, &'a DaemonGate), NoDaemon>,
    /// Does the run write derivations? Then it needs the daemon.
    pub writes: bool,
    /// Time.
    pub clock: &'a Clock,
}

/// How a run's evaluators are started.
#[derive(Debug)]
pub enum Prepared {
    /// As they are.
    Unconfined,
    /// Inside.
    Confined(Keeper),
}

/// Why nothing of a run is evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no sandbox.
    #[error("this code is evaluated in the sandbox alone, and there is none")]
    NoSandbox(#[source] Missing),
    /// None is wished.
    #[error(
        "this code is evaluated in the sandbox alone, and the sandbox is turned off: turn it on, or have the change approved"
    )]
    NotWished,
    /// There is no Nix daemon.
    #[error("in the sandbox derivations are written through the Nix daemon, and there is none")]
    NoDaemon(#[source] NoDaemon),
    /// The Nix daemon is not safe.
    #[error("nothing that outsiders wrote is evaluated or built here")]
    Daemon(#[from] Unconfined),
    /// The list of what may be fetched is wrong.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// The proxy does not start.
    #[error(
        "start the proxy of the sandbox: see that the disk has space, and that sockets can be made in TMPDIR"
    )]
    Proxy(#[source] io::Error),
    /// The control group cannot be made.
    #[error("make a control group for evaluations")]
    Group(#[source] io::Error),
}

/// Makes a run's sandbox ready. Needs a tokio runtime with IO.
///
/// # Errors
/// [`Refusal`]: nothing of the run is to be started.
pub async fn prepare(run: Run<'_>) -> Result<Prepared, Refusal> {
    match decide(run.trust, run.wish, true) {
        Decision::Unconfined => return Ok(Prepared::Unconfined),
        Decision::NotWished => return Err(Refusal::NotWished),
        Decision::Confined | Decision::NoSandbox => {}
    }
    let rules = Rules::parse(run.allowed_uris)?;
    let sandbox = Sandbox::detect(run.settings).await.map_err(Refusal::NoSandbox)?;
    let (daemon, gate) = match run.daemon {
        Ok((daemon, gate)) => (Some(daemon), Some(gate)),
        Err(none) if run.writes => return Err(Refusal::NoDaemon(none)),
        Err(_) => (None, None), // nobody asks it for anything
    };
    let user = sandbox.root.then_some(NOBODY);
    let proxy = match rules.is_empty() {
        true => None,
        false => {
            let proxy = Proxy::start(rules, run.reach, run.clock.clone(), user).map_err(Refusal::Proxy)?;
            Some(Arc::new(proxy))
        }
    };
    let group = Groups::find().make(run.share).map_err(Refusal::Group)?;
    let group = group.map(Arc::new);
    let keeper = Keeper { sandbox: Arc::new(sandbox), limits: run.limits, daemon, proxy, group };
    if let (Trust::UntrustedPr, Some(gate)) = (run.trust, gate) {
        gate.check(&keeper).await?;
    }
    Ok(Prepared::Confined(keeper))
}
