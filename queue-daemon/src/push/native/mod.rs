//! Binary caches (`cache_type = "nix-copy"` with `file://`, `http(s)://` and `s3://`), served in this process.
//!
//! In flows a batch and its closure; out flow archives and narinfo files at the destination, and a report on each path
//! once the narinfo that was read back says what it should. The destination itself is asked what it has. Several
//! batches may be under way; a path that another one sends is waited for. Nothing unsigned leaves when there are keys.
//!
//! One batch: `cache` (is it our cache?) → `look`, `presence` (what does it have?) → `sort`, `plan` (what is to
//! be done, in which order?) → `upload`
//! (archives) → `publish` (narinfo, read back; `join`: another writer's is in its place) → report.

mod cache;
mod check;
pub(crate) mod encoding;
pub(super) mod faults;
mod flights;
pub(super) mod join;
mod look;
pub(super) mod memory;
mod notes;
mod place;
pub(super) mod plan;
mod presence;
mod publish;
pub(super) mod session;
mod sort;
pub(super) mod upload;

use std::sync::Arc;
use std::time::Duration;

use nix_store::{Store, StoreDirs};
use nix_types::cache_url::Place as UrlPlace;
use nix_types::{CacheUrl, StorePath};
use object_kit::{ObjectError, Throttle};
use service_kit::clock::{Clock, Mono};
use service_kit::shutdown::Stop;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::credentials::Credentials;
use super::keys::Ring;
use super::{Batch, Checked, Fault, Push, Pushed, Reports, Rules, Whole, Work, unless_stopped};
use crate::config::CacheConfig;
use crate::model::DestinationId;
use crate::pack::{CHUNK_BYTES, Job, Packer, Recipe, WINDOW};
use crate::progress::Progress;
use crate::queue::Queue;
pub(super) use faults::{of_pack, unless_gone};
use place::{Means, Place};

/// Paths of one batch.
const PATHS_MAX: usize = 256;
/// Archives under way at once at a destination; memory may allow fewer.
const UPLOADS_MAX: usize = 32;
/// The same for a folder, which gets no faster by more.
const UPLOADS_LOCAL_MAX: usize = 4;
/// What arrives while a batch is under way is worth a batch of its own only after this time: each costs a dozen
/// flushes and questions, whatever it holds.
const GATHER: Duration = Duration::from_millis(100);
/// Memory that all destinations together may hold for archives on their way, unless there are many.
const BYTES_TOTAL: u64 = 88 << 20;
/// Each destination may have so much, however many there are: enough for a large archive.
const BYTES_EACH: u64 = 48 << 20;
/// The unit in which memory is counted.
pub(super) const BYTES_UNIT: u64 = 64 << 10;

/// The engine.
pub(crate) struct Native {
    id: DestinationId,
    url: CacheUrl,
    /// The destination as receipts and messages name it, without credentials.
    shown: String,
    place: Place,
    recipe: Recipe,
    keys: Arc<Ring>,
    notes: notes::Notes,
    store: Arc<dyn Store>,
    clock: Clock,
    packer: Arc<Packer>,
    progress: Arc<Progress>,
    memory: memory::Memory,
    flights: flights::Flights,
    slots: Semaphore,
    /// Memory for archives on their way, in units.
    bytes: Arc<Semaphore>,
    bytes_units: u32,
    /// Whoever holds a log in memory.
    log_in_hand: Mutex<()>,
    /// When the cache was last looked at.
    looked: Mutex<Option<Mono>>,
}

/// What engines of this kind share.
pub(crate) struct Shares {
    pub(crate) queue: Arc<Queue>,
    pub(crate) packer: Arc<Packer>,
    /// The limit of all destinations together.
    pub(crate) throttle: Option<Arc<Throttle>>,
    pub(crate) dirs: StoreDirs,
    /// How many destinations are of this kind.
    pub(crate) destinations: usize,
}

