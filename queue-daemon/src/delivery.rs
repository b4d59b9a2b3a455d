//! The delivery machine: one store path on its way to one destination.
//!
//! In flow a delivery's state, an event and the policy of its destination; out flow the next state and what the
//! rest of the daemon must do about it. `step` owns every transition: a pair it does not list is an
//! `IllegalStep`, and a result that carries an old lease token is refused. No clock, no database, no IO; the
//! caller stores the state in the same transaction that consumed the event.

use std::time::Duration;

use service_kit::backoff;
use service_kit::backoff::Rng;
use service_kit::clock::Time;

/// Names one lease of one delivery. It grows with every lease, so a late result of an earlier one is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken(pub u64);

/// Where a delivery stands. Each state carries exactly what is true in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Ready to be leased.
    Queued,
    /// A lane has taken it; nothing has been sent.
    Leased(LeaseToken),
    /// Bytes are on their way.
    Pushing(LeaseToken),
    /// Sent; the destination is being asked whether it has it.
    Verifying(LeaseToken),
    /// A passing error; not before `until`.
    Waiting {
        /// When it may be tried again.
        until: Time,
    },
    /// Delivered and verified.
    Done {
        /// What proves it: how it was verified, as one JSON object.
        receipt: String,
    },
    /// Given up; kept until somebody retries or drops it, or `keep_dead` passes.
    Dead {
        /// Why, for people.
        why: String,
    },
    /// The path is no longer in the store, so it can never be delivered.
    Gone,
}

/// The state's name alone, as it is stored, listed and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// See [`State::Queued`].
    Queued = 0,
    /// See [`State::Leased`].
    Leased = 1,
    /// See [`State::Pushing`].
    Pushing = 2,
    /// See [`State::Verifying`].
    Verifying = 3,
    /// See [`State::Waiting`].
    Waiting = 4,
    /// See [`State::Done`].
    Done = 10,
    /// See [`State::Dead`].
    Dead = 11,
    /// See [`State::Gone`].
    Gone = 12,
}

impl StateName {
    /// Every state, in the order a delivery passes through them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Leased,
        Self::Pushing,
        Self::Verifying,
        Self::Waiting,
        Self::Done,
        Self::Dead,
        Self::Gone,
    ];

    /// The stored code.
    #[must_use]
    pub fn code(self) -> i64 {
        self as i64
    }

    /// The state of a stored code; `None` for one this version does not know.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.code() == code)
    }

    /// The word that people and JSON see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Pushing => "pushing",
            Self::Verifying => "verifying",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Gone => "gone",
        }
    }

    /// The state of a word; `None` for an unknown one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == word)
    }

    /// True while the daemon still owes this delivery something.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Pushing | Self::Verifying | Self::Waiting => true,
            Self::Done | Self::Dead | Self::Gone => false,
        }
    }

    /// True while a lane holds it.
    #[must_use]
    pub fn is_in_flight(self) -> bool {
        matches!(self, Self::Leased | Self::Pushing | Self::Verifying)
    }
}

impl State {
    /// The name of this state.
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::Queued => StateName::Queued,
            Self::Leased(_) => StateName::Leased,
            Self::Pushing(_) => StateName::Pushing,
            Self::Verifying(_) => StateName::Verifying,
            Self::Waiting { .. } => StateName::Waiting,
            Self::Done { .. } => StateName::Done,
            Self::Dead { .. } => StateName::Dead,
            Self::Gone => StateName::Gone,
        }
    }

    fn lease(&self) -> Option<LeaseToken> {
        match self {
            Self::Leased(token) | Self::Pushing(token) | Self::Verifying(token) => Some(*token),
            Self::Queued | Self::Waiting { .. } | Self::Done { .. } | Self::Dead { .. } | Self::Gone => None,
        }
    }
}

/// What kind of failure an attempt ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultClass {
    /// The destination could not be reached at all: says nothing about the path, so it uses up no attempt.
    Unreachable,
    /// It stood still for `timeout` and was ended; it may be the path's fault, the destination's, or pass.
    Stuck,
    /// The attempt failed; it may be the path's fault or pass.
    Failed,
    /// The destination will never take this path.
    Refused,
    /// What lies in the store is not what Nix registered: it must not be sent, and says nothing about the destination.
    Corrupt,
    /// What lies in the store cannot be read here; it may pass, and says nothing about the destination.
    Local,
}

impl FaultClass {
    /// The word that is stored, logged and counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::Local => "local",
        }
    }
}

