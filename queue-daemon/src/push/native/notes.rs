//! What goes with a path and is not in its archive: realisations, and the log of the build.
//!
//! In flow a path and its derivation; out flow objects to be put beside its narinfo. What cannot be had is left out
//! with a warning: the path itself is whole without it.

use std::sync::Arc;

use bytes::Bytes;
use nix_store::log::build_log;
use nix_store::{PathInfo, Store, StoreDirs};
use nix_types::cache_url::Encoding;
use nix_types::realisation::{DrvOutput, Realisation};
use nix_types::{DrvPath, SecretKey, Signature, StorePath};
use object_kit::Meta;
use service_kit::telemetry::chain;

use super::encoding;
use super::publish::Extra;

/// Where notes come from.
#[derive(Clone)]
pub(super) struct Notes {
    pub(super) store: Arc<dyn Store>,
    pub(super) dirs: StoreDirs,
    /// How logs are encoded; `None` when they are not wanted.
    pub(super) logs: Option<Encoding>,
}

impl Notes {
    /// The notes on a path.
    pub(super) async fn of(
        &self,
        info: &PathInfo,
        drv: Option<DrvPath>,
        keys: Arc<Vec<SecretKey>>,
    ) -> Vec<Extra> {
        let drv = drv.filter(|_| self.logs.is_some());
        let addressed = info.ca.is_some();
        if !addressed && drv.is_none() {
            return Vec::new();
        }
        let (notes, path) = (self.clone(), info.path.clone());
        let gathered = tokio::task::spawn_blocking(move || {
            let mut extras = Vec::new();
            if addressed {
                match notes.realisations(&path, &keys) {
                    Ok(found) => extras.extend(found),
                    Err(why) => tracing::warn!("realisations of {path} are left out: {why}"),
                }
            }
            extras.extend(drv.and_then(|drv| notes.log(&drv)));
            extras
        });
        gathered.await.expect("gathering notes does not panic: it warns of its errors")
    }

    fn log(&self, drv: &DrvPath) -> Option<Extra> {
        match build_log(&self.dirs, drv) {
            Ok(Some(log)) => {
                let meta = Meta::new("text/plain; charset=utf-8");
                let (bytes, meta) = encoding::apply(log, self.logs.unwrap_or_default(), meta);
                Some(Extra { key: format!("log/{}", drv.store_path().base_name()), bytes, meta })
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!("the log of {drv} is left out: {}", chain(&error));
                None
            }
        }
    }

    fn realisations(&self, path: &StorePath, keys: &[SecretKey]) -> Result<Vec<Extra>, String> {
        let drv_output = |text: &str| DrvOutput::parse(text).map_err(|error| error.to_string());
        let mut extras = Vec::new();
        for found in self.store.realisations_of(path).map_err(|error| chain(&error))? {
            let id = drv_output(&found.id)?;
            let dependencies = found
                .dependent_realisations
                .into_iter()
                .map(|(id, path)| Ok((drv_output(&id)?, path)))
                .collect::<Result<_, String>>()?;
            let signatures = found.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect();
            let key = id.key();
            let mut realisation = Realisation { id, out_path: found.out_path, signatures, dependencies };
            keys.iter().for_each(|key| realisation.sign(key));
            let (bytes, meta) = (Bytes::from(realisation.to_json()), Meta::new("application/json"));
            extras.push(Extra { key, bytes, meta });
        }
        Ok(extras)
    }
}
