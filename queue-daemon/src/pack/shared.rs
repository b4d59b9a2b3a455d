//! One archive on its way to several readers.
//!
//! In flow chunks from whoever packs; out flow the same chunks to each reader, and then the end. At most [`WINDOW`]
//! chunks are kept; while nothing had to be let go of, somebody may still join. A slow reader holds up the packing, and
//! with it the others, but not for long: one that stands still is cut off after [`FALL_OUT`], and one that is merely
//! slow when so much and half of all the time has gone by waiting for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{FALL_OUT, PackError, Packed, WINDOW};

/// How often a packing that waits looks whether a reader has to be cut off.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Those who said that they will join an archive.
pub(super) trait Guests {
    /// Somebody comes.
    fn come(&self) -> bool;
    /// They did not come in time.
    fn were_late(&self);
}

/// Nobody comes.
struct NoGuests;

impl Guests for NoGuests {
    fn come(&self) -> bool {
        false
    }

    fn were_late(&self) {}
}

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Unread;

/// The reader was cut off: it held up others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this destination held up others for more than {}s; it gets a pack of its own", FALL_OUT.as_secs())]
pub(crate) struct Fell;

/// An archive that is packed, or was.
#[derive(Debug)]
pub(super) struct Shared {
    begun: Instant,
    state: Mutex<State>,
    /// A reader has moved or gone.
    moved: Condvar,
    /// There is a chunk, or the end.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// How many chunks were let go of.
    base: usize,
    readers: Vec<Place>,
    next_id: u64,
    end: Option<Result<Arc<Packed>, Arc<PackError>>>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    /// The chunk it gets next, counted from the beginning.
    next: usize,
    /// How long others have waited for it.
    held_up: Duration,
}

impl Place {
    fn new(id: u64) -> Self {
        Self { id, next: 0, held_up: Duration::ZERO }
    }
}

impl State {
    fn upto(&self) -> usize {
        self.base + self.chunks.len()
    }

    fn slowest(&self) -> Option<usize> {
        self.readers.iter().map(|reader| reader.next).min()
    }

    /// Lets go of chunks that all have, as far as room is needed; of the first one not while somebody comes for it.
    fn make_room(&mut self, guests: &dyn Guests) -> bool {
        if self.base == 0 && self.chunks.len() >= WINDOW && guests.come() {
            return false;
        }
        let slowest = self.slowest().unwrap_or(self.base);
        while self.chunks.len() >= WINDOW && self.base < slowest {
            self.chunks.pop_front();
            self.base += 1;
        }
        self.chunks.len() < WINDOW
    }

    /// So long was waited for the slowest. Those that hold up others are cut off, when they stand still or when it
    /// comes to more than `patience`; true if so. One that holds up nobody is left alone, however slow it is.
    fn hold_up(&mut self, span: Duration, still: bool, patience: Duration) -> bool {
        let (slowest, upto) = (self.slowest(), self.upto());
        if self.readers.iter().all(|reader| reader.next < upto) {
            return false;
        }
        let before = self.readers.len();
        self.readers.retain_mut(|reader| {
            let is_slowest = Some(reader.next) == slowest;
            reader.held_up += if is_slowest { span } else { Duration::ZERO };
            !(is_slowest && (still || reader.held_up > patience))
        });
        self.readers.len() < before
    }
}

impl Shared {
    /// An archive with its first reader.
    pub(super) fn new() -> (Arc<Self>, Reader) {
        let state = State { readers: vec![Place::new(0)], next_id: 1, ..State::default() };
        let shared = Arc::new(Self {
            begun: Instant::now(),
            state: Mutex::new(state),
            moved: Condvar::new(),
            news: Notify::new(),
        });
        let reader = Reader { pack: Arc::clone(&shared), id: 0 };
        (shared, reader)
    }

    /// A further reader, from the beginning; `None` when that is gone.
    pub(super) fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state();
        if !joinable(&state) {
            return None;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.readers.push(Place::new(id));
        Some(Reader { pack: Arc::clone(self), id })
    }

