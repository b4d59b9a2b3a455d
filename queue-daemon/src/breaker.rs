//! The circuit breaker of one destination.
//!
//! In flow the results of attempts; out flows whether a lane may start more. It tells a destination that is down
//! from a path that is poison: only failures of *different* deliveries in a row, or a destination that cannot be
//! reached, open it. While it is open one delivery a `probe` interval is tried, and no failure is held against a
//! path. Pure: the lane owns one and feeds it; it is not stored, so a restart probes at once.

use std::collections::HashSet;
use std::time::Duration;

use service_kit::clock::Time;

use crate::delivery::FaultClass;

/// The settings of a breaker (`breaker = { failures, probe }`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Failures in a row, of different deliveries, that open it; at least 1.
    pub failures: u32,
    /// The time between two probes while it is open.
    pub probe: Duration,
}

/// What a lane may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Lease as many as there are slots.
    Normal,
    /// Lease one, to see whether the destination is back.
    Probe,
    /// Nothing before this time.
    NotBefore(Time),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Closed { suspects: HashSet<i64>, unreachable: u32 },
    Open { probe_at: Time },
    Probing,
}

/// One destination's breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: closed() }
    }

    /// Whether the lane may start something at `now`. A `Probe` must be followed by `succeeded`, `failed` or
    /// `probe_unused`.
    pub fn permit(&mut self, now: Time) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Normal,
            State::Probing => Permit::NotBefore(now + self.config.probe),
            State::Open { probe_at } if probe_at > now && probe_at <= now + self.config.probe => {
                Permit::NotBefore(probe_at)
            }
            // Due; or the wall clock jumped back, which must not silence the probes.
            State::Open { .. } => {
                self.state = State::Probing;
                Permit::Probe
            }
        }
    }

    /// The probe found nothing to try: the next permit may probe again.
    pub fn probe_unused(&mut self, now: Time) {
        if self.state == State::Probing {
            self.state = State::Open { probe_at: now };
        }
    }

    /// An attempt succeeded: whatever was in doubt, the destination works. True if this closed it.
    pub fn succeeded(&mut self) -> bool {
        let was_open = self.is_open();
        self.state = closed();
        was_open
    }

    /// An attempt of `delivery` failed. True if this opened it.
    pub fn failed(&mut self, delivery: i64, class: FaultClass, now: Time) -> bool {
        match &mut self.state {
            State::Closed { suspects, unreachable } => {
                match class {
                    FaultClass::Unreachable => *unreachable += 1,
                    FaultClass::Stuck | FaultClass::Failed => {
                        suspects.insert(delivery);
                    }
                    // The destination answered, and meant this path; or it was not asked.
                    FaultClass::Refused | FaultClass::Corrupt | FaultClass::Local => {}
                }
                let failures = u32::try_from(suspects.len()).unwrap_or(u32::MAX).saturating_add(*unreachable);
                if failures < self.config.failures {
                    return false;
                }
                self.state = State::Open { probe_at: now + self.config.probe };
                true
            }
            State::Open { .. } => false,
            // It answered: what it will never take is the path's matter.
            State::Probing if class == FaultClass::Refused => {
                self.state = closed();
                false
            }
            // It was not asked: the next permit may probe again.
            State::Probing if matches!(class, FaultClass::Corrupt | FaultClass::Local) => {
                self.state = State::Open { probe_at: now };
                false
            }
            State::Probing => {
                self.state = State::Open { probe_at: now + self.config.probe };
                false
            }
        }
    }

    /// True while the destination is in doubt; failures are then not held against paths.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// The word for status and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::Probing => "half-open",
        }
    }
}

fn closed() -> State {
    State::Closed { suspects: HashSet::new(), unreachable: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig { failures: 3, probe: Duration::from_secs(60) })
    }

    fn at(seconds: i64) -> Time {
        Time::from_ms(seconds * 1_000)
    }

    #[test]
    fn one_poison_path_never_opens_it() {
        let mut breaker = breaker();
        for second in 0..1_000 {
            assert!(!breaker.failed(1, FaultClass::Failed, at(second)));
            assert_eq!(breaker.permit(at(second)), Permit::Normal);
        }
    }

    #[test]
    fn a_destination_that_is_down_gets_one_probe_a_minute() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failed(1, FaultClass::Unreachable, at(0));
        }
        assert!(breaker.is_open());
        let mut probes = 0;
        for second in 0..3_600 {
            if breaker.permit(at(second)) == Permit::Probe {
                probes += 1;
                breaker.failed(1, FaultClass::Unreachable, at(second));
            }
        }
        assert_eq!(probes, 59);
        assert_eq!(breaker.permit(at(3_600)), Permit::Probe);
        assert!(breaker.succeeded());
        assert_eq!(breaker.permit(at(3_600)), Permit::Normal);
    }

    #[test]
    fn different_paths_failing_in_a_row_open_it_and_a_success_between_does_not() {
        let mut breaker = breaker();
        for delivery in 0..2 {
            assert!(!breaker.failed(delivery, FaultClass::Failed, at(0)));
        }
        breaker.succeeded();
        for delivery in 0..2 {
            assert!(!breaker.failed(delivery, FaultClass::Failed, at(0)));
        }
        assert!(breaker.failed(2, FaultClass::Failed, at(0)));
    }

    #[test]
    fn paths_that_cannot_be_read_here_neither_open_it_nor_answer_a_probe() {
        let mut breaker = breaker();
        for delivery in 0..10 {
            assert!(!breaker.failed(delivery, FaultClass::Local, at(0)));
        }
        for _ in 0..3 {
            breaker.failed(1, FaultClass::Unreachable, at(0));
        }
        assert_eq!(breaker.permit(at(60)), Permit::Probe);
        breaker.failed(2, FaultClass::Local, at(60));
        assert!(breaker.is_open());
        assert_eq!(breaker.permit(at(60)), Permit::Probe, "the destination was not asked");
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_silence_the_probes() {
        let mut breaker = breaker();
        for _ in 0..3 {
            breaker.failed(1, FaultClass::Unreachable, at(1_000_000));
        }
        assert_eq!(breaker.permit(at(10)), Permit::Probe);
    }
}
