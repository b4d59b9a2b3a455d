//! From archives that are there to paths that can be had: narinfo files, and what goes with them.
//!
//! In flow paths whose archives and references are at the destination; out flows, for each, that its narinfo was read
//! back and says what it should, or why not. What goes with it (listing, debug index, log, realisation) is there first.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use nix_store::PathInfo;
use nix_types::{NarInfo, SecretKey, Signature, StorePath};
use object_kit::{Meta, NewObject, ObjectError, Objects, Put};
use serde_json::json;

use super::presence::Seen;
use super::upload::Uploaded;
use super::{Native, encoding, faults};
use crate::delivery::FaultClass;
use crate::push::{Fault, Work};

/// What came of paths, by their place.
pub(super) type Published = Vec<(usize, Result<NarInfo, Fault>)>;

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

    /// Publishes paths, references first. Where objects become visible in the order of the puts (a folder) they may
    /// need each other; elsewhere they may not. Says for each what came of it, by its place, in their order; nothing of
    /// those that were not tried because one before them failed.
    pub(super) async fn publish(
        &self,
        objects: &dyn Objects,
        group: Vec<Publication>,
    ) -> Result<Published, Fault> {
        let mut puts: Vec<Work<'_, Result<_, _>>> = Vec::new();
        for extra in group.iter().flat_map(|publication| publication.extras.iter()) {
            puts.push(objects.put(&extra.key, extra.bytes.clone(), &extra.meta));
        }
        let put: Result<Vec<_>, _> = stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await;
        put.map_err(|error| faults::of_object(&error))?;
        // Archives are durable before a narinfo names them, and so are the narinfo files of the group before this one.
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let files: Vec<NewObject> = group.iter().map(|one| self.narinfo_file(&one.narinfo)).collect();
        let put = put_all(objects, &files).await;
        objects.settle().await.map_err(|error| faults::of_object(&error))?;
        let (mut written, mut failed) = (Vec::with_capacity(group.len()), Vec::new());
        for (publication, put) in group.into_iter().zip(put) {
            match put {
                Ok(_) => written.push(publication),
                Err(error) => failed.push((publication.place, Err(faults::of_object(&error)))),
            }
        }
        let mut published = self.read_back(objects, written).await;
        published.append(&mut failed);
        Ok(published)
    }

    fn narinfo_file(&self, narinfo: &NarInfo) -> NewObject {
        let meta = Meta::new("text/x-nix-narinfo");
        let encoding = self.url.params.transport.narinfo_compression;
        let (body, meta) = encoding::apply(narinfo.to_text(), encoding, meta);
        NewObject { key: NarInfo::key_of(&narinfo.store_path), body, meta }
    }

    /// The destination's own word: what it gives is what was meant.
    async fn read_back(&self, objects: &dyn Objects, meant: Vec<Publication>) -> Published {
        let paths: Vec<&StorePath> = meant.iter().map(|one| &one.narinfo.store_path).collect();
        let seen = if objects.is_local() {
            self.read_narinfos(objects, &paths).await
        } else {
            let reads: Vec<Work<'_, Result<Seen, Fault>>> =
                paths.into_iter().map(|path| Box::pin(self.read_narinfo(objects, path)) as _).collect();
            stream::iter(reads).buffered(AT_ONCE).collect().await
        };
        let compared = meant.into_iter().zip(seen).map(|(Publication { place, narinfo, .. }, seen)| {
            let right = seen.and_then(|seen| self.compare(&narinfo, &seen));
            (place, right.map(|()| narinfo))
        });
        compared.collect()
    }

    fn compare(&self, meant: &NarInfo, seen: &Seen) -> Result<(), Fault> {
        let (key, shown) = (NarInfo::key_of(&meant.store_path), &self.shown);
        let why = match seen {
            Seen::Says(says) if says.to_text() == meant.to_text() => return Ok(()),
            Seen::Says(_) | Seen::Useless(_) => {
                format!("{key} at {shown} says something else than what was written")
            }
            Seen::Absent | Seen::There => format!("{shown} took {key} and then does not have it"),
        };
        Err(Fault::failed(FaultClass::Failed, why))
    }
}

/// Puts objects: in a folder one after the other until one fails, elsewhere several at once.
async fn put_all(objects: &dyn Objects, files: &[NewObject]) -> Vec<Result<Put, ObjectError>> {
    if objects.is_local() {
        return objects.put_all(files).await;
    }
    let puts: Vec<Work<'_, _>> =
        files.iter().map(|file| objects.put(&file.key, file.body.clone(), &file.meta)).collect();
    stream::iter(puts).buffered(AT_ONCE).collect().await
}

/// Signatures of the store that are any.
fn signatures(info: &PathInfo) -> Vec<Signature> {
    info.signatures.iter().filter_map(|text| Signature::parse(text).ok()).collect()
}
