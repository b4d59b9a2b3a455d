//! What is on its way right now, for people.
//!
//! In flow the beginnings, moves and ends of transfers, and deliveries that are done; out flows a picture of the
//! moment, destination by destination.
//! Kept in memory alone: it decides nothing and is empty after a start.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix_types::StorePath;
use service_kit::clock::{Clock, Mono};

/// Over how long a rate is taken.
const RATE_OVER: Duration = Duration::from_secs(10);
/// Steps in which bytes are counted for the rate.
const RATE_STEP: Duration = Duration::from_millis(250);

/// About so many bytes of archives, before compression, tell how well the next ones will be compressed.
const RATIO_OVER: u64 = 4 << 30;

/// What is on its way to one destination.
#[derive(Debug)]
pub(crate) struct Progress {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    transfers: BTreeMap<u64, Under>,
    /// Bytes that left, by when, at most [`RATE_OVER`] back.
    recent: VecDeque<(Mono, u64)>,
    /// Of archives that were sent lately: bytes before and after compression.
    packed: (u64, u64),
    done_count: u64,
    done_nar_bytes: u64,
}

#[derive(Debug)]
struct Under {
    path: StorePath,
    nar_bytes: u64,
    sent: Arc<AtomicU64>,
    since: Mono,
}

/// One transfer as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moving {
    /// What is sent.
    pub(crate) path: StorePath,
    /// How large its NAR is, before compression; 0 when Nix did not note it.
    pub(crate) nar_bytes: u64,
    /// Bytes that left, compressed.
    pub(crate) sent_bytes: u64,
    /// For how long.
    pub(crate) since: Duration,
}

/// A destination as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The oldest first.
    pub(crate) moving: Vec<Moving>,
    /// Over the last [`RATE_OVER`].
    pub(crate) bytes_per_second: u64,
    /// Of archives that were sent lately: bytes before and after compression; zeros before the first.
    pub(crate) packed: (u64, u64),
    /// Deliveries that are done since the start.
    pub(crate) done_count: u64,
    /// What their NARs have in all.
    pub(crate) done_nar_bytes: u64,
}

impl Progress {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// A transfer begins; it ends when what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>, path: &StorePath, nar_bytes: u64) -> Transfer {
        let sent = Arc::new(AtomicU64::new(0));
        let under =
            Under { path: path.clone(), nar_bytes, sent: Arc::clone(&sent), since: self.clock.mono() };
        let mut state = self.state();
        let id = state.next_id;
        state.next_id += 1;
        state.transfers.insert(id, under);
        Transfer { progress: Arc::clone(self), id, sent }
    }

    /// How it stands.
    pub(crate) fn picture(&self) -> Picture {
        let now = self.clock.mono();
        let mut state = self.state();
        state.forget_old(now);
        let moving = |under: &Under| Moving {
            path: under.path.clone(),
            nar_bytes: under.nar_bytes,
            sent_bytes: under.sent.load(Ordering::Relaxed),
            since: now.since(under.since),
        };
        let bytes: u64 = state.recent.iter().map(|(_, bytes)| bytes).sum();
        Picture {
            moving: state.transfers.values().map(moving).collect(),
            bytes_per_second: bytes / RATE_OVER.as_secs(),
            packed: state.packed,
            done_count: state.done_count,
            done_nar_bytes: state.done_nar_bytes,
        }
    }

    /// An archive was sent: its bytes before and after compression.
    pub(crate) fn packed(&self, nar_bytes: u64, file_bytes: u64) {
        let mut state = self.state();
        let (nar, file) = state.packed;
        state.packed = (nar.saturating_add(nar_bytes), file.saturating_add(file_bytes));
        if state.packed.0 > RATIO_OVER {
            state.packed = (state.packed.0 / 2, state.packed.1 / 2); // what is newer weighs more
        }
    }

    /// A delivery is done.
    pub(crate) fn done(&self, nar_bytes: u64) {
        let mut state = self.state();
        state.done_count += 1;
        state.done_nar_bytes = state.done_nar_bytes.saturating_add(nar_bytes);
    }

    fn moved(&self, bytes: u64) {
        let now = self.clock.mono();
        let mut state = self.state();
        match state.recent.back_mut() {
            Some((at, sum)) if now.since(*at) < RATE_STEP => *sum += bytes,
            Some(_) | None => state.recent.push_back((now, bytes)),
        }
        state.forget_old(now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_old(&mut self, now: Mono) {
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) > RATE_OVER) {
            self.recent.pop_front();
        }
    }
}

/// A transfer that is under way.
#[derive(Debug)]
pub(crate) struct Transfer {
    progress: Arc<Progress>,
    id: u64,
    sent: Arc<AtomicU64>,
}

impl Transfer {
    /// What is to be told of bytes that leave.
    pub(crate) fn ear(&self) -> Arc<dyn Fn(u64) + Send + Sync> {
        let (progress, sent) = (Arc::clone(&self.progress), Arc::clone(&self.sent));
        Arc::new(move |bytes| {
            sent.fetch_add(bytes, Ordering::Relaxed);
            progress.moved(bytes);
        })
    }

    /// Bytes that left so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.progress.state().transfers.remove(&self.id);
    }
}

/// What is on its way, by destination.
#[derive(Debug, Default)]
pub(crate) struct AllProgress(HashMap<String, Arc<Progress>>);

impl AllProgress {
    /// For destinations of these ids.
    pub(crate) fn new<'a>(ids: impl Iterator<Item = &'a str>, clock: &Clock) -> Self {
        Self(ids.map(|id| (id.to_owned(), Progress::new(clock.clone()))).collect())
    }

    /// Of one destination.
    pub(crate) fn of(&self, id: &str) -> Option<&Arc<Progress>> {
        self.0.get(id)
    }
}

#[cfg(test)]
mod tests {
    use service_kit::clock::Time;

    use super::*;

    #[test]
    fn transfers_and_rates_come_and_go() {
        let (clock, manual) = Clock::manual(Time::from_ms(0));
        let progress = Progress::new(clock);
        let path = StorePath::parse_str("/nix/store/00000000000000000000000000000000-a").unwrap();
        let transfer = progress.begin(&path, 100);
        (transfer.ear())(40);
        manual.step(Duration::from_secs(2));
        (transfer.ear())(60);
        let picture = progress.picture();
        assert_eq!(picture.bytes_per_second, 10);
        let want = Moving { path, nar_bytes: 100, sent_bytes: 100, since: Duration::from_secs(2) };
        assert_eq!(picture.moving, [want]);
        drop(transfer);
        progress.packed(100, 40);
        progress.done(100);
        manual.step(Duration::from_secs(11));
        let want = Picture { packed: (100, 40), done_count: 1, done_nar_bytes: 100, ..Picture::default() };
        assert_eq!(progress.picture(), want);
    }

    #[test]
    fn what_was_packed_lately_weighs_more_than_what_was_packed_long_ago() {
        let progress = Progress::new(Clock::manual(Time::from_ms(0)).0);
        progress.packed(RATIO_OVER, RATIO_OVER);
        for _ in 0..100 {
            progress.packed(RATIO_OVER / 4, 0);
        }
        let (nar, file) = progress.picture().packed;
        assert!(file < nar / 1_000, "{file} of {nar}");
    }
}
