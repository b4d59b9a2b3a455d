//! Packs store paths: NAR, hash, compression, once for all destinations that want the same bytes.
//!
//! In flows what Nix registered about a path and the codec; out flows the compressed archive, chunk by chunk, and at
//! its end what it came to. The archive's hash is compared with the registered one before the end is told, so whoever
//! sends chunks on the way must take them back when the end is an error. Who sends where is not known here.
//!
//! Whoever asks for a path that is being packed reads along while its beginning is still kept, which it is for those who
//! said that they come, unless they let others wait for [`FALL_OUT`]. Small archives are kept a while for those who come
//! a moment later. A reader that holds up others for [`FALL_OUT`] is cut off and asks for a pack of its own.

mod encode;
mod expect;
mod shared;
mod weight;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix_store::nar::Listing;
use nix_types::cache_url::Codec;
use nix_types::{Sha256, StorePath};
use prometheus::IntCounterVec;
use service_kit::clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use encode::PackError;
use encode::Tools;
use expect::Expectations;
pub(crate) use expect::{Expected, Guest};
use shared::Shared;
pub(crate) use shared::{Piece, ReadError, Reader};

/// Bytes of a chunk; the last one is shorter.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// Chunks of one archive that are kept at once.
pub(crate) const WINDOW: usize = 8;
/// Archives up to this size are packed without waiting for whoever reads: all of it fits into the window.
pub(crate) const SMALL_BYTES: u64 = (CHUNK_BYTES * (WINDOW - 1)) as u64;
/// How long a reader may hold up others.
const FALL_OUT: Duration = Duration::from_secs(3);
/// Bytes of finished archives that are kept for others.
const KEPT_BYTES: usize = 16 << 20;
/// How long they are kept.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// From this size on an archive is compressed by several threads.
const THREADS_FROM: u64 = 32 << 20;
/// Most threads for one archive.
const THREADS_MAX: u32 = 4;

/// How archives are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recipe {
    /// With what.
    pub(crate) codec: Codec,
    /// How hard; `None` is the codec's own default.
    pub(crate) level: Option<i32>,
    /// Whether several threads may work on a large one; `None` decides by size.
    pub(crate) parallel: Option<bool>,
}

/// A path to be packed.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) path: StorePath,
    /// As registered.
    pub(crate) nar_hash: Sha256,
    /// As registered, in bytes; 0 when Nix did not note it.
    pub(crate) nar_size: u64,
    pub(crate) recipe: Recipe,
    /// Whether the tree of its files is wanted.
    pub(crate) listing: bool,
}

impl Job {
    /// Whether all of it fits into the window.
    pub(crate) fn is_small(&self) -> bool {
        (1..=SMALL_BYTES).contains(&self.nar_size)
    }
}

/// What an archive came to.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Of the compressed archive.
    pub(crate) file_hash: Sha256,
    /// Of the compressed archive, in bytes.
    pub(crate) file_size: u64,
    /// Of the archive, in bytes: what is registered, where something is.
    pub(crate) nar_size: u64,
    /// The tree of its files, where it was asked for.
    pub(crate) listing: Option<Listing>,
}

/// Packs for all destinations.
#[derive(Debug)]
pub(crate) struct Packer {
    /// One permit for each thread that may compute at once.
    cpu: Arc<Semaphore>,
    threads: u32,
    /// How many destinations use a recipe: nothing is kept for one alone.
    users: HashMap<Recipe, usize>,
    packs: Mutex<HashMap<Key, Entry>>,
    expectations: Arc<Expectations>,
    clock: Clock,
    /// Somebody will tidy up once nothing is asked for any more.
    tidying: AtomicBool,
    /// Packs that were begun, by codec.
    begun: IntCounterVec,
    tools: Arc<Toolbox>,
}

/// Tools that nobody uses right now; no more than threads may compute at once.
#[derive(Debug)]
struct Toolbox {
    idle: Mutex<Vec<Tools>>,
    idle_max: usize,
}

impl Toolbox {
    fn take(&self) -> Tools {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn put_back(&self, mut tools: Tools) {
        tools.put_down();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.idle_max {
            idle.push(tools);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    path: StorePath,
    recipe: Recipe,
    listing: bool,
}

impl Key {
    fn of(job: &Job) -> Self {
        Self { path: job.path.clone(), recipe: job.recipe, listing: job.listing }
    }
}

/// Who still comes for one archive.
struct Guests<'a> {
    expectations: &'a Expectations,
    key: &'a Key,
}

impl shared::Guests for Guests<'_> {
    fn come(&self) -> bool {
        self.expectations.is_expected(self.key)
    }

    fn were_late(&self) {
        self.expectations.were_late(self.key);
    }
}

#[derive(Debug)]
struct Entry {
    pack: Arc<Shared>,
    since: Instant,
}

impl Packer {
    /// A packer that computes on `threads` threads (at least 1) for destinations with these recipes, and counts what
    /// it begins.
    pub(crate) fn new(threads: usize, recipes: &[Recipe], clock: Clock, begun: IntCounterVec) -> Arc<Self> {
        let threads = u32::try_from(threads.clamp(1, 1024)).unwrap_or(1);
        let mut users = HashMap::new();
        for recipe in recipes {
            *users.entry(*recipe).or_default() += 1;
        }
        let cpu = Arc::new(Semaphore::new(threads as usize));
        Arc::new(Self {
            cpu,
            threads,
            users,
            packs: Mutex::default(),
            expectations: Arc::default(),
            clock,
            tidying: AtomicBool::new(false),
            begun,
            tools: Arc::new(Toolbox { idle: Mutex::default(), idle_max: threads as usize }),
        })
    }

