//! Any store that Nix can copy to (`cache_type = "nix-copy"`), by running `nix copy`.
//!
//! In flows a batch; out flows one `nix copy` of its closure, references first, signed on the way when a key is
//! configured, and then the destination's own word about every path. Each run has an empty cache folder, so that
//! Nix asks the destination and not its memory of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix_store::Store;
use nix_store::copy::{CopyError, FaultClass as CopyClass, NixCommands, StoreUrl};
use nix_types::StorePath;
use serde_json::json;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::{Batch, Check, Checked, Fault, Leased, Push, Pushed, Reports, Rules, Whole, Work};
use crate::config::QueueConfig;
use crate::delivery::FaultClass;

/// Paths of one `nix copy`; their closure may be larger.
const PATHS_MAX: usize = 256;

/// The engine.
pub(crate) struct NixCopy {
    commands: NixCommands,
    url: StoreUrl,
    /// The destination as receipts and messages name it, with credentials hidden.
    shown: String,
    /// Keys that sign the batch in the local store first (`sign_store`).
    sign_first: Vec<PathBuf>,
    store: Arc<dyn Store>,
}

impl NixCopy {
    /// An engine that copies to `url`.
    pub(crate) fn new(url: &StoreUrl, timeout: Duration, queue: &QueueConfig, store: Arc<dyn Store>) -> Self {
        let sign_first = if queue.sign_store { queue.signing_key_files.clone() } else { Vec::new() };
        Self {
            commands: commands(timeout, queue),
            url: url.clone(),
            shown: url.to_string(),
            sign_first,
            store,
        }
    }

    async fn run(&self, batch: &[Leased], stop: &Stop) -> Result<(), Fault> {
        let paths = paths(batch);
        for key in &self.sign_first {
            let signed = self.commands.sign(key, &paths, stop.requested()).await;
            signed.map_err(|error| self.fault(&error))?;
        }
        let copied = self.commands.copy(&self.url, &paths, stop.requested(), &mut |_, _| {}).await;
        copied.map_err(|error| self.fault(&error))
    }

    /// Asks for every path of the batch; true when the destination has them all.
    async fn ask(&self, batch: &[Leased], reports: &Reports, stop: &Stop) -> Result<bool, Fault> {
        let missing = self.commands.missing(&self.url, &paths(batch), stop.requested()).await;
        let missing = missing.map_err(|error| self.fault(&error))?;
        for (place, leased) in batch.iter().enumerate() {
            if missing.contains(&leased.path) {
                let (to, path) = (&self.shown, &leased.path);
                let why = format!("`nix copy` succeeded, but {to} does not have {path}");
                reports.failed(place, Fault::failed(FaultClass::Failed, why));
            } else {
                let receipt = json!({ "kind": "nix-copy", "to": self.shown, "asked": "check-validity" });
                reports.delivered(place, receipt, leased.nar_bytes);
            }
        }
        Ok(missing.is_empty())
    }

    fn fault(&self, error: &CopyError) -> Fault {
        fault(error, &*self.store)
    }
}

impl Push for NixCopy {
    fn kind(&self) -> &'static str {
        "nix-copy"
    }

    fn rules(&self) -> Rules {
        Rules { paths_max: PATHS_MAX, one_drv: false, closure: true, exclusive: true, gather: Duration::ZERO }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(async move {
            self.run(batch.leased, stop).await?;
            reports.sent();
            let all_there = self.ask(batch.leased, reports, stop).await?;
            let present = batch.closure.iter().filter(|_| all_there).map(|info| info.path.clone());
            Ok(Pushed { present: present.collect(), bytes: 0 })
        })
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        _: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        Box::pin(async move {
            let lost = self.commands.missing(&self.url, paths, stop.requested()).await;
            let lost = lost.map_err(|error| self.fault(&error))?;
            let check = |path: &StorePath| match lost.contains(path) {
                true => Check::Missing("it is not valid there".into()),
                false => Check::There,
            };
            Ok(Checked { checks: paths.iter().map(check).collect(), lost })
        })
    }
}

/// Nix' commands with this destination's bounds.
pub(super) fn commands(timeout: Duration, queue: &QueueConfig) -> NixCommands {
    let mut commands = NixCommands::new(queue.state_dir.join("scratch"));
    commands.silent = Some(timeout);
    // A child must not answer systemd for us.
    commands.env = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| (name.into(), None)).into();
    commands
}

/// The paths of a batch.
pub(super) fn paths(batch: &[Leased]) -> Vec<StorePath> {
    batch.iter().map(|leased| leased.path.clone()).collect()
}

/// What a failed command means for the deliveries.
pub(super) fn fault(error: &CopyError, store: &dyn Store) -> Fault {
    let why = chain(error);
    let class = match error {
        CopyError::Cancelled { .. } => return Fault::Cancelled,
        CopyError::Fault { fault, .. } => match &fault.class {
            CopyClass::Unreachable => FaultClass::Unreachable,
            CopyClass::PathGone(path) => {
                // Another Nix on the way may have meant its own store.
                if matches!(store.is_valid(path), Ok(false)) {
                    return Fault::Gone(path.clone());
                }
                FaultClass::Failed
            }
            // Credentials or configuration: somebody will mend them, and until then no path is to blame.
            CopyClass::Refused | CopyClass::Failed => FaultClass::Failed,
        },
        CopyError::TimedOut { .. } => FaultClass::Stuck,
        CopyError::Answer { .. } => FaultClass::Failed,
        // We could not even start it: no path is to blame.
        CopyError::Scratch { .. } | CopyError::Process { .. } => FaultClass::Unreachable,
    };
    Fault::Failed { class, why, output: super::printable(error.output()) }
}

#[cfg(test)]
mod tests {
    use nix_store::FakeStore;
    use nix_store::copy::CopyFault;
    use nix_store::process::Exit;

    use super::*;

    #[test]
    fn a_failure_keeps_its_last_lines() {
        let copied = CopyError::Fault {
            what: "nix copy",
            exit: Exit::Exited(1),
            fault: CopyFault { class: CopyClass::Refused, line: "error: no".into() },
            output: "copying 1 paths\nerror: no\u{202e}\n".into(),
        };
        let want = Fault::Failed {
            class: FaultClass::Failed,
            why: "nix copy failed (exit code 1): error: no".into(),
            output: "copying 1 paths\nerror: no\\u{202e}\n".into(),
        };
        assert_eq!(fault(&copied, &FakeStore::new("/nix/store")), want);
    }
}
