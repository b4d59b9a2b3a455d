//! The questions and orders of one conversation: store paths and texts come in, the daemon's answers come out as our
//! types, each number, text and list within its bound. Deciding what is asked, and on which conversation, is for those
//! who hold one.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix_types::{DrvPath, StorePath};
use serde_json::Value;

use super::{Daemon, DaemonError};
use crate::store::{PathInfo, Realisation};
use crate::wire::{Wire, put_text, put_texts};

/// Most questions sent before their answers are taken. They fit into the socket's buffer, so neither side waits for
/// the other to read.
const AHEAD_MAX: usize = 64;
/// Most paths asked about in one question.
const ASKED_MAX: usize = 1000;
/// Most signatures of one path.
const SIGNATURES_MAX: usize = 1000;
/// Most outputs of one derivation.
const OUTPUTS_MAX: usize = 10_000;
/// Most realisations in one answer.
const REALISATIONS_MAX: usize = 1000;

const IS_VALID_PATH: u64 = 1;
const ADD_INDIRECT_ROOT: u64 = 12;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_VALID_PATHS: u64 = 31;
const ADD_SIGNATURES: u64 = 37;
const QUERY_DERIVATION_OUTPUT_MAP: u64 = 41;
const QUERY_REALISATION: u64 = 43;

impl Daemon {
    /// Registers a symlink of ours, at an absolute path, whose target the garbage collector is to keep as long as the
    /// link is there. May be repeated.
    ///
    /// # Errors
    /// [`DaemonError`]
    pub fn add_indirect_root(&mut self, link: &Path) -> Result<(), DaemonError> {
        self.order(ADD_INDIRECT_ROOT, &[link.as_os_str().as_bytes()])?;
        match self.wire.number()? {
            1 => Ok(()),
            other => Err(self.wire.strange(format!("it answered {other} to a new root"))),
        }
    }

    pub(crate) fn is_valid(&mut self, path: &StorePath) -> Result<bool, DaemonError> {
        self.order(IS_VALID_PATH, &[path.as_str().as_bytes()])?;
        Ok(self.wire.number()? != 0)
    }

    /// The valid ones of the paths, in the daemon's order.
    pub(crate) fn valid_among(&mut self, paths: &[StorePath]) -> Result<Vec<StorePath>, DaemonError> {
        let mut valid = Vec::new();
        for part in paths.chunks(ASKED_MAX) {
            let mut order = QUERY_VALID_PATHS.to_le_bytes().to_vec();
            put_texts(&mut order, part);
            if self.speaks(27) {
                order.extend_from_slice(&[0; 8]); // do not fetch what is missing
            }
            self.wire.send(&order)?;
            self.messages()?;
            valid.extend(self.wire.paths()?);
        }
        Ok(valid)
    }

    pub(crate) fn all_valid(&mut self) -> Result<Vec<StorePath>, DaemonError> {
        self.order(QUERY_ALL_VALID_PATHS, &[])?;
        self.wire.paths()
    }

    /// Gives what is registered about each path to `each`, in their order; `None` for one that is not valid.
    pub(crate) fn path_infos<E: From<DaemonError>>(
        &mut self,
        paths: &[StorePath],
        mut each: impl FnMut(&StorePath, Option<PathInfo>) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in paths.chunks(AHEAD_MAX) {
            let mut order = Vec::new();
            for path in part {
                order.extend_from_slice(&QUERY_PATH_INFO.to_le_bytes());
                put_text(&mut order, path.as_str().as_bytes());
            }
            self.wire.send(&order)?;
            for path in part {
                self.messages()?;
                let info = if self.wire.number()? == 0 { None } else { Some(self.info(path.clone())?) };
                each(path, info)?;
            }
        }
        Ok(())
    }

