//! Our narinfo and another writer's in the same place.
//!
//! In flows what was meant and what is there; out flows what both can stand by, written in the place of the one that was
//! seen and read back. Signatures of others stay when they are of the same contents; ours are given to nothing that Nix
//! did not register. Whose build it is when two differ is not decided here: the first one stays.

use std::collections::BTreeSet;

use nix_store::PathInfo;
use nix_types::narinfo::NARINFO_BYTES_MAX;
use nix_types::{NarInfo, Sha256, StorePath};
use object_kit::{Found, Objects, Outcome};

use super::check::archive_fault;
use super::presence::Seen;
use super::{Native, faults};
use crate::delivery::FaultClass;
use crate::push::Fault;

/// How often another writer may come between.
const TRIES: usize = 3;

impl Native {
    /// What is there in the end, when `seen` is what was found in the place where `meant` was put with this outcome.
    pub(super) async fn joined(
        &self,
        objects: &dyn Objects,
        meant: NarInfo,
        put: Outcome,
        mut seen: Seen,
    ) -> Result<NarInfo, Fault> {
        let key = NarInfo::key_of(&meant.store_path);
        if matches!(seen, Seen::Absent | Seen::There) {
            let took = match put {
                Outcome::Stored => "took",
                Outcome::Existed => "says (412) that it has",
            };
            let why = format!("{} {took} {key} and then does not have it", self.shown);
            return Err(Fault::failed(FaultClass::Failed, why));
        }
        for _ in 0..TRIES {
            if let Seen::Says(says) = seen
                && self.stands(objects, &meant, &says).await?
            {
                return Ok(*says);
            }
            let found =
                objects.get(&key, NARINFO_BYTES_MAX).await.map_err(|error| faults::of_object(&error))?;
            self.write_joined(objects, &meant, found).await?;
            seen = self.read_narinfo(objects, &meant.store_path).await?;
        }
        let why = format!("{key} at {} says something else than what was written", self.shown);
        Err(Fault::failed(FaultClass::Failed, why))
    }

    /// Whether what is there is as good as what was meant: it says the same of the path and has all its signatures, and
    /// its archive is ours or is there. Another build of the path is left to its makers.
    async fn stands(&self, objects: &dyn Objects, meant: &NarInfo, says: &NarInfo) -> Result<bool, Fault> {
        if says.to_text() == meant.to_text() {
            return Ok(true);
        }
        let is_other_build = says.nar_hash != meant.nar_hash;
        let is_ours = says.fingerprint() == meant.fingerprint() && says.ca == meant.ca;
        let is_signed = meant.signatures.iter().all(|signature| says.signatures.contains(signature));
        if !(is_other_build || is_ours && is_signed) {
            return Ok(false);
        }
        let is_our_archive = says.url == meant.url && says.compression == meant.compression;
        let is_same_file = says.file_size == meant.file_size && says.file_hash == meant.file_hash;
        Ok((is_our_archive && is_same_file) || archive_fault(objects, says).await?.is_none())
    }

    /// Writes what was meant, with the signatures of what was found, in its place.
    async fn write_joined(
        &self,
        objects: &dyn Objects,
        meant: &NarInfo,
        found: Option<Found>,
    ) -> Result<(), Fault> {
        let mut joined = meant.clone();
        let mut file = self.narinfo_file(&joined);
        if let Some(found) = found {
            if let Seen::Says(says) = self.seen(Some(found.clone()), &meant.store_path)
                && says.fingerprint() == joined.fingerprint()
            {
                let ours = &joined.signatures;
                let new: Vec<_> = says.signatures.into_iter().filter(|one| !ours.contains(one)).collect();
                joined.signatures.extend(new);
                file = self.narinfo_file(&joined);
            }
            file.meta = file.meta.matching(&found);
        }
        let put = objects.put(&file.key, file.body, &file.meta).await;
        put.map_err(|error| faults::of_object(&error))?;
        objects.settle().await.map_err(|error| faults::of_settle(&error))
    }
}

/// Whether a narinfo says of a path what Nix registered. An old Nix did not note sizes.
pub(super) fn is_of(narinfo: &NarInfo, info: &PathInfo) -> bool {
    is_build_of(narinfo, info) && contradiction(narinfo, info).is_none()
}

/// What a narinfo of the same archive says otherwise than Nix registered, as the end of a sentence: nobody could have it
/// so, or would get what it does not need.
pub(in crate::push) fn contradiction(narinfo: &NarInfo, info: &PathInfo) -> Option<&'static str> {
    let sorted =
        |paths: &[StorePath]| paths.iter().map(|path| path.as_str().to_owned()).collect::<BTreeSet<_>>();
    if !is_build_of(narinfo, info) {
        return None; // of another build everything may differ
    }
    if sorted(&narinfo.references) != sorted(&info.references) {
        return Some("names other references than Nix registered for the same archive");
    }
    (info.nar_size != 0 && narinfo.nar_size != info.nar_size)
        .then_some("names another size than Nix registered")
}

fn is_build_of(narinfo: &NarInfo, info: &PathInfo) -> bool {
    Sha256::parse(&info.nar_hash).is_ok_and(|hash| hash == narinfo.nar_hash)
}
