//! How long to wait before the next attempt. In: the wait before this one, the bounds, a random source.
//! Out: the next wait (decorrelated jitter). Leaves out sleeping, and counting attempts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The wait after `prev`: evenly spread between `min` and three times `prev`, never outside `min..=max`.
/// The first call gives `prev = min`. A `max` below `min` counts as `min`.
#[must_use]
pub fn next(prev: Duration, min: Duration, max: Duration, rng: &mut Rng) -> Duration {
    let max = max.max(min);
    let top = prev.max(min).saturating_mul(3).min(max);
    let spread = nanos(top.saturating_sub(min));
    min.saturating_add(Duration::from_nanos(rng.below(spread.saturating_add(1)))).min(max)
}

/// Nanoseconds of a duration; what exceeds 584 years is that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A small seeded random source (splitmix64): repeatable, fast, and no use for secrets.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Seeded by the operating system's randomness: two processes differ.
    #[must_use]
    pub fn from_entropy() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half of a 128-bit product has 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::{Rng, next};
    use proptest::prelude::{any, prop_assert, proptest};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_generator_is_splitmix64() {
        let mut rng = Rng::seeded(1_234_567);
        let got: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn waits_grow_to_the_maximum_and_scatter() {
        let (min, max) = (SECOND, 900 * SECOND);
        let mut rng = Rng::seeded(7);
        let mut wait = min;
        let waits: Vec<Duration> = (0..200)
            .map(|_| {
                wait = next(wait, min, max, &mut rng);
                wait
            })
            .collect();
        assert!(waits.iter().any(|w| *w > 300 * SECOND), "never grew: {waits:?}");
        let mut distinct = waits.clone();
        distinct.dedup();
        assert!(distinct.len() > 150, "waits repeat: {waits:?}");
        assert!(waits[0] <= 3 * SECOND);
    }

    proptest! {
        #[test]
        fn a_wait_keeps_its_bounds(prev in any::<u64>(), min in any::<u64>(), max in any::<u64>(), seed in any::<u64>()) {
            let (prev, min, max) = (Duration::from_nanos(prev), Duration::from_nanos(min), Duration::from_nanos(max));
            let wait = next(prev, min, max, &mut Rng::seeded(seed));
            prop_assert!(wait >= min && wait <= max.max(min), "{wait:?} outside {min:?}..={max:?}");
        }

        #[test]
        fn below_stays_below(bound in 1..u64::MAX, seed in any::<u64>()) {
            prop_assert!(Rng::seeded(seed).below(bound) < bound);
        }
    }
}
