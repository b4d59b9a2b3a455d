//! A filter comes in, the valid paths it wants come out page by page, in the order of their registration as far as the
//! daemon knows it. It has no question for a part of its paths, so a listing is taken whole and kept until its last
//! page was given, or newer listings need the place.

use std::sync::{Arc, Mutex, PoisonError};

use nix_types::StorePath;

use crate::daemon::Daemon;
use crate::order::references_first;
use crate::store::{Cursor, Filter, Page, StoreError};

/// Most listings kept at once; a listing that lost its place is taken anew at its next page.
const LISTINGS_MAX: usize = 4;
/// Marks cursors of this kind. Below it: the listing's number, and a place in it.
const OURS: i64 = 1 << 62;
const PLACE_BITS: u32 = 32;
const NUMBERS: i64 = 1 << (62 - PLACE_BITS);

#[derive(Default)]
pub(super) struct Listings {
    last: i64,
    /// The oldest first.
    kept: Vec<Listing>,
}

struct Listing {
    number: i64,
    filter: Filter,
    paths: Arc<[StorePath]>,
}

impl Cursor {
    /// Does it belong to a listing of the daemon?
    pub(crate) fn is_of_daemon(self) -> bool {
        self.0 & OURS != 0
    }
}

pub(super) fn page(
    listings: &Mutex<Listings>,
    filter: &Filter,
    after: Cursor,
    limit: usize,
    take: impl FnOnce() -> Result<Vec<StorePath>, StoreError>,
) -> Result<Page, StoreError> {
    let place = usize::try_from(after.0 & ((1 << PLACE_BITS) - 1)).unwrap_or(usize::MAX);
    let wanted = (after.0 & !OURS) >> PLACE_BITS;
    let locked = || listings.lock().unwrap_or_else(PoisonError::into_inner);
    let kept =
        |listing: &&Listing| after.is_of_daemon() && listing.number == wanted && listing.filter == *filter;
    let found = locked().kept.iter().find(kept).map(|listing| (listing.number, Arc::clone(&listing.paths)));
    let (number, paths) = match found {
        Some(found) => found,
        None => {
            // Not under the lock: others go on with theirs meanwhile.
            let paths: Arc<[StorePath]> = take()?.into();
            (locked().keep(*filter, &paths), paths)
        }
    };
    let rest = paths.get(place..).unwrap_or_default();
    let page = &rest[..rest.len().min(limit.max(1))];
    let end = place + page.len();
    if end >= paths.len() {
        locked().kept.retain(|listing| listing.number != number);
        return Ok(Page { paths: page.to_vec(), next: None });
    }
    // PATHS_MAX of the conversation bounds the places.
    let next = i64::try_from(end).ok().map(|end| Cursor(OURS | number << PLACE_BITS | end));
    Ok(Page { paths: page.to_vec(), next })
}

impl Listings {
    fn keep(&mut self, filter: Filter, paths: &Arc<[StorePath]>) -> i64 {
        self.last = (self.last + 1) % NUMBERS;
        if self.kept.len() >= LISTINGS_MAX {
            self.kept.remove(0);
        }
        self.kept.push(Listing { number: self.last, filter, paths: Arc::clone(paths) });
        self.last
    }
}

/// All valid paths the filter wants, in order.
pub(super) fn all(daemon: &mut Daemon, filter: &Filter) -> Result<Vec<StorePath>, StoreError> {
    let mut paths = daemon.all_valid()?;
    paths.sort_unstable();
    paths.dedup();
    let mut times = Vec::with_capacity(paths.len());
    let mut wanted = Vec::with_capacity(paths.len());
    let mut references = Vec::with_capacity(paths.len());
    daemon.path_infos(&paths, |_, info| -> Result<(), StoreError> {
        // One that was collected meanwhile keeps its number and is not wanted.
        let Some(info) = info else {
            times.push(u64::MAX);
            wanted.push(false);
            references.push(Vec::new());
            return Ok(());
        };
        let since = filter.registered_since.is_none_or(|since| info.registration_time >= since);
        wanted.push(since && (info.ultimate || !filter.ultimate_only));
        times.push(info.registration_time);
        references.push(info.references.iter().filter_map(|path| paths.binary_search(path).ok()).collect());
        Ok(())
    })?;
    let mut by_time: Vec<usize> = (0..paths.len()).collect();
    by_time.sort_by_key(|number| times[*number]);
    let order = references_first(by_time, &references);
    Ok(order.into_iter().filter(|number| wanted[*number]).map(|number| paths[number].clone()).collect())
}

/// Valid paths that name this one as their deriver: one question per path of the store.
pub(super) fn derived_from(daemon: &mut Daemon, drv: &StorePath) -> Result<Vec<StorePath>, StoreError> {
    let paths = daemon.all_valid()?;
    let mut derived = Vec::new();
    daemon.path_infos(&paths, |path, info| -> Result<(), StoreError> {
        if info.is_some_and(|info| info.deriver.as_ref() == Some(drv)) {
            derived.push(path.clone());
        }
        Ok(())
    })?;
    Ok(derived)
}
