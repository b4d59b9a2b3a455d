//! The built-in destination that signs the local store (`sign_store = true`).
//!
//! In flows a batch; out flow signatures by every configured key on the batch and its closure, in the store's own
//! database; then a look whether they are there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix_store::Store;
use nix_store::copy::NixCommands;
use serde_json::json;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::nix_copy::{commands, fault, paths};
use super::{Batch, Fault, Leased, Push, Pushed, Reports, Rules, Work};
use crate::config::QueueConfig;
use crate::delivery::FaultClass;

/// Paths of one `nix store sign`.
const PATHS_MAX: usize = 256;

/// The engine.
pub(crate) struct SignStore {
    commands: NixCommands,
    keys: Vec<PathBuf>,
    store: Arc<dyn Store>,
}

impl SignStore {
    /// An engine that signs with every key of `queue`.
    pub(crate) fn new(timeout: Duration, queue: &QueueConfig, store: Arc<dyn Store>) -> Self {
        Self { commands: commands(timeout, queue), keys: queue.signing_key_files.clone(), store }
    }

    async fn sign(&self, batch: &[Leased], stop: &Stop) -> Result<(), Fault> {
        for key in &self.keys {
            let signed = self.commands.sign(key, &paths(batch), stop.requested()).await;
            signed.map_err(|error| fault(&error, &*self.store))?;
        }
        Ok(())
    }

    fn look(&self, batch: &[Leased], reports: &Reports) -> Result<(), Fault> {
        let mut names = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            names.push(key_name(key)?);
        }
        for (place, leased) in batch.iter().enumerate() {
            match self.receipt(leased, &names) {
                Ok(receipt) => reports.delivered(place, receipt, leased.nar_bytes),
                Err(fault) => reports.failed(place, fault),
            }
        }
        Ok(())
    }

    fn receipt(&self, leased: &Leased, names: &[String]) -> Result<serde_json::Value, Fault> {
        let path = &leased.path;
        let info = match self.store.path_info(path) {
            Ok(Some(info)) => info,
            Ok(None) => return Err(Fault::Gone(path.clone())),
            Err(error) => return Err(unreachable(chain(&error))),
        };
        let has =
            |name: &&String| info.signatures.iter().any(|sig| sig.split(':').next() == Some(name.as_str()));
        match names.iter().find(|name| !has(name)) {
            None => Ok(json!({ "kind": "local-store", "signed_by": names })),
            Some(name) => {
                let why = format!("{path} was signed, but has no signature by {name}");
                Err(Fault::failed(FaultClass::Failed, why))
            }
        }
    }
}

/// The name of a secret key: what stands before its colon.
fn key_name(file: &Path) -> Result<String, Fault> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| unreachable(format!("secret key {} cannot be read: {error}", file.display())))?;
    Ok(text.split(':').next().unwrap_or_default().to_owned())
}

/// No path is to blame.
fn unreachable(why: String) -> Fault {
    Fault::failed(FaultClass::Unreachable, why)
}

impl Push for SignStore {
    fn kind(&self) -> &'static str {
        "local-store"
    }

    fn rules(&self) -> Rules {
        Rules { paths_max: PATHS_MAX, one_drv: false, closure: false, exclusive: false }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(async move {
            self.sign(batch.leased, stop).await?;
            reports.sent();
            self.look(batch.leased, reports)?;
            Ok(Pushed::default())
        })
    }
}
