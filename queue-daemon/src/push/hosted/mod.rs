//! Caches that are a service rather than a set of objects (`cache_type = "attic"` and `"cachix"`), served in this process.
//!
//! In flows a batch and its closure; out flow archives at the service, and a report on each path once the narinfo that the
//! service gives says what Nix registered. The service signs, names and keeps archives as it likes: neither keys nor
//! narinfo files leave this machine.
//!
//! One batch: `token` (as whom, and where?) → [`Service::open`] (is there such a cache, and may we?) → `session` (what
//! does it lack? in which order?) → [`Cache::bring`] → read back → report. A path is brought after all it refers to, since a
//! service shows it at once. Archives come from the packer of the binary caches, memory follows the same bounds, and
//! the order is that of the same plan.
//!
//! States of a path in a batch: asked → there | upstream | lacking → sending → read back, or failed with what needs it.
//! Nothing of it is written down but what the lane writes: a batch that is cut off asks again.

mod attic;
mod cachix;
pub(crate) mod cachix_file;
mod check;
mod session;
pub(crate) mod token;
mod whose;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nix_store::{PathInfo, Store};
use nix_types::{NarInfo, StorePath};
use object_kit::Line;
use service_kit::clock::Clock;
use service_kit::shutdown::Stop;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use attic::{Attic, recipe as attic_recipe};
pub(crate) use cachix::{Cachix, recipe as cachix_recipe};

use super::credentials::USER_AGENT;
use super::native::{BYTES_UNIT, Shares, faults, limit, memory, units_each};
use super::{Batch, Checked, Fault, Push, Pushed, Reports, Rules, Whole, Work, unless_stopped};
use crate::config::CacheConfig;
use crate::pack::{CHUNK_BYTES, Job, Packer, WINDOW};
use crate::progress::Progress;

/// Paths of one batch.
const PATHS_MAX: usize = 256;
/// Archives under way at once at a service; memory may allow fewer.
const UPLOADS_MAX: usize = 8;
/// What arrives while a batch is under way waits so long for company.
const GATHER: Duration = Duration::from_millis(100);

/// A kind of service.
pub(crate) trait Service: Send + Sync {
    /// The kind's word.
    fn kind(&self) -> &'static str;

    /// As whom it is spoken to.
    fn whose(&self) -> &whose::Whose;

    /// Finds out as whom and where, and looks at the cache. A fault here is never a path's.
    fn open(&self) -> Work<'_, Result<Arc<dyn Cache>, Fault>>;
}

/// A cache that may be used.
pub(crate) trait Cache: Send + Sync {
    /// Where the cache is really.
    fn place(&self) -> &str;

    /// Names of keys whose paths are not sent, for they can be had upstream.
    fn upstream_keys(&self) -> &[String];

    /// Hash parts of the paths that the cache lacks; one question for all of them, or as few as it takes.
    fn missing<'a>(&'a self, paths: &'a [&'a StorePath]) -> Work<'a, Result<HashSet<String>, Fault>>;

    /// Sends a path, whose references are there; gives how many bytes left.
    fn bring<'a>(&'a self, info: &'a PathInfo, hands: &'a Hands) -> Work<'a, Result<u64, Fault>>;

    /// What readers are told of a path; `None` when it is not there.
    fn narinfo<'a>(&'a self, path: &'a StorePath) -> Work<'a, Result<Option<NarInfo>, Fault>>;
}

/// What it takes to send: archives, memory, and somebody who watches.
pub(crate) struct Hands {
    packer: Arc<Packer>,
    progress: Arc<Progress>,
    store: Arc<dyn Store>,
    slots: Semaphore,
    /// Memory for archives on their way, in units.
    bytes: Arc<Semaphore>,
    bytes_units: u32,
}

