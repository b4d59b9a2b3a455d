//! Random choices that can be had again: a small generator which prints its seed when the test that uses it
//! fails. `EKA_TEST_SEED=…` makes a run repeat.

use std::hash::{BuildHasher, RandomState};

/// A splitmix64 generator. Good enough to choose with, of no use for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same choices for ever.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Any of the 2^64 numbers.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "below(0) has no answer");
        // The bias is bound / 2^64: nothing a test could see.
        self.next_u64() % bound
    }

    /// An index into something of `len` parts, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        let index = self.below(len as u64);
        usize::try_from(index).expect("an index below a usize is one")
    }

    /// True `of_hundred` times in a hundred.
    pub fn chance(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    /// One of `choices`, which is not empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.index(choices.len())]
    }
}

/// A generator for one test; see [`start`].
#[derive(Debug)]
pub struct Seeded {
    seed: u64,
    /// The generator.
    pub rng: Rng,
}

/// Starts from `EKA_TEST_SEED` when it is set, else from a seed no run had before.
///
/// # Panics
/// When `EKA_TEST_SEED` is not a number.
pub fn start() -> Seeded {
    let seed = match std::env::var("EKA_TEST_SEED") {
        Ok(text) => text.parse().expect("EKA_TEST_SEED is a decimal number of 64 bits"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    Seeded { seed, rng: Rng::new(seed) }
}

impl Drop for Seeded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat this run with EKA_TEST_SEED={}", self.seed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first outputs for the seed 1234567.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(rng.next_u64(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn every_choice_is_made_sometimes() {
        let mut rng = Rng::new(1);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[rng.index(5)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }
}