impl Native {
    /// The engine of a destination.
    ///
    /// # Errors
    /// When its settings are of no use: a certificate that cannot be read, an address that is none.
    pub(crate) fn new(cache: &CacheConfig, url: &CacheUrl, shares: &Shares) -> Result<Self, ObjectError> {
        let Shares { queue, packer, throttle, dirs, destinations } = shares;
        let clock = queue.clock.clone();
        let own = cache.bandwidth_limit.map(|rate| Arc::new(limit(&clock, rate)));
        let throttles = own.into_iter().chain(throttle.clone()).collect();
        let parts_in_flight = if *destinations > 1 { 1 } else { 2 };
        let credentials = Credentials::of(cache, &clock);
        let means = Means {
            clock: clock.clone(),
            reach: queue.config.cache_reach(),
            timeout: cache.timeout,
            throttles,
            parts_in_flight,
            credentials,
        };
        let bytes_units = units_each(*destinations);
        let mut key_files = queue.config.queue.signing_key_files.clone();
        key_files.extend(url.params.secret_keys.iter().cloned());
        let progress = queue.progress.of(cache.id.as_str()).cloned();
        Ok(Self {
            id: cache.id.clone(),
            url: url.clone(),
            shown: url.to_string(),
            place: Place::new(url, means)?,
            recipe: recipe_of(url),
            keys: Arc::new(Ring::new(&cache.id, key_files, queue)),
            notes: notes::Notes {
                store: Arc::clone(&queue.store),
                dirs: dirs.clone(),
                logs: cache.upload_logs.then_some(url.params.transport.log_compression),
            },
            store: Arc::clone(&queue.store),
            packer: Arc::clone(packer),
            progress: progress.unwrap_or_else(|| Progress::new(clock.clone())),
            memory: memory::Memory::new(Arc::clone(queue), cache),
            flights: flights::Flights::default(),
            slots: Semaphore::new(uploads_max(url)),
            bytes: Arc::new(Semaphore::new(bytes_units as usize)),
            bytes_units,
            log_in_hand: Mutex::default(),
            looked: Mutex::default(),
            clock,
        })
    }

    /// Waits until there is memory for an archive on its way: what is read, compressed, kept for readers and filled
    /// into parts.
    async fn memory_for(&self, job: &Job) -> OwnedSemaphorePermit {
        let units = u32::try_from(self.cost(job).div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units.min(self.bytes_units)).await;
        permit.expect("the memory of an engine is never closed")
    }

    fn cost(&self, job: &Job) -> u64 {
        let compressor = self.packer.compressor(job);
        if job.is_small() {
            // As it is, and compressed.
            return job.nar_size.saturating_mul(2).saturating_add(compressor);
        }
        let at_most = upload::body_size(job).at_most;
        let parts = match &self.url.place {
            UrlPlace::S3 { .. } => {
                let part_min = self.url.params.s3.multipart_chunk_bytes.unwrap_or(object_kit::MIN_PART);
                object_kit::part_bytes(part_min, at_most).saturating_mul(3).min(at_most)
            }
            UrlPlace::File { .. } | UrlPlace::Http { .. } => 2 * CHUNK_BYTES as u64,
        };
        parts.saturating_add((WINDOW * CHUNK_BYTES) as u64 + compressor)
    }
}

fn uploads_max(url: &CacheUrl) -> usize {
    match url.place {
        UrlPlace::File { .. } => UPLOADS_LOCAL_MAX,
        UrlPlace::S3 { .. } | UrlPlace::Http { .. } => UPLOADS_MAX,
    }
}

/// How a destination wants its archives compressed.
pub(crate) fn recipe_of(url: &CacheUrl) -> Recipe {
    let params = &url.params;
    Recipe {
        codec: params.compression,
        level: params.compression_level,
        parallel: params.parallel_compression,
    }
}

/// The memory of one of so many destinations, in units of [`BYTES_UNIT`].
pub(super) fn units_each(destinations: usize) -> u32 {
    let count = u64::try_from(destinations.max(1)).unwrap_or(u64::MAX);
    u32::try_from((BYTES_TOTAL / count).max(BYTES_EACH) / BYTES_UNIT).unwrap_or(u32::MAX)
}

/// A limit of so many bytes a second, with bursts of a quarter of a second.
pub(crate) fn limit(clock: &Clock, bytes_per_second: u64) -> Throttle {
    Throttle::new(clock.clone(), bytes_per_second, bytes_per_second / 4)
}

impl Push for Native {
    fn kind(&self) -> &'static str {
        "nix-copy"
    }

    fn rules(&self) -> Rules {
        Rules { paths_max: PATHS_MAX, one_drv: false, closure: true, exclusive: false, gather: GATHER }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(unless_stopped(stop, session::run(self, batch, reports)))
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        whole: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        Box::pin(async move {
            let checked = unless_stopped(stop, self.look_at(paths, whole)).await;
            if checked.as_ref().is_ok_and(|checked| !checked.lost.is_empty()) {
                self.doubt_cache().await;
            }
            checked
        })
    }

    fn tidy(&self) -> Work<'_, ()> {
        Box::pin(self.place.abort_left_uploads(&self.id))
    }
}