impl Hands {
    /// Waits until there is memory for an archive that is read, compressed and kept for readers, and for `beside` bytes.
    async fn memory_for(&self, job: &Job, beside: u64) -> OwnedSemaphorePermit {
        let kept =
            if job.is_small() { job.nar_size.saturating_mul(2) } else { ((WINDOW + 2) * CHUNK_BYTES) as u64 };
        let cost = kept.saturating_add(self.packer.compressor(job)).saturating_add(beside);
        let units = u32::try_from(cost.div_ceil(BYTES_UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(units.min(self.bytes_units)).await;
        permit.expect("the memory of an engine is never closed")
    }
}

/// The engine.
pub(crate) struct Hosted {
    /// The destination as receipts and messages name it.
    shown: String,
    service: Box<dyn Service>,
    hands: Hands,
    memory: memory::Memory,
}

impl Hosted {
    /// The engine of a destination.
    pub(crate) fn new(cache: &CacheConfig, shown: &str, service: Box<dyn Service>, shares: &Shares) -> Self {
        let Shares { queue, packer, destinations, .. } = shares;
        let bytes_units = units_each(*destinations);
        let progress = queue.progress.of(cache.id.as_str()).cloned();
        Self {
            shown: shown.to_owned(),
            service,
            hands: Hands {
                packer: Arc::clone(packer),
                progress: progress.unwrap_or_else(|| Progress::new(queue.clock.clone())),
                store: Arc::clone(&queue.store),
                slots: Semaphore::new(UPLOADS_MAX),
                bytes: Arc::new(Semaphore::new(bytes_units as usize)),
                bytes_units,
            },
            memory: memory::Memory::new(Arc::clone(queue), cache),
        }
    }
}

/// How a service is spoken to.
pub(crate) fn line(cache: &CacheConfig, shares: &Shares) -> Line {
    let clock: Clock = shares.queue.clock.clone();
    let own = cache.bandwidth_limit.map(|rate| Arc::new(limit(&clock, rate)));
    let mut line = Line::new(clock, USER_AGENT, shares.queue.config.cache_reach());
    line.timeout = cache.timeout;
    line.connect_timeout = line.connect_timeout.min(cache.timeout);
    line.throttles = own.into_iter().chain(shares.throttle.clone()).collect();
    line
}

impl Hosted {
    /// Opens the cache; when it refuses who we are, once more as whoever the source names by now.
    async fn open(&self) -> Result<Arc<dyn Cache>, Fault> {
        let opened = match self.service.open().await {
            Err(_) if self.service.whose().ask_anew().await => self.service.open().await,
            opened => opened,
        };
        let cache = opened?;
        self.know_again(cache.place()).await?;
        Ok(cache)
    }

    /// A name may lead to another server than before, by a file that is not ours: what that one has is asked anew.
    async fn know_again(&self, place: &str) -> Result<(), Fault> {
        let known = self.memory.mark().await;
        if known.as_deref() == Some(place) {
            return Ok(());
        }
        if known.is_some() {
            tracing::warn!("{} is at {place} now: what it has is asked anew", self.shown);
        }
        let written = self.memory.now_it_is(Some(place.to_owned()), known.is_some()).await;
        written.map_err(|error| {
            Fault::failed(crate::delivery::FaultClass::Unreachable, object_kit::chain(&error))
        })
    }

    /// What was refused on the way is not used for the next batch.
    async fn noting_refusals<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() {
            self.service.whose().ask_anew().await;
        }
        result
    }
}

impl Push for Hosted {
    fn kind(&self) -> &'static str {
        self.service.kind()
    }

    /// Batches under way do not share unsent paths, so that nothing is sent twice.
    fn rules(&self) -> Rules {
        Rules { paths_max: PATHS_MAX, one_drv: false, closure: true, exclusive: true, gather: GATHER }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        Box::pin(async move {
            let ended = unless_stopped(stop, session::run(self, batch, reports)).await;
            self.noting_refusals(ended).await
        })
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        whole: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        Box::pin(async move {
            let checked = unless_stopped(stop, check::look_at(self, paths, whole)).await;
            self.noting_refusals(checked).await
        })
    }
}
