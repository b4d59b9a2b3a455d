//! Who will come for which archive.
//!
//! In flow the archives that batches are about to send; out flows whether somebody still comes for one. So whoever packs
//! first keeps its beginning until the others have joined, instead of letting each pack it again. Who once let others
//! wait in vain is not waited for any more. How long that is, is not decided here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Key;

/// All that is expected.
#[derive(Debug, Default)]
pub(super) struct Expectations(Mutex<HashMap<Key, Vec<Arc<Guest>>>>);

/// A batch of a destination.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    was_late: AtomicBool,
}

/// Word that a batch will come for an archive; called off when this is dropped.
#[derive(Debug)]
pub(crate) struct Expected {
    all: Arc<Expectations>,
    guest: Arc<Guest>,
    key: Key,
}

impl Expectations {
    /// A batch is going to come for this one.
    pub(super) fn add(self: &Arc<Self>, guest: &Arc<Guest>, key: Key) -> Expected {
        self.all().entry(key.clone()).or_default().push(Arc::clone(guest));
        Expected { all: Arc::clone(self), guest: Arc::clone(guest), key }
    }

    /// Whether somebody comes who is worth waiting for.
    pub(super) fn is_expected(&self, key: &Key) -> bool {
        let comes = |guest: &Arc<Guest>| !guest.was_late.load(Ordering::Relaxed);
        self.all().get(key).is_some_and(|guests| guests.iter().any(comes))
    }

    /// Those who said that they come for this one did not come in time.
    pub(super) fn were_late(&self, key: &Key) {
        for guest in self.all().get(key).into_iter().flatten() {
            guest.was_late.store(true, Ordering::Relaxed);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Vec<Arc<Guest>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut all = self.all.all();
        let Some(guests) = all.get_mut(&self.key) else { return };
        if let Some(ours) = guests.iter().position(|guest| Arc::ptr_eq(guest, &self.guest)) {
            guests.swap_remove(ours);
        }
        if guests.is_empty() {
            all.remove(&self.key);
        }
    }
}
