//! Two lists of things come in; those that must be meant by each other come out, as pairs: what has a key that one thing
//! of each list has and no other. Nothing is guessed among several.

use std::collections::HashMap;
use std::hash::Hash;

/// Who has a key: nobody, one, or more than can be told apart.
#[derive(Clone, Copy, Default)]
enum Holder {
    #[default]
    Nobody,
    One(usize),
    Several,
}

impl Holder {
    fn with(self, at: usize) -> Self {
        match self {
            Self::Nobody => Self::One(at),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// Takes the pairs out of both lists, in the order of `left`. What has no key has no counterpart.
pub(super) fn take_pairs<T: Copy, K: Eq + Hash>(
    left: &mut Vec<T>,
    right: &mut Vec<T>,
    key: impl Fn(T) -> Option<K>,
) -> Vec<(T, T)> {
    if left.is_empty() || right.is_empty() {
        return Vec::new();
    }
    let mut holders: HashMap<K, (Holder, Holder)> = HashMap::with_capacity(left.len());
    for (at, one) in left.iter().enumerate() {
        if let Some(key) = key(*one) {
            let holder = &mut holders.entry(key).or_default().0;
            *holder = holder.with(at);
        }
    }
    for (at, one) in right.iter().enumerate() {
        // A key that nothing at the left has makes no pair, and needs no room.
        if let Some(holder) = key(*one).and_then(|key| holders.get_mut(&key)) {
            holder.1 = holder.1.with(at);
        }
    }
    let places = holders.into_values().filter_map(|holder| match holder {
        (Holder::One(from), Holder::One(to)) => Some((from, to)),
        _ => None,
    });
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    let pairs = places.iter().map(|(from, to)| (left[*from], right[*to])).collect();
    drop_places(left, places.iter().map(|(from, _)| *from));
    drop_places(right, places.iter().map(|(_, to)| *to));
    pairs
}

fn drop_places<T>(list: &mut Vec<T>, places: impl Iterator<Item = usize>) {
    let mut drops = vec![false; list.len()];
    places.for_each(|at| drops[at] = true);
    let mut drops = drops.into_iter();
    list.retain(|_| !drops.next().unwrap_or(false));
}
