//! One archive to the destination.
//!
//! In flows what Nix registered about a path; out flows that its archive is there, under the name of its own hash, and
//! what it came to. A small one is packed and proved before its first byte leaves; of a large one the beginning leaves
//! while the rest is packed, and it is taken back when it turns out not to be what was registered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use nix_store::PathInfo;
use nix_store::nar::Listing;
use nix_types::Sha256;
use nix_types::cache_url::{Codec, Place as UrlPlace};
use object_kit::{Body, BodyError, BodySize, Chunks, Class, Meta, ObjectError, Objects, Outcome, Work};

use super::memory::Archive;
use super::{Native, faults};
use crate::delivery::FaultClass;
use crate::pack::{Expected, Guest, Job, Packed, Piece, ReadError, Reader, Recipe, SMALL_BYTES};
use crate::progress::Transfer;
use crate::push::Fault;

/// More than any archive of this size is after compression, in bytes beside a 64th of it.
const SLACK_BYTES: u64 = 1 << 20;
/// What an archive of unknown size may have at most.
const UNKNOWN_BYTES_MAX: u64 = 5 << 40;

/// An archive that is at the destination.
#[derive(Debug)]
pub(super) struct Uploaded {
    /// Its key.
    pub(super) key: String,
    /// Hash and size of the file, where they are known.
    pub(super) archive: Archive,
    /// Of the archive before compression, in bytes.
    pub(super) nar_size: u64,
    /// The tree of its files, where it was asked for.
    pub(super) packed: Option<Arc<Packed>>,
    /// Bytes that left.
    pub(super) bytes: u64,
}

/// What the uploads of a batch have in common.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// Small archives that are being packed and sent.
    pub(super) small: AtomicUsize,
    /// Whom the packer keeps archives for.
    guest: Arc<Guest>,
}

impl Uploaded {
    pub(super) fn listing(&self) -> Option<&Listing> {
        self.packed.as_ref().and_then(|packed| packed.listing.as_ref())
    }
}

impl Native {
    /// Sees to it that the archive of a path is there. `known` is what was sent under its key some time.
    pub(super) async fn upload(
        &self,
        objects: &dyn Objects,
        info: &PathInfo,
        known: Option<Archive>,
        common: &Common,
    ) -> Result<Uploaded, Fault> {
        let mut job = self.job(info)?;
        let key = self.archive_key(&job.nar_hash);
        if let Some(uploaded) = self.is_there(objects, &job, &key, known).await? {
            return Ok(uploaded);
        }
        if job.nar_size == 0 && matches!(self.url.place, UrlPlace::S3 { .. }) {
            job.nar_size = self.count(&job).await?;
        }
        let expected = self.packer.expect(&common.guest, &job);
        // In this order: whoever waits for memory holds up nobody who needs little.
        let _bytes = self.memory_for(&job).await;
        let _slot = self.slots.acquire().await.expect("the slots of an engine are never closed");
        let transfer = self.progress.begin(&info.path, info.nar_size);
        let sent = if job.is_small() {
            let _counted = Counted::new(&common.small);
            self.send_small(objects, &job, &key, &transfer, expected).await
        } else {
            self.send_large(objects, &job, &key, &transfer, expected).await
        };
        let packed = sent.map_err(|fault| faults::unless_gone(fault, &info.path, &*self.store))?;
        let archive = Archive { file_hash: packed.file_hash, file_size: packed.file_size };
        self.memory.keep_archive(key.clone(), archive.clone());
        self.progress.packed(packed.nar_size, packed.file_size);
        let (nar_size, bytes) = (packed.nar_size, transfer.sent());
        Ok(Uploaded { key, archive, nar_size, packed: Some(packed), bytes })
    }

    /// The key of an archive: its own hash, and how it is compressed.
    pub(super) fn archive_key(&self, nar_hash: &Sha256) -> String {
        format!("nar/{}.nar{}", nar_hash.nix32(), self.recipe.codec.extension())
    }

    fn job(&self, info: &PathInfo) -> Result<Job, Fault> {
        let nar_hash = Sha256::parse(&info.nar_hash).map_err(|error| {
            let why = format!("Nix registered {} with a hash this program cannot check: {error}", info.path);
            Fault::failed(FaultClass::Corrupt, why)
        })?;
        let params = &self.url.params;
        let listing = params.write_nar_listing || params.index_debug_info;
        Ok(Job { path: info.path.clone(), nar_hash, nar_size: info.nar_size, recipe: self.recipe, listing })
    }

    /// The archive, if it was sent before and still is what it was, by its size.
    async fn is_there(
        &self,
        objects: &dyn Objects,
        job: &Job,
        key: &str,
        known: Option<Archive>,
    ) -> Result<Option<Uploaded>, Fault> {
        if job.listing {
            return Ok(None); // its tree is wanted, so it is packed anyway
        }
        let known = match known {
            Some(archive) => archive,
            // What is not compressed has the size and hash that are registered.
            None if job.recipe.codec == Codec::None && job.nar_size > SMALL_BYTES => {
                Archive { file_hash: job.nar_hash, file_size: job.nar_size }
            }
            None => return Ok(None),
        };
        let head = objects.head(key).await.map_err(|error| faults::of_object(&error))?;
        if head.is_none_or(|head| head.size != Some(known.file_size)) || job.nar_size == 0 {
            return Ok(None);
        }
        let key = key.to_owned();
        Ok(Some(Uploaded { key, archive: known, nar_size: job.nar_size, packed: None, bytes: 0 }))
    }

