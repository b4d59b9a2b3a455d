//! The memory and the evaluators that all evaluations of this machine share. Who needs an evaluator comes in, a permit
//! goes out when it is its turn: to the evaluation that has the fewest, round and round. Whoever has held one for a while
//! and has as many as others, or more, is asked for it when somebody waits who has none: an evaluation can be
//! interrupted between any two attributes. So a huge one does not hold up a small one. What an evaluator does is not said
//! here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service_kit::clock::Clock;
use tokio::sync::oneshot;

mod turns;

use turns::{Member, PermitId, Ticket, Turns};

/// How long a permit is left to who holds it, whoever waits. What all attributes need in common is evaluated again by
/// each evaluator, which takes a second or two of a large set.
pub const SLICE: Duration = Duration::from_secs(10);

/// What this machine gives to evaluations.
#[derive(Clone)]
pub struct Share {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    turns: Turns,
    waiting: BTreeMap<Ticket, oneshot::Sender<Permit>>,
    asked_back: BTreeMap<PermitId, Arc<AtomicBool>>,
}

/// An evaluation among others. It leaves when this is dropped.
pub struct Place {
    inner: Arc<Inner>,
    member: Member,
}

/// The right to run one evaluator, as long as this lives.
pub struct Permit {
    inner: Arc<Inner>,
    id: PermitId,
    asked_back: Arc<AtomicBool>,
}

/// More is asked for than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an evaluator of {asked} bytes does not fit into the {total} bytes that evaluations have; give it less, or them more"
)]
pub struct NeverFits {
    /// By one evaluator.
    pub asked: u64,
    /// For all.
    pub total: u64,
}

impl Share {
    /// So many evaluators with so much memory, in bytes, for all evaluations together.
    #[must_use]
    pub fn new(workers: usize, memory_bytes: u64, clock: Clock) -> Self {
        let turns = Turns::new(workers.max(1), memory_bytes);
        let state = State { turns, waiting: BTreeMap::new(), asked_back: BTreeMap::new() };
        Self { inner: Arc::new(Inner { clock, state: Mutex::new(state) }) }
    }

    /// Another evaluation.
    #[must_use]
    pub fn join(&self) -> Place {
        let member = self.inner.lock().turns.join();
        Place { inner: Arc::clone(&self.inner), member }
    }
}

impl Place {
    /// Waits for the turn of this evaluation to run an evaluator that may hold `memory_bytes`.
    ///
    /// # Errors
    /// [`NeverFits`]
    pub async fn permit(&self, memory_bytes: u64) -> Result<Permit, NeverFits> {
        let (sender, mut granted) = oneshot::channel();
        let ticket = {
            let mut state = self.inner.lock();
            let ticket = state.turns.ask(self.member, memory_bytes)?;
            state.waiting.insert(ticket, sender);
            ticket
        };
        let waiting = Waiting { inner: &self.inner, ticket };
        loop {
            let again = self.inner.go_round();
            let pause = async {
                match again {
                    Some(pause) => self.inner.clock.sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                permit = &mut granted => {
                    drop(waiting);
                    // The sender is kept until it is used or the ticket is given up, which only we do.
                    return permit.map_err(|_| NeverFits { asked: memory_bytes, total: 0 });
                }
                () = pause => {}
            }
        }
    }
}

/// Gives a ticket up when nobody waits with it any more.
struct Waiting<'a> {
    inner: &'a Arc<Inner>,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.turns.give_up(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants what can be granted and asks back what should be. Says when to look again, if nothing happens before.
    fn go_round(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock.mono();
        let mut granted = Vec::new();
        let again = {
            let mut state = self.lock();
            for (ticket, id) in state.turns.grant(now) {
                let asked_back = Arc::new(AtomicBool::new(false));
                state.asked_back.insert(id, Arc::clone(&asked_back));
                let permit = Permit { inner: Arc::clone(self), id, asked_back };
                granted.push((state.waiting.remove(&ticket), permit));
            }
            for id in state.turns.ask_back(now, SLICE) {
                if let Some(asked) = state.asked_back.get(&id) {
                    asked.store(true, Ordering::Relaxed);
                }
            }
            state.turns.look_again(now, SLICE)
        };
        // Not while the lock is held: a permit that nobody takes comes back at once.
        for (waiter, permit) in granted {
            if let Some(waiter) = waiter {
                let _ = waiter.send(permit); // whoever gave up meanwhile drops it, and it goes to another
            }
        }
        again
    }
}

impl Permit {
    /// Does somebody else wait for it? Then it is given back between two attributes.
    #[must_use]
    pub fn is_asked_back(&self) -> bool {
        self.asked_back.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.inner.lock();
            state.turns.give_back(self.id);
            state.asked_back.remove(&self.id);
        }
        self.inner.go_round();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.lock().turns.leave(self.member);
    }
}
