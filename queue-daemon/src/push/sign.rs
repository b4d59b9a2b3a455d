//! The built-in destination that signs the local store (`sign_store = true`).
//!
//! In flows a batch; out flow signatures by every configured key on the batch and its closure, in the store's own
//! database; then a look whether they are there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix_store::copy::NixCommands;
use nix_store::{PathInfo, Store, StoreError};
use nix_types::signature::fingerprint;
use nix_types::{SecretKey, Sha256, StorePath};
use serde_json::json;
use service_kit::shutdown::Stop;
use service_kit::telemetry::chain;

use super::keys::{self, Ring};
use super::nix_copy::{commands, fault, paths};
use super::{Batch, Check, Checked, Fault, Leased, Push, Pushed, Reports, Rules, Whole, Work};
use crate::config::CacheConfig;
use crate::delivery::FaultClass;
use crate::queue::Queue;

/// Paths of one batch.
const PATHS_MAX: usize = 256;

/// The engine.
pub(crate) struct SignStore {
    commands: NixCommands,
    keys: Arc<Ring>,
    store: Arc<dyn Store>,
}

impl SignStore {
    /// An engine that signs with every key of the configuration.
    pub(crate) fn new(cache: &CacheConfig, queue: &Queue) -> Self {
        let settings = &queue.config.queue;
        let keys = Ring::new(&cache.id, settings.signing_key_files.clone(), queue);
        let store = Arc::clone(&queue.store);
        Self { commands: commands(cache.timeout, settings), keys: Arc::new(keys), store }
    }

    /// Signs in this process and has the Nix daemon add what is missing; without a daemon Nix' own command does both.
    async fn sign(&self, batch: Batch<'_>, keys: &Arc<Vec<SecretKey>>, stop: &Stop) -> Result<(), Fault> {
        let (store, closure, keys) = (Arc::clone(&self.store), batch.closure.to_vec(), Arc::clone(keys));
        let signed = tokio::task::spawn_blocking(move || add_missing(&*store, &closure, &keys));
        match signed.await.expect("signing does not panic: it returns its errors") {
            Ok(()) => return Ok(()),
            Err(error) if error.is_without_daemon() => {}
            Err(StoreError::NotValid { path }) => return Err(Fault::Gone(path)),
            Err(error) => return Err(unreachable(chain(&error))),
        }
        for key in self.keys.files() {
            let signed = self.commands.sign(key, &paths(batch.leased), stop.requested()).await;
            signed.map_err(|error| fault(&error, &*self.store))?;
        }
        Ok(())
    }

    fn look(&self, batch: &[Leased], keys: &[SecretKey], reports: &Reports) {
        let names: Vec<&str> = keys.iter().map(SecretKey::name).collect();
        for (place, leased) in batch.iter().enumerate() {
            match self.receipt(leased, &names) {
                Ok(receipt) => reports.delivered(place, receipt, 0),
                Err(fault) => reports.failed(place, fault),
            }
        }
    }

    fn receipt(&self, leased: &Leased, names: &[&str]) -> Result<serde_json::Value, Fault> {
        let path = &leased.path;
        let info = match self.store.path_info(path) {
            Ok(Some(info)) => info,
            Ok(None) => return Err(Fault::Gone(path.clone())),
            Err(error) => return Err(unreachable(chain(&error))),
        };
        match lacking(&info, names) {
            None => Ok(json!({ "kind": "local-store", "signed_by": names })),
            Some(name) => {
                let why = format!("{path} was signed, but has no signature by {name}");
                Err(Fault::failed(FaultClass::Failed, why))
            }
        }
    }
}

/// Adds to each path the signatures it lacks. Blocks.
fn add_missing(store: &dyn Store, closure: &[PathInfo], keys: &[SecretKey]) -> Result<(), StoreError> {
    for info in closure {
        // What cannot be hashed cannot be signed; it shows when somebody looks for the signature.
        let Ok(nar_hash) = Sha256::parse(&info.nar_hash) else { continue };
        let fingerprint = fingerprint(&info.path, &nar_hash, info.nar_size, &info.references);
        let mut missing: Vec<String> = keys.iter().map(|key| key.sign(&fingerprint).to_string()).collect();
        missing.retain(|signature| !info.signatures.contains(signature));
        if !missing.is_empty() {
            store.add_signatures(&info.path, &missing)?;
        }
    }
    Ok(())
}

