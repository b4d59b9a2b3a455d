//! The clock that tests move. In: `advance`. Out: sleepers woken in the order of their deadlines, each seeing
//! the time it asked for. Leaves out other threads: for those, wait with [`ManualClock::sleeping`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Mono, Time};

/// How often [`ManualClock::advance`] lets the other tasks of its runtime run before it moves on: the
/// longest chain of tasks waking each other that still settles by itself.
const SETTLE_ROUNDS: usize = 64;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told whenever a sleeper comes or goes.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    wall: Time,
    mono: Mono,
    next_id: u64,
    sleepers: BTreeMap<(Mono, u64), Waker>,
}

impl Shared {
    pub(super) fn new(start: Time) -> Self {
        let state = State { wall: start, mono: Mono::default(), next_id: 0, sleepers: BTreeMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    pub(super) fn now(&self) -> Time {
        self.state().wall
    }

    pub(super) fn mono(&self) -> Mono {
        self.state().mono
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the time to `to` and wakes who is due.
    fn move_to(&self, to: Mono) {
        let due: Vec<Waker> = {
            let mut state = self.state();
            state.wall = state.wall + to.since(state.mono);
            state.mono = to.max(state.mono);
            let later = state.sleepers.split_off(&(to, u64::MAX));
            std::mem::replace(&mut state.sleepers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
        self.changed.notify_waiters();
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.state().sleepers.keys().next().map(|(deadline, _)| *deadline)
    }
}

/// Moves the [`Clock`](super::Clock) it was made with.
#[derive(Debug)]
pub struct ManualClock {
    shared: Arc<Shared>,
}

impl ManualClock {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Moves both times on by `length`, stopping at every sleeper's deadline on the way, so that a task that
    /// sleeps one second in a loop runs ten times in ten seconds. Before the first step and after each it
    /// lets the other tasks run until they have settled: on a `current_thread` runtime the outcome is always
    /// the same, as long as no task waits for another thread.
    pub async fn advance(&self, length: Duration) {
        settle().await;
        let target = self.shared.mono() + length;
        while let Some(deadline) = self.shared.next_deadline().filter(|d| *d <= target) {
            self.shared.move_to(deadline);
            settle().await;
        }
        self.shared.move_to(target);
        settle().await;
    }

    /// Moves both times on by `length` in one step and wakes who is due, without letting anyone run.
    pub fn step(&self, length: Duration) {
        self.shared.move_to(self.shared.mono() + length);
    }

    /// Sets the wall time alone, as an operator or a time server does; it may go back.
    pub fn set_wall(&self, wall: Time) {
        self.shared.state().wall = wall;
    }

    /// Waits until at least `count` sleeps are waiting, whichever thread polls them.
    pub async fn sleeping(&self, count: usize) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.sleepers() >= count {
                return;
            }
            changed.await;
        }
    }

    /// How long until the first of the sleeps that wait now is over; none when none waits.
    #[must_use]
    pub fn first_due(&self) -> Option<Duration> {
        self.shared.next_deadline().map(|due| due.since(self.shared.mono()))
    }

    /// How many sleeps wait now.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.shared.state().sleepers.len()
    }
}

async fn settle() {
    for _ in 0..SETTLE_ROUNDS {
        tokio::task::yield_now().await;
    }
}

/// One waiting sleep; leaves the list when it is dropped.
#[derive(Debug)]
pub(super) struct Sleep {
    shared: Arc<Shared>,
    until: Mono,
    id: Option<u64>,
}

impl Sleep {
    pub(super) fn new(shared: Arc<Shared>, until: Mono) -> Self {
        Self { shared, until, id: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        if state.mono >= self.until {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            state.next_id += 1;
            state.next_id
        });
        state.sleepers.insert((self.until, id), cx.waker().clone());
        drop(state);
        shared.changed.notify_waiters();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.state().sleepers.remove(&(self.until, id));
            self.shared.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Clock;
    use super::*;
    use std::sync::mpsc;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Time = Time::from_ms(1_000_000);

    #[tokio::test]
    async fn a_loop_of_sleeps_runs_once_for_each_period_passed() {
        let (clock, manual) = Clock::manual(START);
        let (tx, seen) = mpsc::channel();
        let looper = tokio::spawn(async move {
            loop {
                clock.sleep(SECOND).await;
                tx.send(clock.now().as_ms()).unwrap();
            }
        });
        manual.advance(3 * SECOND + SECOND / 2).await;
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1_001_000, 1_002_000, 1_003_000]);
        manual.advance(SECOND / 2).await;
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1_004_000]);
        looper.abort();
    }

    #[tokio::test]
    async fn the_first_sleep_that_is_over_is_told() {
        let (clock, manual) = Clock::manual(START);
        assert_eq!(manual.first_due(), None);
        let long = tokio::spawn(clock.sleep(3 * SECOND));
        let short = tokio::spawn(clock.sleep(SECOND));
        manual.sleeping(2).await;
        assert_eq!(manual.first_due(), Some(SECOND));
        manual.step(SECOND);
        short.await.unwrap();
        assert_eq!(manual.first_due(), Some(2 * SECOND));
        long.abort();
    }

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_deadlines() {
        let (clock, manual) = Clock::manual(START);
        let (tx, seen) = mpsc::channel();
        for seconds in [3u32, 1, 2] {
            let (clock, tx) = (clock.clone(), tx.clone());
            tokio::spawn(async move {
                clock.sleep(seconds * SECOND).await;
                tx.send(seconds).unwrap();
            });
        }
        manual.advance(10 * SECOND).await;
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(manual.sleepers(), 0);
    }

    #[tokio::test]
    async fn a_jump_of_the_wall_moves_no_sleeper_and_no_measure() {
        let (clock, manual) = Clock::manual(START);
        let begun = clock.mono();
        let sleep = clock.sleep(SECOND);
        tokio::pin!(sleep);
        manual.set_wall(Time::from_ms(0));
        assert_eq!(clock.now(), Time::from_ms(0));
        assert_eq!(
            clock.timeout(Duration::ZERO, &mut sleep).await,
            Err(super::super::TimedOut { limit: Duration::ZERO })
        );
        manual.step(SECOND);
        sleep.await;
        assert_eq!(clock.mono().since(begun), SECOND);
    }

    #[tokio::test]
    async fn a_timeout_drops_what_was_late_and_keeps_what_was_not() {
        let (clock, manual) = Clock::manual(START);
        assert_eq!(clock.timeout(SECOND, std::future::ready(7)).await, Ok(7));
        let late = tokio::spawn({
            let clock = clock.clone();
            async move { clock.timeout(SECOND, std::future::pending::<()>()).await }
        });
        manual.advance(SECOND).await;
        assert!(late.await.unwrap().is_err());
        assert_eq!(manual.sleepers(), 0);
    }

    #[test]
    fn another_threads_sleeper_is_waited_for() {
        let (clock, manual) = Clock::manual(START);
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sleeper = std::thread::spawn(move || runtime().block_on(clock.sleep(60 * SECOND)));
        runtime().block_on(async {
            manual.sleeping(1).await;
            manual.advance(60 * SECOND).await;
        });
        sleeper.join().unwrap();
    }

    #[tokio::test]
    async fn a_dropped_sleep_leaves_nothing_behind() {
        let (clock, manual) = Clock::manual(START);
        let mut sleep = Box::pin(clock.sleep(SECOND));
        assert!(clock.timeout(Duration::ZERO, &mut sleep).await.is_err());
        assert_eq!(manual.sleepers(), 1);
        drop(sleep);
        assert_eq!(manual.sleepers(), 0);
    }

    #[tokio::test]
    async fn the_system_clock_sleeps_at_least_as_long_as_asked() {
        let clock = Clock::system();
        let (begun, wall) = (clock.mono(), clock.now());
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.mono().since(begun) >= Duration::from_millis(5));
        assert!(wall > "2020-01-01".parse().unwrap(), "wall clock reads {wall}");
    }
}
