//! What goes with a path and is not in its archive: realisations, and the log of the build.
//!
//! In flow a path and its derivation; out flow objects at the destination, beside its narinfo. What cannot be had is
//! left out with a warning, and so is a log the destination does not take: the path itself is whole without it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nix_store::log::build_log;
use nix_store::{Store, StoreDirs};
use nix_types::cache_url::Encoding;
use nix_types::realisation::{DrvOutput, Realisation};
use nix_types::{DrvPath, SecretKey, Signature, StorePath};
use object_kit::{Meta, ObjectError, Objects, Outcome};
use service_kit::telemetry::chain;

use super::publish::AT_ONCE;
use super::{Native, encoding, faults};
use crate::delivery::FaultClass;
use crate::push::{Fault, Work};

/// Most bytes of a realisation that are read.
const REALISATION_BYTES_MAX: usize = 1 << 20;
/// How often another writer may come between.
const TRIES: usize = 5;

/// Where notes come from.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) store: Arc<dyn Store>,
    pub(super) dirs: StoreDirs,
    /// How logs are encoded; `None` when they are not wanted.
    pub(super) logs: Option<Encoding>,
}

/// What is to be looked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    path: StorePath,
    /// Whether its content decides its name, so that there may be realisations.
    addressed: bool,
    /// The derivation whose log is wanted.
    drv: Option<DrvPath>,
    /// What is signed is signed with these.
    pub(super) keys: Arc<Vec<SecretKey>>,
}

impl Wanted {
    /// That nothing goes with the path.
    pub(super) fn is_nothing(&self) -> bool {
        !self.addressed && self.drv.is_none()
    }
}

impl Native {
    /// What goes with a path that was asked for with this derivation.
    pub(super) fn wanted(
        &self,
        info: &nix_store::PathInfo,
        drv: Option<DrvPath>,
        keys: &Arc<Vec<SecretKey>>,
    ) -> Wanted {
        let drv = drv.filter(|_| self.notes.logs.is_some());
        Wanted { path: info.path.clone(), addressed: info.ca.is_some(), drv, keys: Arc::clone(keys) }
    }

    /// Brings there what goes with paths that are there themselves; says for each, in their order, what came of it.
    pub(super) async fn add_notes(&self, objects: &dyn Objects, wanted: &[Wanted]) -> Vec<Result<(), Fault>> {
        if wanted.iter().all(Wanted::is_nothing) {
            return vec![Ok(()); wanted.len()];
        }
        let puts: Vec<Work<'_, Result<(), Fault>>> =
            wanted.iter().map(|one| Box::pin(self.put_notes(objects, one)) as _).collect();
        let mut done: Vec<Result<(), Fault>> = stream::iter(puts).buffered(AT_ONCE).collect().await;
        if let Err(error) = objects.settle().await {
            let fault = faults::of_settle(&error);
            let lost =
                wanted.iter().zip(&mut done).filter(|(wanted, done)| !wanted.is_nothing() && done.is_ok());
            lost.for_each(|(_, done)| *done = Err(fault.clone()));
        }
        done
    }

    /// Puts what goes with a path.
    pub(super) async fn put_notes(&self, objects: &dyn Objects, wanted: &Wanted) -> Result<(), Fault> {
        if wanted.addressed {
            for realisation in self.notes.realisations(wanted).await {
                self.put_realisation(objects, realisation).await?;
            }
        }
        match &wanted.drv {
            Some(drv) => self.put_log(objects, drv).await,
            None => Ok(()),
        }
    }

    /// What a destination does not take is left out; one that is away is told.
    async fn put_log(&self, objects: &dyn Objects, drv: &DrvPath) -> Result<(), Fault> {
        let Err(error) = self.try_log(objects, drv).await else { return Ok(()) };
        let fault = faults::of_object(&error);
        if let Fault::Failed { class: FaultClass::Failed | FaultClass::Refused, why, .. } = &fault {
            tracing::warn!(destination = %self.id, "the log of {drv} is left out: {why}");
            return Ok(());
        }
        Err(fault)
    }

