//! From archives that are there to paths that can be had: narinfo files, and what goes with them.
//!
//! In flow paths whose archives and references are at the destination; out flows, for each, that its narinfo was read
//! back and says what it should, or why not. What goes with it (listing, debug index, log, realisation) is there first.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use nix_store::PathInfo;
use nix_types::{NarInfo, SecretKey, Signature};
use object_kit::{Meta, Objects};
use serde_json::json;

use super::presence::Seen;
use super::upload::Uploaded;
use super::{Native, encoding, faults};
use crate::delivery::FaultClass;
use crate::push::{Fault, Work};

/// Objects under way at once.
const AT_ONCE: usize = 32;

/// A path to be published.
#[derive(Debug)]
pub(super) struct Publication {
    /// Its place in the plan.
    pub(super) place: usize,
    /// What is to be read back.
    pub(super) narinfo: NarInfo,
    /// What goes with it.
    extras: Vec<Extra>,
}

/// An object that goes with a path.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) key: String,
    pub(super) bytes: Bytes,
    pub(super) meta: Meta,
}

impl Publication {
    /// Adds what goes with it.
    pub(super) fn add(&mut self, extras: Vec<Extra>) {
        self.extras.extend(extras);
    }
}

impl Native {
    /// What is to be published of a path whose archive is there.
    pub(super) fn publication(
        &self,
        place: usize,
        info: &PathInfo,
        uploaded: &Uploaded,
        keys: &[SecretKey],
    ) -> Publication {
        let mut narinfo = NarInfo {
            store_path: info.path.clone(),
            url: uploaded.key.clone(),
            compression: self.recipe.codec.name().to_owned(),
            file_hash: Some(uploaded.archive.file_hash),
            file_size: Some(uploaded.archive.file_size),
            nar_hash: nix_types::Sha256::parse(&info.nar_hash)
                .expect("it was read when the archive was sent"),
            nar_size: uploaded.nar_size,
            references: info.references.clone(),
            deriver: info.deriver.clone(),
            signatures: signatures(info),
            ca: info.ca.clone(),
        };
        keys.iter().for_each(|key| narinfo.sign(key));
        let extras = self.of_listing(&narinfo, uploaded);
        Publication { place, narinfo, extras }
    }

    /// What is to be published of a path that is there already, if anything: signatures it lacks.
    pub(super) fn signed_anew(
        &self,
        place: usize,
        info: &PathInfo,
        there: &NarInfo,
        keys: &[SecretKey],
    ) -> Option<Publication> {
        let same = nix_types::Sha256::parse(&info.nar_hash).is_ok_and(|hash| hash == there.nar_hash);
        if !same || keys.is_empty() {
            return None;
        }
        let mut narinfo = there.clone();
        keys.iter().for_each(|key| narinfo.sign(key));
        (narinfo.to_text() != there.to_text()).then(|| Publication { place, narinfo, extras: Vec::new() })
    }

    fn of_listing(&self, narinfo: &NarInfo, uploaded: &Uploaded) -> Vec<Extra> {
        let (params, mut extras) = (&self.url.params, Vec::new());
        let Some(listing) = uploaded.listing() else { return extras };
        let json_meta = || Meta::new("application/json");
        if params.write_nar_listing {
            let key = format!("{}.ls", narinfo.store_path.hash_part());
            let (bytes, meta) =
                encoding::apply(listing.to_json(), params.transport.ls_compression, json_meta());
            extras.push(Extra { key, bytes, meta });
        }
        if params.index_debug_info {
            for file in listing.debug_files() {
                let text = json!({ "archive": format!("../{}", narinfo.url), "member": file.member });
                let bytes = Bytes::from(text.to_string());
                let key = format!("debuginfo/{}", file.key);
                extras.push(Extra { key, bytes, meta: json_meta().create() });
            }
        }
        extras
    }

    /// Publishes paths that do not need each other; says for each what came of it, by its place.
    pub(super) async fn publish(
        &self,
        objects: &dyn Objects,
        group: Vec<Publication>,
    ) -> Result<Vec<(usize, Result<NarInfo, Fault>)>, Fault> {
        let mut puts: Vec<Work<'_, Result<_, _>>> = Vec::new();
        for extra in group.iter().flat_map(|publication| publication.extras.iter()) {
            puts.push(objects.put(&extra.key, extra.bytes.clone(), &extra.meta));
        }
        let put: Result<Vec<_>, _> = stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await;
        put.map_err(|error| faults::of_object(&error))?;
        // Archives are durable before a narinfo names them, and so are the narinfo files of the group before this one.
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let mut puts: Vec<Work<'_, Result<(), Fault>>> = Vec::new();
        for publication in &group {
            puts.push(Box::pin(self.put_narinfo(objects, &publication.narinfo)));
        }
        let put: Vec<Result<(), Fault>> = stream::iter(puts).buffered(AT_ONCE).collect().await;
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let mut reads: Vec<Work<'_, (usize, Result<NarInfo, Fault>)>> = Vec::new();
        for (publication, put) in group.into_iter().zip(put) {
            reads.push(Box::pin(async move {
                let read = match put {
                    Ok(()) => self.read_back(objects, &publication.narinfo).await,
                    Err(fault) => Err(fault),
                };
                (publication.place, read.map(|()| publication.narinfo))
            }));
        }
        Ok(stream::iter(reads).buffer_unordered(AT_ONCE).collect().await)
    }

    async fn put_narinfo(&self, objects: &dyn Objects, narinfo: &NarInfo) -> Result<(), Fault> {
        let key = NarInfo::key_of(&narinfo.store_path);
        let meta = Meta::new("text/x-nix-narinfo");
        let encoding = self.url.params.transport.narinfo_compression;
        let (bytes, meta) = encoding::apply(narinfo.to_text(), encoding, meta);
        let put = objects.put(&key, bytes, &meta).await;
        put.map(|_| ()).map_err(|error| faults::of_object(&error))
    }

    /// The destination's own word: what it gives is what was meant.
    async fn read_back(&self, objects: &dyn Objects, meant: &NarInfo) -> Result<(), Fault> {
        let key = NarInfo::key_of(&meant.store_path);
        match self.read_narinfo(objects, &meant.store_path).await? {
            Seen::Says(says) if says.to_text() == meant.to_text() => Ok(()),
            Seen::Says(_) | Seen::Useless(_) => {
                let why = format!("{key} at {} says something else than what was written", self.shown);
                Err(Fault::failed(FaultClass::Failed, why))
            }
            Seen::Absent | Seen::There => {
                let why = format!("{} took {key} and then does not have it", self.shown);
                Err(Fault::failed(FaultClass::Failed, why))
            }
        }
    }
}

/// Signatures of the store that are any.
fn signatures(info: &PathInfo) -> Vec<Signature> {
    info.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect()
}
