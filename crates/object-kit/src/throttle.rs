//! A limit on bytes per second. In: how many bytes are about to leave. Out: a wait, so that over any time no more
//! leave than the rate allows plus one burst. Several callers share one throttle fairly, first come first served.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use service_kit::clock::{Clock, Mono};

/// A shared limit.
#[derive(Debug)]
pub struct Throttle {
    clock: Clock,
    /// Bytes per second, at least 1.
    rate: u64,
    burst: Duration,
    /// When all that was let through will have been paid for.
    paid: Mutex<Mono>,
}

impl Throttle {
    /// At most `rate` bytes per second (0 counts as 1), and up to `burst` bytes at once after a rest.
    #[must_use]
    pub fn new(clock: Clock, rate: u64, burst: u64) -> Self {
        let rate = rate.max(1);
        let paid = Mutex::new(clock.mono());
        Self { clock, rate, burst: cost(burst, rate), paid }
    }

    /// Waits until `bytes` more may leave, and counts them. A wait that is given up stays counted.
    pub async fn take(&self, bytes: u64) {
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.mono();
            // Time before now that nobody used is worth no more than a burst, which is given below.
            let from = (*paid).max(now);
            *paid = from + cost(bytes, self.rate);
            *paid
        };
        let over = until.since(self.clock.mono() + self.burst);
        if !over.is_zero() {
            self.clock.sleep(over).await;
        }
    }
}

fn cost(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
