//! The number of roots, without looking at them all.
//!
//! In flow each root that is made or removed, and a listing now and then; out flows the number. A listing takes a while
//! and is made beside the changes, so those made meanwhile are remembered and count instead of what it says of them.

use std::collections::HashMap;

use nix_types::StorePath;

/// How many roots there are.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// `None` until the first listing.
    known: Option<u64>,
    /// While a listing is under way: what was made (true) and removed (false) since it began.
    meanwhile: Option<HashMap<StorePath, bool>>,
}

impl Count {
    pub(super) fn get(&self) -> Option<u64> {
        self.known
    }

    /// A root is there now; `new` when it was not there before.
    pub(super) fn made(&mut self, path: &StorePath, new: bool) {
        self.note(path, true);
        if new {
            self.known = self.known.map(|known| known + 1);
        }
    }

    /// A root is gone now; `was_there` when there was one.
    pub(super) fn removed(&mut self, path: &StorePath, was_there: bool) {
        self.note(path, false);
        if was_there {
            self.known = self.known.map(|known| known.saturating_sub(1));
        }
    }

    /// Before the folder is listed.
    pub(super) fn listing_begins(&mut self) {
        self.meanwhile = Some(HashMap::new());
    }

    /// The folder was listed, or could not be; nobody may make or remove a root around this call without its note.
    pub(super) fn listing_ends(&mut self, listed: Option<&[StorePath]>) {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        if let Some(listed) = listed {
            let unchanged = listed.iter().filter(|path| !meanwhile.contains_key(path)).count();
            let made = meanwhile.values().filter(|there| **there).count();
            self.known = Some((unchanged + made) as u64);
        }
    }

    fn note(&mut self, path: &StorePath, there: bool) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(path.clone(), there);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(n: u8) -> StorePath {
        StorePath::parse(format!("/nix/store/{n:032}-x").as_bytes()).unwrap()
    }

    #[test]
    fn each_root_counts_once_from_the_first_listing_on() {
        let mut count = Count::default();
        count.made(&path(1), true);
        assert_eq!(count.get(), None);
        count.listing_begins();
        count.listing_ends(Some(&[path(1)]));
        count.made(&path(1), false);
        count.made(&path(2), true);
        count.removed(&path(3), false);
        assert_eq!(count.get(), Some(2));
        count.removed(&path(1), true);
        assert_eq!(count.get(), Some(1));
    }

    /// A listing may or may not have seen what changed while it was made.
    #[test]
    fn changes_during_a_listing_count_whatever_it_saw_of_them() {
        for seen in
            [vec![path(1), path(2)], vec![path(1), path(2), path(3)], vec![path(1)], vec![path(1), path(3)]]
        {
            let mut count = Count::default();
            count.listing_begins();
            count.made(&path(3), true);
            count.removed(&path(2), true);
            count.listing_ends(Some(&seen));
            assert_eq!(count.get(), Some(2), "{seen:?}");
        }
    }

    #[test]
    fn a_listing_that_fails_leaves_the_number() {
        let mut count = Count::default();
        count.listing_begins();
        count.listing_ends(Some(&[path(1)]));
        count.listing_begins();
        count.made(&path(2), true);
        count.listing_ends(None);
        assert_eq!(count.get(), Some(2));
    }
}
