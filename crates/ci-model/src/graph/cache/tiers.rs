//! In which order nodes are evicted. Slots come in with the tier they are in; the one to go next comes out. Each tier is
//! a list through the slots themselves, so that a slot is put in, taken out and moved without looking at others.

use crate::flow::BuildState;

/// What may be evicted, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// What it needs cannot be built.
    TransitiveFailure,
    /// It was not built, for whatever other reason.
    CompletedFailure,
    /// Its outputs are there.
    CompletedSuccess,
}

impl Tier {
    /// All, the first to go first.
    pub const ALL: [Self; 3] = [Self::TransitiveFailure, Self::CompletedFailure, Self::CompletedSuccess];

    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::TransitiveFailure => "tier1_transitive_failure",
            Self::CompletedFailure => "tier2_completed_failure",
            Self::CompletedSuccess => "tier3_completed_success",
        }
    }

    /// The tier of a state; `None` for what is not over.
    #[must_use]
    pub fn of(state: BuildState) -> Option<Self> {
        match state {
            BuildState::TransitiveFailure => Some(Self::TransitiveFailure),
            BuildState::Failure
            | BuildState::Unsatisfiable
            | BuildState::SchedulerDeath
            | BuildState::ProcessDeath
            | BuildState::Cancelled
            | BuildState::OutOfMemory
            | BuildState::TimedOut => Some(Self::CompletedFailure),
            BuildState::Success => Some(Self::CompletedSuccess),
            BuildState::Queued
            | BuildState::Buildable
            | BuildState::FailedRetry
            | BuildState::Building
            | BuildState::Blocked => None,
        }
    }
}

/// A slot's place in its tier.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Links {
    /// `None` outside of all tiers.
    tier: Option<Tier>,
    older: Option<u32>,
    newer: Option<u32>,
}

/// Slots by number.
pub(super) trait Linked {
    fn links(&mut self, at: u32) -> &mut Links;
}

/// The tiers.
#[derive(Debug, Default)]
pub(super) struct Order {
    tiers: [List; Tier::ALL.len()],
}

#[derive(Debug, Default)]
struct List {
    oldest: Option<u32>,
    newest: Option<u32>,
    len: usize,
}

impl Order {
    pub(super) fn len(&self, tier: Tier) -> usize {
        self.tiers[tier as usize].len
    }

    /// The one to go next.
    pub(super) fn first(&self) -> Option<(Tier, u32)> {
        Tier::ALL.into_iter().find_map(|tier| Some((tier, self.tiers[tier as usize].oldest?)))
    }

    /// Puts a slot that is in no tier into one, as its newest.
    pub(super) fn put(&mut self, slots: &mut impl Linked, at: u32, tier: Option<Tier>) {
        let Some(tier) = tier else { return };
        let list = &mut self.tiers[tier as usize];
        *slots.links(at) = Links { tier: Some(tier), older: list.newest, newer: None };
        match list.newest.replace(at) {
            Some(before) => slots.links(before).newer = Some(at),
            None => list.oldest = Some(at),
        }
        list.len += 1;
    }

    /// Takes a slot out of its tier, if it is in one.
    pub(super) fn take(&mut self, slots: &mut impl Linked, at: u32) -> Option<Tier> {
        let Links { tier, older, newer } = std::mem::take(slots.links(at));
        let list = &mut self.tiers[tier? as usize];
        match older {
            Some(older) => slots.links(older).newer = newer,
            None => list.oldest = newer,
        }
        match newer {
            Some(newer) => slots.links(newer).older = older,
            None => list.newest = older,
        }
        list.len -= 1;
        tier
    }

    /// Makes a slot the newest of its tier.
    pub(super) fn touch(&mut self, slots: &mut impl Linked, at: u32) {
        let tier = self.take(slots, at);
        self.put(slots, at, tier);
    }
}