    fn info(&mut self, path: StorePath) -> Result<PathInfo, DaemonError> {
        let deriver = self.wire.string()?;
        let hash = self.wire.string()?;
        if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(self.wire.strange(format!("it says the hash of {path} is {hash:?}")));
        }
        let mut references = self.wire.paths()?;
        references.sort_unstable();
        let registration_time = self.wire.number()?;
        let nar_size = self.wire.number()?;
        let ultimate = self.wire.number()? != 0;
        let signatures = self.wire.list(SIGNATURES_MAX, Wire::string)?;
        let ca = self.wire.string()?;
        Ok(PathInfo {
            path,
            nar_hash: format!("sha256:{hash}"),
            nar_size,
            references,
            deriver: StorePath::parse_str(&deriver).ok(),
            registration_time,
            ultimate,
            signatures,
            ca: Some(ca).filter(|ca| !ca.is_empty()),
        })
    }

    /// The outputs of a valid derivation by name, and their paths as far as they are known. `None` when the daemon is
    /// too old to tell, or does not want to.
    pub(crate) fn outputs(
        &mut self,
        drv: &DrvPath,
    ) -> Result<Option<BTreeMap<String, Option<StorePath>>>, DaemonError> {
        if !self.speaks(22) {
            return Ok(None);
        }
        match self.order(QUERY_DERIVATION_OUTPUT_MAP, &[drv.as_str().as_bytes()]) {
            Ok(()) => {}
            Err(DaemonError::Refused { .. }) => return Ok(None),
            Err(other) => return Err(other),
        }
        let outputs = self.wire.list(OUTPUTS_MAX, |wire| {
            let name = wire.string()?;
            let path = wire.text()?;
            let path = if path.is_empty() { None } else { Some(wire.path(&path)?) };
            Ok((name, path))
        })?;
        Ok(Some(outputs.into_iter().collect()))
    }

    /// What is noted under this id. Empty when the daemon is too old to tell, or does not want to: the feature is off,
    /// or it knows other ids.
    pub(crate) fn realisations(
        &mut self,
        id: &str,
        store_dir: &str,
    ) -> Result<Vec<Realisation>, DaemonError> {
        if !self.speaks(31) {
            return Ok(Vec::new());
        }
        match self.order(QUERY_REALISATION, &[id.as_bytes()]) {
            Ok(()) => {}
            Err(DaemonError::Refused { .. }) => return Ok(Vec::new()),
            Err(other) => return Err(other),
        }
        self.wire.list(REALISATIONS_MAX, |wire| {
            let json = wire.text()?;
            realisation(&json, store_dir)
                .ok_or_else(|| wire.strange("it sent a realisation that is none".to_owned()))
        })
    }

    /// Adds signatures to those of a valid path; what it has already stays.
    pub(crate) fn add_signatures(
        &mut self,
        path: &StorePath,
        signatures: &[String],
    ) -> Result<(), DaemonError> {
        let mut order = ADD_SIGNATURES.to_le_bytes().to_vec();
        put_text(&mut order, path.as_str().as_bytes());
        put_texts(&mut order, signatures);
        self.wire.send(&order)?;
        self.messages()?;
        match self.wire.number()? {
            1 => Ok(()),
            other => Err(self.wire.strange(format!("it answered {other} to new signatures"))),
        }
    }

    /// Sends one order and takes what is said before the answer.
    fn order(&mut self, code: u64, texts: &[&[u8]]) -> Result<(), DaemonError> {
        let mut order = code.to_le_bytes().to_vec();
        texts.iter().for_each(|text| put_text(&mut order, text));
        self.wire.send(&order)?;
        self.messages()
    }
}

/// A realisation as the daemon and caches write it.
fn realisation(json: &[u8], store_dir: &str) -> Option<Realisation> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let path = |base: &Value| StorePath::parse_str(&format!("{store_dir}/{}", base.as_str()?)).ok();
    let mut realisation = Realisation {
        id: value["id"].as_str()?.to_owned(),
        out_path: path(&value["outPath"])?,
        signatures: Vec::new(),
        dependent_realisations: BTreeMap::new(),
    };
    for signature in value["signatures"].as_array().into_iter().flatten() {
        realisation.signatures.push(signature.as_str()?.to_owned());
    }
    for (id, base) in value["dependentRealisations"].as_object().into_iter().flatten() {
        realisation.dependent_realisations.insert(id.clone(), path(base)?);
    }
    Some(realisation)
}
