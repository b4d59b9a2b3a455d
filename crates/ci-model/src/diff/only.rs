//! Two lists of things come in; those that must be meant by each other come out, as pairs: what has a key that one thing
//! of each list has and no other. Nothing is guessed among several. What is the key may depend on what kind of thing the
//! other one is.

use std::collections::{BTreeSet, HashMap};
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

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, holder) | (holder, Self::Nobody) => holder,
            _ => Self::Several,
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
    take_places(left, right, places.collect())
}

/// The same where things of several kinds are compared, each two by what is known of both kinds: `key` is that of a thing
/// beside one of the kind that is given. Time and room grow with the number of kinds, too.
pub(super) fn take_pairs_of_kinds<T: Copy, S: Copy + Ord + Hash, K: Eq + Hash>(
    left: &mut Vec<T>,
    right: &mut Vec<T>,
    kind: impl Fn(T) -> S,
    key: impl Fn(T, S) -> Option<K>,
) -> Vec<(T, T)> {
    if left.is_empty() || right.is_empty() {
        return Vec::new();
    }
    let to_right = counterparts(left, right, &kind, &key);
    let to_left = counterparts(right, left, &kind, &key);
    let places = to_right.iter().enumerate().filter_map(|(from, to)| match to {
        Holder::One(to) => matches!(to_left[*to], Holder::One(back) if back == from).then_some((from, *to)),
        Holder::Nobody | Holder::Several => None,
    });
    take_places(left, right, places.collect())
}

/// Who of `to` has the key of each of `from`.
fn counterparts<T: Copy, S: Copy + Ord + Hash, K: Eq + Hash>(
    from: &[T],
    to: &[T],
    kind: impl Fn(T) -> S,
    key: impl Fn(T, S) -> Option<K>,
) -> Vec<Holder> {
    let from_kinds: BTreeSet<S> = from.iter().map(|one| kind(*one)).collect();
    let to_kinds: BTreeSet<S> = to.iter().map(|one| kind(*one)).collect();
    let mut holders: HashMap<(S, S, K), Holder> = HashMap::with_capacity(to.len());
    for (at, one) in to.iter().enumerate() {
        for other in &from_kinds {
            if let Some(key) = key(*one, *other) {
                let holder = holders.entry((*other, kind(*one), key)).or_default();
                *holder = holder.with(at);
            }
        }
    }
    let found = |one: T, other: S| holders.get(&(kind(one), other, key(one, other)?)).copied();
    from.iter()
        .map(|one| to_kinds.iter().filter_map(|other| found(*one, *other)).fold(Holder::Nobody, Holder::and))
        .collect()
}

/// Takes what is at these places out of both lists.
fn take_places<T: Copy>(
    left: &mut Vec<T>,
    right: &mut Vec<T>,
    mut places: Vec<(usize, usize)>,
) -> Vec<(T, T)> {
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