    /// Says that a batch is going to open this soon, so that others keep it; `None` when there are no others.
    pub(crate) fn expect(&self, guest: &Arc<Guest>, job: &Job) -> Option<Expected> {
        self.has_many_users(job.recipe).then(|| self.expectations.add(guest, Key::of(job)))
    }

    fn has_many_users(&self, recipe: Recipe) -> bool {
        self.users.get(&recipe).is_some_and(|users| *users > 1)
    }

    /// A reader of the archive, from its beginning. With `alone` it is packed for this reader only. What was
    /// [expected](Packer::expect) is to be dropped behind it.
    pub(crate) fn open(self: &Arc<Self>, job: &Job, alone: bool) -> Reader {
        let key = Key::of(job);
        let shares = !alone && self.has_many_users(job.recipe);
        if shares && let Some(reader) = self.join(&key) {
            return reader;
        }
        let (pack, reader) = Shared::new();
        if shares {
            let entry = Entry { pack: Arc::clone(&pack), since: Instant::now() };
            self.packs().insert(key, entry);
            self.tidy_later();
        }
        self.start(job.clone(), pack);
        reader
    }

    fn join(&self, key: &Key) -> Option<Reader> {
        let mut packs = self.packs();
        tidy(&mut packs, &self.expectations);
        packs.get(key)?.pack.join()
    }

    /// Without further requests nobody else would let go of what is kept.
    fn tidy_later(self: &Arc<Self>) {
        if self.tidying.swap(true, Ordering::Relaxed) {
            return;
        }
        let packer = Arc::downgrade(self);
        let nap = self.clock.sleep(KEPT_FOR);
        tokio::spawn(async move {
            nap.await;
            let Some(packer) = packer.upgrade() else { return };
            packer.tidying.store(false, Ordering::Relaxed);
            let is_empty = {
                let mut packs = packer.packs();
                tidy(&mut packs, &packer.expectations);
                packs.is_empty()
            };
            if !is_empty {
                packer.tidy_later();
            }
        });
    }

    /// Small archives are packed in one go by the runtime's threads; a large one waits for its readers, on a thread of
    /// its own.
    fn start(self: &Arc<Self>, job: Job, pack: Arc<Shared>) {
        self.begun.with_label_values(&[job.recipe.codec.name()]).inc();
        let threads = weight::threads(&job, self.threads);
        let work = Work {
            job,
            pack,
            cpu: Arc::clone(&self.cpu),
            threads,
            expectations: Arc::clone(&self.expectations),
            tools: Arc::clone(&self.tools),
        };
        if work.job.is_small() {
            // A task of its own: others may join, and whoever asked first may give up.
            tokio::spawn(async move {
                let permit = work.permit().await;
                tokio::task::spawn_blocking(move || work.run(permit));
            });
            return;
        }
        let runtime = tokio::runtime::Handle::current();
        let pack = Arc::clone(&work.pack);
        let started = std::thread::Builder::new().name("pack".into()).spawn(move || {
            let _entered = runtime.enter();
            let permit = runtime.block_on(work.permit());
            work.run(permit);
        });
        if let Err(error) = started {
            pack.end(Err(PackError::Thread(error)));
        }
    }

    /// What compressing an archive takes of memory at most, in bytes.
    pub(crate) fn compressor(&self, job: &Job) -> u64 {
        weight::compressor(job, self.threads)
    }

    fn packs(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of what is of no more use to anybody: what nobody can join, what is old, and beyond [`KEPT_BYTES`] first
/// what nobody said they come for, then the oldest.
fn tidy(packs: &mut HashMap<Key, Entry>, expectations: &Expectations) {
    packs.retain(|_, entry| entry.pack.can_be_joined() && entry.since.elapsed() < KEPT_FOR);
    let finished = packs.iter().filter(|(_, entry)| entry.pack.is_finished());
    let mut kept: Vec<((bool, Instant), Key, usize)> = finished
        .map(|(key, entry)| ((expectations.is_expected(key), entry.since), key.clone(), entry.pack.bytes()))
        .collect();
    let mut total: usize = kept.iter().map(|(_, _, bytes)| bytes).sum();
    kept.sort_by_key(|(order, _, _)| *order);
    for (_, key, bytes) in kept {
        if total <= KEPT_BYTES {
            break;
        }
        total -= bytes;
        packs.remove(&key);
    }
}

/// One archive in the making.
struct Work {
    job: Job,
    pack: Arc<Shared>,
    cpu: Arc<Semaphore>,
    threads: Option<u32>,
    expectations: Arc<Expectations>,
    tools: Arc<Toolbox>,
}

impl Work {
    async fn permit(&self) -> OwnedSemaphorePermit {
        let many = Arc::clone(&self.cpu).acquire_many_owned(self.threads.unwrap_or(1)).await;
        many.expect("the semaphore of the packer is never closed")
    }

    fn run(self, permit: OwnedSemaphorePermit) {
        let mut permit = Some(permit);
        let small = self.job.is_small();
        let key = Key::of(&self.job);
        let guests = Guests { expectations: &self.expectations, key: &key };
        let mut tools = self.tools.take();
        let result = encode::encode(&self.job, self.threads, &mut tools, &mut |chunk| {
            if small {
                return self.pack.push(chunk);
            }
            // Whoever waits for a reader computes nothing.
            self.pack.push_or_wait(chunk, &guests, |waits| {
                if waits {
                    permit = None;
                } else if permit.is_none() {
                    permit = Some(tokio::runtime::Handle::current().block_on(self.permit()));
                }
            })
        });
        self.pack.end(result);
        self.tools.put_back(tools);
    }
}

#[cfg(test)]
mod tests;
