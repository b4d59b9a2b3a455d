//! The door to time. In: nothing. Out: the wall time for records and people, monotonic time for measuring and
//! waiting, and sleeps. A program is given one [`Clock`]; a test gives it a manual one and moves it by hand.
//! Nothing else in the workspace asks the system for the time or sleeps.

mod manual;
mod time;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use manual::ManualClock;
pub use time::{Time, TimeError, since};

/// A cheap handle on the system's clock or on a manual one.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    System { origin: Instant },
    Manual(Arc<manual::Shared>),
}

/// A point of monotonic time, counted from the start of its clock. It never goes back and says nothing
/// about the calendar; points of two clocks are not comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono {
    since_origin: Duration,
}

impl Mono {
    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.since_origin.saturating_sub(earlier.since_origin)
    }
}

impl std::ops::Add<Duration> for Mono {
    type Output = Self;

    /// Saturates at the end of time instead of panicking.
    fn add(self, rhs: Duration) -> Self {
        Self { since_origin: self.since_origin.saturating_add(rhs) }
    }
}

/// The future of [`Clock::timeout`] was not ready in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not done within {limit:?}")]
pub struct TimedOut {
    /// The limit that passed.
    pub limit: Duration,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Source::System { origin: Instant::now() } }
    }

    /// A clock that stands at `start` until the [`ManualClock`] moves it.
    #[must_use]
    pub fn manual(start: Time) -> (Self, ManualClock) {
        let shared = Arc::new(manual::Shared::new(start));
        (Self { source: Source::Manual(Arc::clone(&shared)) }, ManualClock::new(shared))
    }

    /// The wall time. It can jump both ways when somebody sets the system's clock: never subtract two of
    /// these to measure how long something took.
    #[must_use]
    pub fn now(&self) -> Time {
        match &self.source {
            Source::System { .. } => wall(),
            Source::Manual(shared) => shared.now(),
        }
    }

    /// The monotonic time.
    #[must_use]
    pub fn mono(&self) -> Mono {
        match &self.source {
            Source::System { origin } => Mono { since_origin: origin.elapsed() },
            Source::Manual(shared) => shared.mono(),
        }
    }

    /// Ends after `length` of monotonic time, counted from this call (not from the first poll).
    pub fn sleep(&self, length: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.sleep_until(self.mono() + length)
    }

    /// Ends once the monotonic time is `until`; at once when it is past.
    pub fn sleep_until(&self, until: Mono) -> impl Future<Output = ()> + Send + use<> {
        let clock = self.clone();
        async move {
            match &clock.source {
                Source::System { .. } => system_sleep(until.since(clock.mono())).await,
                Source::Manual(shared) => manual::Sleep::new(Arc::clone(shared), until).await,
            }
        }
    }

    /// Waits for `work`, at most `limit`.
    ///
    /// # Errors
    /// [`TimedOut`] when the limit passed first; `work` is dropped then.
    pub async fn timeout<F: Future>(&self, limit: Duration, work: F) -> Result<F::Output, TimedOut> {
        let sleep = self.sleep(limit);
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = sleep => Err(TimedOut { limit }),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock is the one place that asks the system for the time")]
fn wall() -> Time {
    let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Time::from_ms(millis(after)),
        Err(before) => Time::from_ms(millis(before.duration()).saturating_neg()),
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock is the one place that sleeps")]
async fn system_sleep(length: Duration) {
    tokio::time::sleep(length).await;
}
