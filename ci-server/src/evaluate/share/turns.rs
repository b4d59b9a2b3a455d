//! Whose turn it is. Members, what they ask for and the time come in; who gets a permit, and who is asked for one, goes
//! out. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use service_kit::clock::Mono;

use super::NeverFits;

/// How often one that does not fit yet may be passed by others before all wait for it.
const PASSED_MAX: u32 = 8;

/// An evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member(u64);
/// Somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);
/// Somebody who was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PermitId(u64);

#[derive(Debug)]
struct Wait {
    member: Member,
    bytes: u64,
    passed: u32,
}

#[derive(Debug)]
struct Held {
    member: Member,
    bytes: u64,
    since: Mono,
    asked_back: bool,
}

/// Everybody's turns.
#[derive(Debug)]
pub(super) struct Turns {
    workers: usize,
    bytes_total: u64,
    next: u64,
    /// When each had its last turn, in turns.
    members: BTreeMap<Member, u64>,
    turn: u64,
    waiting: BTreeMap<Ticket, Wait>,
    held: BTreeMap<PermitId, Held>,
}

impl Turns {
    pub(super) fn new(workers: usize, bytes_total: u64) -> Self {
        Self {
            workers,
            bytes_total,
            next: 0,
            members: BTreeMap::new(),
            turn: 0,
            waiting: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn join(&mut self) -> Member {
        let member = Member(self.number());
        self.members.insert(member, 0);
        member
    }

    pub(super) fn leave(&mut self, member: Member) {
        self.members.remove(&member);
        self.waiting.retain(|_, wait| wait.member != member);
    }

    pub(super) fn ask(&mut self, member: Member, bytes: u64) -> Result<Ticket, NeverFits> {
        if bytes > self.bytes_total {
            return Err(NeverFits { asked: bytes, total: self.bytes_total });
        }
        let ticket = Ticket(self.number());
        self.waiting.insert(ticket, Wait { member, bytes, passed: 0 });
        Ok(ticket)
    }

    pub(super) fn give_up(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    pub(super) fn give_back(&mut self, permit: PermitId) {
        self.held.remove(&permit);
    }

    fn holds(&self, member: Member) -> usize {
        self.held.values().filter(|held| held.member == member).count()
    }

    fn bytes_free(&self) -> u64 {
        self.bytes_total.saturating_sub(self.held.values().map(|held| held.bytes).sum())
    }

    /// Those who wait, in the order of their turns.
    fn order(&self) -> Vec<Ticket> {
        let mut order: Vec<_> = self
            .waiting
            .iter()
            .map(|(ticket, wait)| {
                let last = self.members.get(&wait.member).copied().unwrap_or(0);
                (self.holds(wait.member), last, *ticket)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, ticket)| ticket).collect()
    }

    /// Lets in whoever can be.
    pub(super) fn grant(&mut self, now: Mono) -> Vec<(Ticket, PermitId)> {
        let mut granted = Vec::new();
        while self.held.len() < self.workers {
            let (order, free) = (self.order(), self.bytes_free());
            let Some(at) = order.iter().position(|ticket| self.waiting[ticket].bytes <= free) else { break };
            // One that was passed by often enough is waited for.
            if order[..at].iter().any(|ticket| self.waiting[ticket].passed >= PASSED_MAX) {
                break;
            }
            for ticket in &order[..at] {
                if let Some(wait) = self.waiting.get_mut(ticket) {
                    wait.passed += 1;
                }
            }
            let Some(wait) = self.waiting.remove(&order[at]) else { break };
            let permit = PermitId(self.number());
            self.turn += 1;
            self.members.insert(wait.member, self.turn);
            self.held.insert(
                permit,
                Held { member: wait.member, bytes: wait.bytes, since: now, asked_back: false },
            );
            granted.push((order[at], permit));
        }
        granted
    }

    /// Whom to ask for a permit: for each who waits and holds none, whoever holds most, and of those the one who has held
    /// it longest, if that is longer than `slice`.
    pub(super) fn ask_back(&mut self, now: Mono, slice: Duration) -> Vec<PermitId> {
        let mut asked = self.held.values().filter(|held| held.asked_back).count();
        let mut found = Vec::new();
        while asked < self.needy() {
            let candidate =
                self.held.iter().filter(|(_, held)| !held.asked_back && now.since(held.since) >= slice);
            let most = candidate.max_by_key(|(_, held)| (self.holds(held.member), now.since(held.since)));
            let Some(id) = most.map(|(id, _)| *id) else { break };
            if let Some(held) = self.held.get_mut(&id) {
                held.asked_back = true;
            }
            found.push(id);
            asked += 1;
        }
        found
    }

    /// How many wait and hold none.
    fn needy(&self) -> usize {
        let mut members: Vec<_> = self.waiting.values().map(|wait| wait.member).collect();
        members.sort_unstable();
        members.dedup();
        members.into_iter().filter(|member| self.holds(*member) == 0).count()
    }

    /// When somebody's slice is over for whom others wait.
    pub(super) fn look_again(&self, now: Mono, slice: Duration) -> Option<Duration> {
        if self.needy() == 0 {
            return None;
        }
        let left = self
            .held
            .values()
            .filter(|held| !held.asked_back)
            .map(|held| slice.saturating_sub(now.since(held.since)));
        left.filter(|left| !left.is_zero()).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLICE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_small_one_has_its_turn_beside_a_huge_one() {
        let mut turns = Turns::new(2, 100);
        let (huge, small) = (turns.join(), turns.join());
        let tickets: Vec<_> = (0..5).map(|_| turns.ask(huge, 50).unwrap()).collect();
        let got = turns.grant(at(0));
        assert_eq!(got.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets[..2]);
        let ticket = turns.ask(small, 10).unwrap();
        assert!(turns.grant(at(1)).is_empty());
        assert!(turns.ask_back(at(1), SLICE).is_empty());
        assert_eq!(turns.look_again(at(1), SLICE), Some(Duration::from_secs(9)));
        let asked = turns.ask_back(at(10), SLICE);
        assert_eq!(asked.len(), 1);
        assert!(turns.ask_back(at(11), SLICE).is_empty(), "one is enough for one");
        turns.give_back(asked[0]);
        assert_eq!(turns.grant(at(11)).iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), [ticket]);
        assert!(turns.ask_back(at(100), SLICE).is_empty(), "nobody who waits has none");
    }

    #[test]
    fn what_does_not_fit_is_passed_by_but_not_for_ever() {
        let mut turns = Turns::new(4, 100);
        let (big, small) = (turns.join(), turns.join());
        turns.ask(small, 30).unwrap();
        let (_, mut last) = turns.grant(at(0))[0];
        let waits = turns.ask(big, 100).unwrap();
        let mut passed = 0;
        loop {
            turns.ask(small, 30).unwrap();
            let got = turns.grant(at(0));
            turns.give_back(last);
            let Some((_, id)) = got.first() else { break };
            (last, passed) = (*id, passed + 1);
            assert!(passed < 100, "it waits for ever");
        }
        assert!(turns.grant(at(0)).iter().any(|(ticket, _)| *ticket == waits), "{turns:?}");
        assert_eq!(turns.ask(big, 101), Err(NeverFits { asked: 101, total: 100 }));
    }

    #[derive(Clone, Debug)]
    enum Act {
        Ask(usize, u64),
        GiveBack(usize),
        GiveUp(usize),
        Pass(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0..4_usize, 1..=100_u64).prop_map(|(member, bytes)| Act::Ask(member, bytes)),
            (0..8_usize).prop_map(Act::GiveBack),
            (0..8_usize).prop_map(Act::GiveUp),
            (0..20_u64).prop_map(Act::Pass),
        ];
        prop::collection::vec(act, 0..80)
    }

    proptest! {
        /// Never more than there is, and whoever waits is let in once the others have gone.
        #[test]
        fn nobody_gets_too_much_and_nobody_is_forgotten(acts in acts()) {
            let mut turns = Turns::new(3, 100);
            let members: Vec<_> = (0..4).map(|_| turns.join()).collect();
            let (mut held, mut waiting, mut now) = (Vec::new(), Vec::new(), 0);
            for act in acts {
                match act {
                    Act::Ask(member, bytes) => waiting.push(turns.ask(members[member], bytes).unwrap()),
                    Act::GiveBack(at) if at < held.len() => turns.give_back(held.swap_remove(at)),
                    Act::GiveUp(at) if at < waiting.len() => turns.give_up(waiting.swap_remove(at)),
                    Act::GiveBack(_) | Act::GiveUp(_) => {}
                    Act::Pass(seconds) => now += seconds,
                }
                for (ticket, permit) in turns.grant(at(now)) {
                    waiting.retain(|other| *other != ticket);
                    held.push(permit);
                }
                let asked = turns.ask_back(at(now), SLICE);
                prop_assert!(asked.iter().all(|id| held.contains(id)));
                prop_assert!(turns.held.len() <= 3);
                prop_assert!(turns.held.values().map(|held| held.bytes).sum::<u64>() <= 100);
                prop_assert_eq!(turns.held.len(), held.len());
            }
            while let Some(permit) = held.pop() {
                turns.give_back(permit);
                for (ticket, permit) in turns.grant(at(now)) {
                    waiting.retain(|other| *other != ticket);
                    held.push(permit);
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}