/// What happened to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A lane takes it.
    Leased(LeaseToken),
    /// The first byte is about to leave.
    Started(LeaseToken),
    /// Everything has been sent.
    Sent(LeaseToken),
    /// The destination has it.
    Verified(LeaseToken, String),
    /// The attempt failed. `counted` is false while the destination itself is in doubt (its breaker is open).
    Failed {
        /// The lease it was tried under.
        token: LeaseToken,
        /// What kind of failure.
        class: FaultClass,
        /// Whether it may use up an attempt.
        counted: bool,
        /// One line for people.
        why: String,
    },
    /// The path is no longer valid in the store.
    Vanished,
    /// The lease ends without a result: the daemon stops, starts after a crash, or the batch was cut short.
    LeaseReturned,
    /// The waiting time has passed.
    WaitOver,
    /// Somebody asked for it again: a hook, a push, `eka-queue retry`.
    Requested,
}

/// What the destination's configuration says about failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Counted failures after which a delivery is dead; at least 1.
    pub attempts_max: u32,
    /// Shortest wait before the next attempt.
    pub backoff_min: Duration,
    /// Longest wait before the next attempt.
    pub backoff_max: Duration,
}

impl Policy {
    /// For steps that no failure leads to: operators' and the start's.
    #[must_use]
    pub const fn without_waits() -> Self {
        Self { attempts_max: 1, backoff_min: Duration::ZERO, backoff_max: Duration::ZERO }
    }
}

/// A delivery as the machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Where it stands.
    pub state: State,
    /// Failures counted so far.
    pub attempts: u32,
    /// The last wait, from which the next is drawn; zero before the first failure.
    pub backoff: Duration,
}

impl Machine {
    /// A delivery nobody has tried.
    #[must_use]
    pub fn fresh() -> Self {
        Self { state: State::Queued, attempts: 0, backoff: Duration::ZERO }
    }
}

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The event makes no sense in this state.
    #[error("a delivery that is {} takes no event {event:?}", from.as_str())]
    IllegalStep {
        /// The state it was in.
        from: StateName,
        /// The event.
        event: Event,
    },
    /// A result that came after its lease had ended.
    #[error("the result carries lease {got:?}, the delivery is held under {held:?}")]
    StaleLease {
        /// The token the result carries.
        got: LeaseToken,
        /// The token that holds the delivery, if any does.
        held: Option<LeaseToken>,
    },
}

