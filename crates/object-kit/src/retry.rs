//! Repeating what may be repeated. In: the fault of an attempt. Out: a wait and another attempt, or the fault. Attempts
//! are few, waits grow and scatter, and a place that fails all the time gets no more repeats than its budget has.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use service_kit::backoff::{self, Rng};
use service_kit::clock::Clock;

use crate::error::{Class, Fault};

/// Shortest wait before an attempt is repeated.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Repeats a place gets on credit. When they are used up, faults are given back at once.
pub(crate) const RETRY_BUDGET: u32 = 40;
/// Requests that must succeed to earn one repeat.
const EARNED_BY: u32 = 10;

/// Who decides about repeats, one for a place.
#[derive(Debug)]
pub(crate) struct Retry {
    clock: Clock,
    attempts_max: u32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// In parts of a repeat: [`EARNED_BY`] of them are one.
    credit: u32,
    rng: Rng,
}

impl Retry {
    pub(crate) fn new(clock: &Clock, attempts_max: u32) -> Self {
        let state = State { credit: RETRY_BUDGET * EARNED_BY, rng: Rng::from_entropy() };
        Self { clock: clock.clone(), attempts_max, state: Mutex::new(state) }
    }

    /// Before the first attempt at something.
    pub(crate) fn begin(&self) -> Attempts<'_> {
        Attempts { retry: self, made: 1, wait: BACKOFF_MIN }
    }

    fn spend(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.credit.checked_sub(EARNED_BY);
        state.credit = left.unwrap_or(state.credit);
        left.is_some()
    }

    fn wait(&self, before: Duration) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        backoff::next(before, BACKOFF_MIN, BACKOFF_MAX, &mut state.rng)
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
        if !may_help(fault.class) || self.made >= self.retry.attempts_max || !self.retry.spend() {
            return Err(fault);
        }
        self.made += 1;
        self.wait = self.retry.wait(self.wait);
        let asked = Duration::from_secs(fault.wait_s.unwrap_or(0));
        self.retry.clock.sleep(self.wait.max(asked)).await;
        Ok(())
    }
}

/// Whether the same request may fare better a moment later.
fn may_help(class: Class) -> bool {
    match class {
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