    /// A log stays as it was first told. One at a time is in memory.
    async fn try_log(&self, objects: &dyn Objects, drv: &DrvPath) -> Result<(), ObjectError> {
        let key = format!("log/{}", drv.store_path().base_name());
        if objects.head(&key).await?.is_some() {
            return Ok(());
        }
        let _one = self.log_in_hand.lock().await;
        let Some((bytes, meta)) = self.notes.log(drv).await else { return Ok(()) };
        objects.put(&key, bytes, &meta.create()).await.map(drop)
    }

    /// One that is there already keeps its signatures and gets ours; one that says otherwise stays.
    async fn put_realisation(&self, objects: &dyn Objects, mut ours: Realisation) -> Result<(), Fault> {
        let key = ours.id.key();
        for _ in 0..TRIES {
            let found = objects.get(&key, REALISATION_BYTES_MAX).await;
            let found = found.map_err(|error| faults::of_object(&error))?;
            let meta = Meta::new("application/json");
            let meta =
                found.as_ref().map_or_else(|| meta.clone().create(), |found| meta.clone().matching(found));
            // What is none is of no use to anybody, and is replaced.
            let text = found.map(|found| String::from_utf8_lossy(&found.bytes).into_owned());
            let theirs = text.and_then(|text| Realisation::parse(&text, self.store_dir()).ok());
            if let Some(theirs) = theirs {
                if theirs.fingerprint() != ours.fingerprint() {
                    tracing::warn!(destination = %self.id, "{key} at {} names another path; it stays", self.shown);
                    return Ok(());
                }
                if ours.signatures.iter().all(|one| theirs.signatures.contains(one)) {
                    return Ok(());
                }
                let new = theirs.signatures.into_iter().filter(|one| !ours.signatures.contains(one));
                let new: Vec<Signature> = new.collect();
                ours.signatures.extend(new);
            }
            let put = objects.put(&key, Bytes::from(ours.to_json()), &meta).await;
            if put.map_err(|error| faults::of_object(&error))?.outcome == Outcome::Stored {
                return Ok(());
            }
        }
        let why = format!("{key} at {} is changed by others again and again", self.shown);
        Err(Fault::failed(FaultClass::Failed, why))
    }
}

impl Notes {
    async fn log(&self, drv: &DrvPath) -> Option<(Bytes, Meta)> {
        let (notes, drv) = (self.clone(), drv.clone());
        let read = tokio::task::spawn_blocking(move || notes.read_log(&drv));
        read.await.expect("reading a log does not panic: it warns of its errors")
    }

    fn read_log(&self, drv: &DrvPath) -> Option<(Bytes, Meta)> {
        match build_log(&self.dirs, drv) {
            Ok(Some(log)) => {
                let meta = Meta::new("text/plain; charset=utf-8");
                Some(encoding::apply(log, self.logs.unwrap_or_default(), meta))
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!("the log of {drv} is left out: {}", chain(&error));
                None
            }
        }
    }

    async fn realisations(&self, wanted: &Wanted) -> Vec<Realisation> {
        let (notes, wanted) = (self.clone(), wanted.clone());
        let read = tokio::task::spawn_blocking(move || {
            notes.read_realisations(&wanted).unwrap_or_else(|why| {
                tracing::warn!("realisations of {} are left out: {why}", wanted.path);
                Vec::new()
            })
        });
        read.await.expect("reading realisations does not panic: it warns of its errors")
    }

    fn read_realisations(&self, wanted: &Wanted) -> Result<Vec<Realisation>, String> {
        let drv_output = |text: &str| DrvOutput::parse(text).map_err(|error| error.to_string());
        let mut realisations = Vec::new();
        for found in self.store.realisations_of(&wanted.path).map_err(|error| chain(&error))? {
            let id = drv_output(&found.id)?;
            let dependencies = found
                .dependent_realisations
                .into_iter()
                .map(|(id, path)| Ok((drv_output(&id)?, path)))
                .collect::<Result<_, String>>()?;
            let signatures = found.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect();
            let mut realisation = Realisation { id, out_path: found.out_path, signatures, dependencies };
            wanted.keys.iter().for_each(|key| realisation.sign(key));
            realisations.push(realisation);
        }
        Ok(realisations)
    }
}