/// The only place where a delivery changes its state.
///
/// # Errors
/// `IllegalStep` for a pair that is not listed, `StaleLease` for a late result; the delivery stays as it was.
pub fn step(
    machine: &Machine,
    event: Event,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Result<Machine, StepError> {
    refuse_stale(machine, &event)?;
    let to = |state| Machine { state, ..machine.clone() };
    let from = machine.state.name();
    match (&machine.state, event) {
        (State::Queued, Event::Leased(token)) => Ok(to(State::Leased(token))),
        (State::Leased(_), Event::Started(token)) => Ok(to(State::Pushing(token))),
        (State::Pushing(_), Event::Sent(token)) => Ok(to(State::Verifying(token))),
        // The steps in between are written without waiting for the disk, so a result may find an earlier one.
        (State::Leased(_) | State::Pushing(_) | State::Verifying(_), Event::Verified(_, receipt)) => {
            Ok(to(State::Done { receipt }))
        }
        (
            State::Leased(_) | State::Pushing(_) | State::Verifying(_),
            Event::Failed { class, counted, why, .. },
        ) => Ok(after_failure(machine, class, counted, why, now, policy, rng)),
        (State::Leased(_) | State::Pushing(_) | State::Verifying(_), Event::LeaseReturned) => {
            Ok(to(State::Queued))
        }
        (State::Waiting { .. }, Event::WaitOver) => Ok(to(State::Queued)),
        (
            State::Queued
            | State::Leased(_)
            | State::Pushing(_)
            | State::Verifying(_)
            | State::Waiting { .. }
            | State::Dead { .. },
            Event::Vanished,
        ) => Ok(to(State::Gone)),
        (State::Waiting { .. } | State::Done { .. } | State::Dead { .. } | State::Gone, Event::Requested) => {
            Ok(Machine::fresh())
        }
        (State::Queued | State::Leased(_) | State::Pushing(_) | State::Verifying(_), Event::Requested) => {
            Ok(machine.clone())
        }
        (_, event) => Err(StepError::IllegalStep { from, event }),
    }
}

/// Results must carry the token that holds the delivery.
fn refuse_stale(machine: &Machine, event: &Event) -> Result<(), StepError> {
    let got = match event {
        Event::Started(token) | Event::Sent(token) | Event::Verified(token, _) => *token,
        Event::Failed { token, .. } => *token,
        Event::Leased(_) | Event::Vanished | Event::LeaseReturned | Event::WaitOver | Event::Requested => {
            return Ok(());
        }
    };
    match machine.state.lease() {
        Some(held) if held == got => Ok(()),
        held => Err(StepError::StaleLease { got, held }),
    }
}

fn after_failure(
    machine: &Machine,
    class: FaultClass,
    counted: bool,
    why: String,
    now: Time,
    policy: &Policy,
    rng: &mut Rng,
) -> Machine {
    let counts = counted && class != FaultClass::Unreachable;
    let attempts = machine.attempts + u32::from(counts);
    let exhausted = attempts >= policy.attempts_max;
    let final_at_once = matches!(class, FaultClass::Refused | FaultClass::Corrupt);
    if final_at_once || (counts && exhausted) {
        return Machine { state: State::Dead { why }, attempts, backoff: machine.backoff };
    }
    let wait = backoff::next(machine.backoff, policy.backoff_min, policy.backoff_max, rng);
    Machine { state: State::Waiting { until: now + wait }, attempts, backoff: wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: LeaseToken = LeaseToken(7);

    fn policy() -> Policy {
        Policy { attempts_max: 3, backoff_min: Duration::from_secs(1), backoff_max: Duration::from_secs(900) }
    }

    fn every_state() -> Vec<State> {
        vec![
            State::Queued,
            State::Leased(T),
            State::Pushing(T),
            State::Verifying(T),
            State::Waiting { until: Time::from_ms(5) },
            State::Done { receipt: "{}".into() },
            State::Dead { why: "no".into() },
            State::Gone,
        ]
    }

    fn every_event() -> Vec<Event> {
        vec![
            Event::Leased(LeaseToken(8)),
            Event::Started(T),
            Event::Sent(T),
            Event::Verified(T, "r".into()),
            failed(FaultClass::Failed, true),
            failed(FaultClass::Stuck, true),
            failed(FaultClass::Refused, true),
            failed(FaultClass::Corrupt, true),
            failed(FaultClass::Local, true),
            failed(FaultClass::Unreachable, true),
            Event::Vanished,
            Event::LeaseReturned,
            Event::WaitOver,
            Event::Requested,
        ]
    }

    fn failed(class: FaultClass, counted: bool) -> Event {
        Event::Failed { token: T, class, counted, why: "why".into() }
    }

    fn go(machine: &Machine, event: Event) -> Result<Machine, StepError> {
        step(machine, event, Time::from_ms(1_000), &policy(), &mut Rng::seeded(1))
    }

    /// The whole table, as docs/states.md prints it: every pair either moves or is refused.
    #[test]
    fn the_table_of_transitions_is_the_documented_one() {
        let mut table = String::new();
        for state in every_state() {
            for event in every_event() {
                let machine = Machine { state: state.clone(), attempts: 0, backoff: Duration::ZERO };
                let name = format!("{event:?}");
                let to = match go(&machine, event) {
                    Ok(next) => next.state.name().as_str(),
                    Err(StepError::IllegalStep { .. }) => continue,
                    Err(StepError::StaleLease { .. }) => "stale",
                };
                if to != "stale" {
                    table += &format!("{} + {name} -> {to}\n", machine.state.name().as_str());
                }
            }
        }
        let documented = include_str!("../../docs/states.md");
        assert!(documented.contains(&format!("```text\n{table}```")), "docs/states.md has the table below");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn unreachable_and_uncounted_failures_never_kill() {
        let mut machine = Machine { state: State::Pushing(T), attempts: 2, backoff: Duration::ZERO };
        for round in 0..10_000 {
            let event = failed(
                if round % 2 == 0 { FaultClass::Unreachable } else { FaultClass::Failed },
                round % 2 == 0,
            );
            machine = go(&machine, event).unwrap();
            assert!(matches!(machine.state, State::Waiting { .. }));
            assert!(machine.backoff <= policy().backoff_max);
            machine.state = State::Pushing(T);
        }
        assert_eq!(machine.attempts, 2);
    }

    #[test]
    fn counted_failures_end_in_a_dead_letter_with_the_reason() {
        let mut machine = Machine::fresh();
        for attempt in 1..=3 {
            machine.state = State::Pushing(T);
            machine = go(&machine, failed(FaultClass::Failed, true)).unwrap();
            assert_eq!(machine.attempts, attempt);
        }
        assert_eq!(machine.state, State::Dead { why: "why".into() });
        assert_eq!(go(&machine, Event::Requested).unwrap(), Machine::fresh());
    }

    #[test]
    fn a_late_result_is_refused() {
        let machine = Machine { state: State::Pushing(LeaseToken(9)), ..Machine::fresh() };
        let late = go(&machine, Event::Verified(T, "r".into()));
        assert_eq!(late, Err(StepError::StaleLease { got: T, held: Some(LeaseToken(9)) }));
        let late = go(&Machine::fresh(), Event::Verified(T, "r".into()));
        assert_eq!(late, Err(StepError::StaleLease { got: T, held: None }));
    }
}