/// What the store says of each path now. One that is no longer there lacks nothing.
fn check_all(store: &dyn Store, key_files: &[PathBuf], paths: &[StorePath]) -> Result<Checked, Fault> {
    let keys = keys::read_all(key_files)?;
    let names: Vec<&str> = keys.iter().map(SecretKey::name).collect();
    let mut checked = Checked::default();
    for path in paths {
        let info = store.path_info(path).map_err(|error| unreachable(chain(&error)))?;
        checked.checks.push(match info.as_ref().map(|info| lacking(info, &names)) {
            None => Check::Unknown,
            Some(None) => Check::There,
            Some(Some(name)) => {
                checked.lost.push(path.clone());
                Check::Missing(format!("it has no signature by {name}"))
            }
        });
    }
    Ok(checked)
}

/// The first key by which a path is not signed.
fn lacking<'a>(info: &PathInfo, names: &[&'a str]) -> Option<&'a str> {
    let has = |name: &str| info.signatures.iter().any(|sig| sig.split(':').next() == Some(name));
    names.iter().copied().find(|name| !has(name))
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
        Rules {
            paths_max: PATHS_MAX,
            one_drv: false,
            closure: true,
            exclusive: false,
            gather: Duration::ZERO,
        }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(async move {
            let ring = Arc::clone(&self.keys);
            let read = tokio::task::spawn_blocking(move || ring.read());
            let keys = Arc::new(read.await.expect("reading a key does not panic: it returns its errors")?);
            self.sign(batch, &keys, stop).await?;
            reports.sent();
            self.look(batch.leased, &keys, reports);
            Ok(Pushed::default())
        })
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        _: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        let (store, files, paths) = (Arc::clone(&self.store), self.keys.files().to_vec(), paths.to_vec());
        Box::pin(async move {
            let looked = tokio::task::spawn_blocking(move || check_all(&*store, &files, &paths));
            let Some(checked) = stop.or(looked).await else { return Err(Fault::Cancelled) };
            checked.expect("asking the store does not panic: it returns its errors")
        })
    }
}

#[cfg(test)]
mod tests {
    use nix_store::FakeStore;

    use super::*;

    /// The first test vector of RFC 8032: seed, then public key.
    const PAIR: &str =
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";

    #[test]
    fn a_path_that_lost_a_signature_is_missing_and_one_that_left_the_store_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a", "b"].map(|name| folder.path().join(name));
        keys.iter().for_each(|key| {
            let name = key.file_name().and_then(|name| name.to_str()).unwrap();
            std::fs::write(key, format!("{name}:{PAIR}")).unwrap();
        });
        let path = |digit: char| {
            let hash = digit.to_string().repeat(32);
            StorePath::parse_str(&format!("/nix/store/{hash}-p")).unwrap()
        };
        let store = FakeStore::new("/nix/store");
        for (digit, signatures) in [('1', vec!["b:x".to_owned(), "a:y".into()]), ('2', vec!["a:y".into()])] {
            store.add_simple(&path(digit), &[]).unwrap();
            let info = store.path_info(&path(digit)).unwrap().unwrap();
            store.add(PathInfo { signatures, ..info }).unwrap();
        }
        let checked = check_all(&store, &keys, &['1', '2', '3'].map(path)).unwrap();
        let missing = Check::Missing("it has no signature by b".into());
        assert_eq!(checked.checks, [Check::There, missing, Check::Unknown]);
        assert_eq!(checked.lost, [path('2')]);
        store.set_down(Some("away"));
        assert!(check_all(&store, &keys, &[path('1')]).is_err_and(|fault| fault.is_unreachable()));
        store.set_down(None);
        std::fs::remove_file(&keys[0]).unwrap();
        assert!(check_all(&store, &keys, &[path('1')]).is_err_and(|fault| fault.is_unreachable()));
    }
}
