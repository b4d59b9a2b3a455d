//! From archives that are there to paths that can be had: narinfo files, and what goes with them.
//!
//! In flow paths whose archives and references are at the destination; out flows, for each, what its narinfo says that was
//! read back, or why it is not there. What goes with it (listing, debug index, log, realisation) is there first. What
//! another writer put in the same place meanwhile keeps its signatures and gets ours; `join` is how.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nix_store::PathInfo;
use nix_types::{NarInfo, SecretKey, Signature, StorePath};
use object_kit::{Meta, NewObject, Objects, Outcome};
use serde_json::json;

use super::notes::Wanted;
use super::upload::Uploaded;
use super::{Native, encoding, faults, join};
use crate::push::{Fault, Work};

/// What came of paths, by their place.
pub(super) type Published = Vec<(usize, Result<NarInfo, Fault>)>;

/// Paths at once whose extras and notes are under way.
pub(super) const AT_ONCE: usize = 32;

/// A path to be published.
#[derive(Debug)]
pub(super) struct Publication {
    /// Its place in the plan.
    pub(super) place: usize,
    /// What is to be read back.
    pub(super) narinfo: NarInfo,
    /// What goes with it.
    extras: Vec<Extra>,
    /// What is to be looked for that goes with it.
    notes: Wanted,
}

/// An object that goes with a path.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) key: String,
    pub(super) bytes: Bytes,
    pub(super) meta: Meta,
}

impl Native {
    /// What is to be published of a path whose archive is there.
    pub(super) fn publication(
        &self,
        place: usize,
        info: &PathInfo,
        uploaded: &Uploaded,
        notes: Wanted,
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
        notes.keys.iter().for_each(|key| narinfo.sign(key));
        let extras = self.of_listing(&narinfo, uploaded);
        Publication { place, narinfo, extras, notes }
    }

    /// What is to be published of a path that is there already: the same with our signatures.
    pub(super) fn signed_anew(place: usize, there: &NarInfo, notes: Wanted) -> Publication {
        let mut narinfo = there.clone();
        notes.keys.iter().for_each(|key| narinfo.sign(key));
        Publication { place, narinfo, extras: Vec::new(), notes }
    }

    /// Whether a narinfo lacks a signature of ours that it may get. It may when it says of the path what Nix registered;
    /// nobody gets our word for anything else.
    pub(super) fn lacks_signature(info: &PathInfo, there: &NarInfo, keys: &[SecretKey]) -> bool {
        let lacks = |key: &SecretKey| !there.signatures.contains(&key.sign(&there.fingerprint()));
        join::is_of(there, info) && keys.iter().any(lacks)
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

    /// Publishes paths, references first. Where objects become visible in the order of the puts (a folder) they may
    /// need each other; elsewhere they may not. Says for each what came of it, by its place, in their order; nothing of
    /// those that were not tried because one before them failed or met another.
    pub(super) async fn publish(
        &self,
        objects: &dyn Objects,
        group: Vec<Publication>,
    ) -> Result<Published, Fault> {
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let (group, mut failed) = self.put_extras(objects, group).await;
        // Archives are durable before a narinfo names them, and so are the narinfo files of the group before this one.
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let files: Vec<NewObject> = group.iter().map(|one| self.narinfo_file(&one.narinfo)).collect();
        let put = objects.put_all(&files).await;
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let mut written = Vec::with_capacity(group.len());
        for (publication, put) in group.into_iter().zip(put) {
            match put {
                Ok(put) => written.push((publication, put.outcome)),
                Err(error) => failed.push((publication.place, Err(faults::of_object(&error)))),
            }
        }
        let mut published = self.read_back(objects, written).await;
        published.append(&mut failed);
        Ok(published)
    }

    /// Puts what goes with the paths of a group; gives those whose narinfo may follow, and those it cannot be done for.
    async fn put_extras(
        &self,
        objects: &dyn Objects,
        group: Vec<Publication>,
    ) -> (Vec<Publication>, Published) {
        let puts: Vec<Work<'_, Result<(), Fault>>> =
            group.iter().map(|one| Box::pin(self.put_extras_of(objects, one)) as _).collect();
        let done: Vec<Result<(), Fault>> = stream::iter(puts).buffered(AT_ONCE).collect().await;
        let (mut ready, mut failed) = (Vec::with_capacity(group.len()), Vec::new());
        for (publication, done) in group.into_iter().zip(done) {
            match done {
                Ok(()) => ready.push(publication),
                Err(fault) => failed.push((publication.place, Err(fault))),
            }
            if objects.is_local() && !failed.is_empty() {
                break; // those behind may need it
            }
        }
        (ready, failed)
    }

    async fn put_extras_of(&self, objects: &dyn Objects, one: &Publication) -> Result<(), Fault> {
        for extra in &one.extras {
            let put = objects.put(&extra.key, extra.bytes.clone(), &extra.meta).await;
            put.map_err(|error| faults::of_object(&error))?;
        }
        self.put_notes(objects, &one.notes).await
    }

    pub(super) fn narinfo_file(&self, narinfo: &NarInfo) -> NewObject {
        let meta = Meta::new("text/x-nix-narinfo").create();
        let encoding = self.url.params.transport.narinfo_compression;
        let (body, meta) = encoding::apply(narinfo.to_text(), encoding, meta);
        NewObject { key: NarInfo::key_of(&narinfo.store_path), body, meta }
    }

    /// The destination's own word: what it gives says what was meant.
    async fn read_back(&self, objects: &dyn Objects, meant: Vec<(Publication, Outcome)>) -> Published {
        let paths: Vec<&StorePath> = meant.iter().map(|(one, _)| &one.narinfo.store_path).collect();
        let seen = self.read_narinfos(objects, &paths).await;
        let mut published = Vec::with_capacity(meant.len());
        for ((Publication { place, narinfo, .. }, put), seen) in meant.into_iter().zip(seen) {
            let result = match seen {
                Ok(seen) => self.joined(objects, narinfo, put, seen).await,
                Err(fault) => Err(fault),
            };
            published.push((place, result));
        }
        published
    }
}

/// Signatures of the store that are any.
fn signatures(info: &PathInfo) -> Vec<Signature> {
    info.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect()
}
