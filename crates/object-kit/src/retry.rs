//! Repeating what may be repeated. In: the fault of an attempt. Out: a wait and another attempt, or the fault. Attempts
//! are few, waits grow and scatter, and a place that fails all the time gets no more repeats than its budget has.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use service_kit::backoff::{self, Rng};
use service_kit::clock::Clock;
use service_kit::http::Refused;

use crate::Line;
use crate::error::{Class, Fault};

/// How long is waited before an attempt is repeated. Waits grow up to three times from one to the next, and scatter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Shortest wait.
    pub min: Duration,
    /// The same where the place asks for patience ([`Class::Busy`]).
    pub busy_min: Duration,
    /// Longest wait, unless the place asks for a longer one. Below a shortest one it counts as that.
    pub max: Duration,
}

impl Default for Waits {
    /// 200 ms to 10 s.
    fn default() -> Self {
        let min = Duration::from_millis(200);
        Self { min, busy_min: min, max: Duration::from_secs(10) }
    }
}

/// Repeats a place gets on credit. When they are used up, faults are given back at once.
pub(crate) const RETRY_BUDGET: u32 = 40;
/// Requests that must succeed to earn one repeat.
const EARNED_BY: u32 = 10;

/// Who decides about repeats, one for a place.
#[derive(Debug)]
pub(crate) struct Retry {
    clock: Clock,
    attempts_max: u32,
    waits: Waits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In parts of a repeat: [`EARNED_BY`] of them are one.
    credit: u32,
    rng: Rng,
}

impl Retry {
    pub(crate) fn new(line: &Line) -> Self {
        let state = State { credit: RETRY_BUDGET * EARNED_BY, rng: Rng::from_entropy() };
        let Line { clock, attempts_max, waits, .. } = line;
        Self { clock: clock.clone(), attempts_max: *attempts_max, waits: *waits, state: Mutex::new(state) }
    }

    /// Before the first attempt at something.
    pub(crate) fn begin(&self) -> Attempts<'_> {
        Attempts { retry: self, made: 1, wait: Duration::ZERO }
    }

    fn spend(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.credit.checked_sub(EARNED_BY);
        state.credit = left.unwrap_or(state.credit);
        left.is_some()
    }

    fn wait(&self, before: Duration, class: Class) -> Duration {
        let Waits { min, busy_min, max } = self.waits;
        let min = if class == Class::Busy { busy_min } else { min };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        backoff::next(before, min, max, &mut state.rng)
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    retry: &'a Retry,
    made: u32,
    wait: Duration,
}

impl Attempts<'_> {
    /// An attempt worked: the place earns a part of a repeat.
    pub(crate) fn worked(self) {
        let mut state = self.retry.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.credit = (state.credit + 1).min(RETRY_BUDGET * EARNED_BY);
    }

    /// An attempt failed: waits when another may be made, else gives the fault back.
    pub(crate) async fn again(&mut self, fault: Fault) -> Result<(), Fault> {
        if !may_help(&fault) || self.made >= self.retry.attempts_max || !self.retry.spend() {
            return Err(fault);
        }
        self.made += 1;
        self.wait = self.retry.wait(self.wait, fault.class);
        let asked = Duration::from_secs(fault.wait_s.unwrap_or(0));
        self.retry.clock.sleep(self.wait.max(asked)).await;
        Ok(())
    }
}

/// Whether the same request may fare better a moment later.
fn may_help(fault: &Fault) -> bool {
    match fault.class {
        Class::Unreachable if fault.source.is::<Refused>() => false,
        Class::Unreachable | Class::Stuck | Class::Busy | Class::Server => true,
        Class::Credentials
        | Class::TooLarge
        | Class::LengthRequired
        | Class::NoConditions
        | Class::Refused
        | Class::Local
        | Class::Body => false,
    }
}

#[cfg(test)]
mod tests {
    use service_kit::clock::Time;
    use service_kit::http::Reach;

    use super::*;

    /// The shortest wait is the settings', and another one for a place that asks for patience.
    #[tokio::test]
    async fn waits_are_those_of_the_settings() {
        let s = Duration::from_secs;
        let waits = Waits { min: s(100), busy_min: s(1000), max: s(2000) };
        for (class, min, max) in [(Class::Server, 100, 300), (Class::Busy, 1000, 2000)] {
            let (clock, manual) = Clock::manual(Time::from_ms(0));
            let retry = Retry::new(&Line { waits, ..Line::new(clock.clone(), "test/0", Reach::Public) });
            let mut attempts = retry.begin();
            let again = attempts.again(Fault::new(class, "no"));
            tokio::pin!(again);
            loop {
                tokio::select! {
                    biased;
                    done = &mut again => break done.unwrap(),
                    () = manual.sleeping(1) => manual.step(s(1)),
                }
            }
            let waited = clock.now().as_ms() / 1000;
            assert!((min..=max).contains(&waited), "{class:?}: {waited} s");
        }
    }
}
