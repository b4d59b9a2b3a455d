//! Samples come in, the few numbers a report needs go out.

use std::time::Duration;

/// Durations of one figure, in the order they were taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, more: Samples) {
        self.0.extend(more.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which half of them lie; 0 when there is none.
    pub(crate) fn median_ms(&self) -> f64 {
        self.percentile_ms(50)
    }

    /// The smallest sample that at least `percent` of all do not exceed; 0 when there is none.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).map_or(0.0, |sample| ms(*sample))
    }

    /// The smallest; 0 when there is none.
    pub(crate) fn least(&self) -> Duration {
        self.0.iter().min().copied().unwrap_or_default()
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.percentile_ms(100)
    }
}

/// The middle one of a few rates; the lower middle of an even number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Milliseconds with their fraction.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: impl IntoIterator<Item = u64>) -> Samples {
        Samples(millis.into_iter().map(Duration::from_millis).collect())
    }

    fn near(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn percentiles_are_samples_that_were_taken() {
        let hundred = samples((1..=100).rev());
        assert!(near(hundred.median_ms(), 50.0));
        assert!(near(hundred.percentile_ms(99), 99.0));
        assert!(near(hundred.max_ms(), 100.0));
        assert!(near(samples([7]).percentile_ms(1), 7.0));
        assert!(near(samples([]).max_ms(), 0.0));
    }

    #[test]
    fn the_median_of_rates_is_one_of_them() {
        assert!(near(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(near(median(&[4.0, 1.0, 2.0, 3.0]), 2.0));
        assert!(near(median(&[]), 0.0));
    }
}