    pub(super) fn can_be_joined(&self) -> bool {
        joinable(&self.state())
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state().end.is_some()
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.state().chunks.iter().map(Bytes::len).sum()
    }

    /// Adds a chunk of an archive that fits into the window.
    pub(super) fn push(&self, chunk: Bytes) -> Result<(), Unread> {
        self.push_or_wait(chunk, &NoGuests, |_| {})
    }

    /// Adds a chunk, once there is room and the beginning is not kept for guests. `waits` hears when that takes time, and
    /// when it is over.
    pub(super) fn push_or_wait(
        &self,
        chunk: Bytes,
        guests: &dyn Guests,
        mut waits: impl FnMut(bool),
    ) -> Result<(), Unread> {
        let mut state = self.state();
        let mut full_since = None;
        while !state.make_room(guests) {
            if state.readers.is_empty() {
                return Err(Unread);
            }
            let since = *full_since.get_or_insert_with(|| {
                waits(true);
                Instant::now()
            });
            let is_kept_for_guests = state.base == 0 && guests.come();
            let looked = Instant::now();
            let waited = self.moved.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let is_long = since.elapsed() >= FALL_OUT;
            if is_kept_for_guests {
                if is_long {
                    guests.were_late();
                    full_since = Some(Instant::now());
                }
                continue;
            }
            // At most half of the others' time, beside what everybody may take.
            let patience = FALL_OUT + self.begun.elapsed() / 2;
            if state.hold_up(looked.elapsed(), is_long, patience) {
                self.news.notify_waiters();
            }
        }
        if state.readers.is_empty() {
            return Err(Unread);
        }
        if full_since.is_some() {
            drop(state);
            waits(false);
            state = self.state();
        }
        state.chunks.push_back(chunk);
        drop(state);
        self.news.notify_waiters();
        Ok(())
    }

    /// Says how it ended.
    pub(super) fn end(&self, result: Result<Packed, PackError>) {
        self.state().end = Some(result.map(Arc::new).map_err(Arc::new));
        self.news.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn joinable(state: &State) -> bool {
    state.base == 0 && !matches!(state.end, Some(Err(_)))
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next chunk.
    Chunk(Bytes),
    /// Nothing more; the archive is what was registered.
    End(Arc<Packed>),
}

/// One reader of an archive.
#[derive(Debug)]
pub(crate) struct Reader {
    pack: Arc<Shared>,
    id: u64,
}

/// Why a reader gets nothing more.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    /// The archive could not be made.
    #[error(transparent)]
    Pack(#[from] Arc<PackError>),
    /// It was cut off.
    #[error(transparent)]
    Fell(#[from] Fell),
}

impl Reader {
    /// The next chunk, or the end.
    pub(crate) async fn next(&mut self) -> Result<Piece, ReadError> {
        loop {
            let news = self.pack.news.notified();
            tokio::pin!(news);
            // Registered before the look, so that what comes in between is heard.
            news.as_mut().enable();
            if let Some(piece) = self.look()? {
                return Ok(piece);
            }
            news.await;
        }
    }

    fn look(&self) -> Result<Option<Piece>, ReadError> {
        let mut state = self.pack.state();
        let (base, upto, end) = (state.base, state.upto(), state.end.clone());
        let Some(place) = state.readers.iter_mut().find(|place| place.id == self.id) else {
            return Err(Fell.into());
        };
        if place.next < upto {
            let at = place.next - base;
            place.next += 1;
            let chunk = state.chunks.get(at).cloned();
            drop(state);
            self.pack.moved.notify_one();
            return Ok(Some(Piece::Chunk(chunk.expect("no chunk is let go of before its readers have it"))));
        }
        match end {
            None => Ok(None),
            Some(Ok(packed)) => Ok(Some(Piece::End(packed))),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pack.state().readers.retain(|place| place.id != self.id);
        self.pack.moved.notify_one();
    }
}