    /// Packs, then sends what was proved.
    async fn send_small(
        &self,
        objects: &dyn Objects,
        job: &Job,
        key: &str,
        transfer: &Transfer,
        expected: Option<Expected>,
    ) -> Result<Arc<Packed>, Fault> {
        let mut reader = self.packer.open(job, false);
        drop(expected);
        let mut chunks = Vec::new();
        let packed = loop {
            match reader.next().await.map_err(|error| faults::of_read(&error))? {
                Piece::Chunk(chunk) => chunks.push(chunk),
                Piece::End(packed) => break packed,
            }
        };
        drop(reader);
        let meta = meta(transfer, Some(*packed.file_hash.bytes()));
        let put = put_chunks(objects, key, chunks.clone(), &meta.clone().create(), packed.file_size).await;
        if put.map_err(|error| faults::of_object(&error))? == Outcome::Existed {
            let head = objects.head(key).await.map_err(|error| faults::of_object(&error))?;
            if head.is_none_or(|head| head.size != Some(packed.file_size)) {
                // Somebody's, and not this: nothing that refers to it could be read.
                let put = put_chunks(objects, key, chunks, &meta, packed.file_size).await;
                put.map_err(|error| faults::of_object(&error))?;
            }
        }
        Ok(packed)
    }

    /// Sends while it is packed.
    async fn send_large(
        &self,
        objects: &dyn Objects,
        job: &Job,
        key: &str,
        transfer: &Transfer,
        mut expected: Option<Expected>,
    ) -> Result<Arc<Packed>, Fault> {
        let (mut alone, mut size) = (false, body_size(job));
        loop {
            let mut body = Streamed { reader: self.packer.open(job, alone), packed: None };
            drop(expected.take()); // it is here
            let put = objects.put_stream(key, &mut body, &meta(transfer, None), size).await;
            match (put, body.packed) {
                (Ok(_), Some(packed)) => return Ok(packed),
                (Ok(_), None) => {
                    let why = format!("the archive of {} was taken before its end", job.path);
                    return Err(Fault::failed(FaultClass::Failed, why));
                }
                (Err(error), _) if !alone && is_fell(&error) => alone = true,
                (Err(error), _) if error.class == Class::LengthRequired && size.exact.is_none() => {
                    size = BodySize::exact(self.measure(job).await?);
                }
                (Err(error), _) => return Err(faults::of_object(&error)),
            }
        }
    }

    /// The size of an archive that Nix did not note, in bytes, by reading it: parts and memory follow from it.
    async fn count(&self, job: &Job) -> Result<u64, Fault> {
        let recipe = Recipe { codec: Codec::None, level: None, parallel: None };
        let plain = Job { recipe, listing: false, ..job.clone() };
        // Reading takes no more than the smallest that does not fit into the window.
        let _bytes = self.memory_for(&Job { nar_size: SMALL_BYTES + 1, ..plain.clone() }).await;
        self.measure(&plain).await.map_err(|fault| faults::unless_gone(fault, &job.path, &*self.store))
    }

    /// How many bytes the archive has after compression: for places that have to know before the first of them.
    async fn measure(&self, job: &Job) -> Result<u64, Fault> {
        let mut reader = self.packer.open(job, true);
        loop {
            match reader.next().await.map_err(|error| faults::of_read(&error))? {
                Piece::Chunk(_) => {}
                Piece::End(packed) => return Ok(packed.file_size),
            }
        }
    }
}

/// How many bytes an archive may have after compression. What Nix noted no size of may have any.
pub(in crate::push) fn body_size(job: &Job) -> BodySize {
    match (job.recipe.codec, job.nar_size) {
        (_, 0) => BodySize::at_most(UNKNOWN_BYTES_MAX),
        (Codec::None, size) => BodySize::exact(size),
        (Codec::Zstd | Codec::Xz, size) => {
            BodySize::at_most(size.saturating_add(size / 64).saturating_add(SLACK_BYTES))
        }
    }
}

fn meta(transfer: &Transfer, sha256: Option<[u8; 32]>) -> Meta {
    Meta { sha256, moved: Some(transfer.ear()), ..Meta::new("application/x-nix-nar") }
}

async fn put_chunks(
    objects: &dyn Objects,
    key: &str,
    chunks: Vec<Bytes>,
    meta: &Meta,
    bytes: u64,
) -> Result<Outcome, ObjectError> {
    let put = match <[Bytes; 1]>::try_from(chunks) {
        Ok([whole]) => objects.put(key, whole, meta).await,
        Err(chunks) => {
            let (mut body, size) = (Chunks::new(chunks), BodySize::exact(bytes));
            match objects.put_stream(key, &mut body.clone(), meta, size).await {
                Err(error) if error.class == Class::NoConditions => {
                    objects.put_stream(key, &mut body, meta, size).await
                }
                put => put,
            }
        }
    };
    Ok(put?.outcome)
}

/// One more, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_fell(error: &ObjectError) -> bool {
    matches!(error.cause::<ReadError>(), Some(ReadError::Fell(_)))
}

/// An archive as a body.
pub(in crate::push) struct Streamed {
    pub(in crate::push) reader: Reader,
    /// What it came to, once it has been read to its end.
    pub(in crate::push) packed: Option<Arc<Packed>>,
}

impl Body for Streamed {
    fn next<'a>(&'a mut self) -> Work<'a, Option<Result<Bytes, BodyError>>> {
        Box::pin(async move {
            match self.reader.next().await {
                Ok(Piece::Chunk(chunk)) => Some(Ok(chunk)),
                Ok(Piece::End(packed)) => {
                    self.packed = Some(packed);
                    None
                }
                Err(error) => Some(Err(error.into())),
            }
        })
    }
}
