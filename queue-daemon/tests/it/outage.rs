//! A destination that is away for a day, by a clock that the test moves: nothing is given up, it is asked once a
//! minute, the others notice nothing, and when it is back everything arrives.

use std::time::Duration;

use eka_queue::control::protocol::DestinationStatus;
use eka_queue::delivery::{FaultClass, StateName};
use service_kit::clock::{Clock, ManualClock, Time};
use test_kit::wait;

use crate::chaos::factor;
use crate::inside::Inside;
use crate::world::SOON;

/// Cannot be reached at all.
const GONE: &str = "gone";
/// Answers, and fails every path: an uploader that exits 1.
const BROKEN: &str = "broken";
/// Takes a connection and then stands still.
const STUCK: &str = "stuck";
/// Works all the time.
const GOOD: &str = "good";

const MINUTE: Duration = Duration::from_secs(60);
/// How far the clock moves at once. Lanes at rest look every 5 seconds; fewer looks keep the usual run short.
fn step_length() -> Duration {
    Duration::from_secs(if factor() == 1 { 20 } else { 5 })
}

/// Who sleeps in a daemon at rest: its lanes, the spool, retention, claims, the mending of roots.
const SLEEPERS: usize = 4 + 4;

/// A new path every twenty minutes, behind the first forty.
const EVERY: Duration = Duration::from_secs(1_200);
const FIRST: usize = 40;

/// R4.
#[test]
fn an_outage_of_a_day_loses_nothing_and_delays_nobody_else() {
    let (clock, manual) = Clock::manual(Time::from_ms(1_700_000_000_000));
    let mut inside = Inside::new(clock.clone(), "", &[GONE, BROKEN, STUCK, GOOD]);
    inside.start(None);
    inside.destination(GONE).set_failing(Some(FaultClass::Unreachable));
    inside.destination(BROKEN).set_failing(Some(FaultClass::Failed));
    inside.destination(STUCK).set_failing(Some(FaultClass::Stuck));

    let paths = inside.valid_paths(0..FIRST);
    inside.enqueue(0, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let mut total = FIRST;
    assert_good_has_all(&inside, &paths);
    let in_doubt = |id: &str| inside.status().destinations[id].breaker.as_deref() == Some("open");
    step_until(&inside, &manual, 2 * MINUTE, || [GONE, BROKEN, STUCK].iter().all(|id| in_doubt(id)));
    // The last of the attempts that began before ends at this time as well.
    wait::until(SOON, || inside.status().destinations.values().all(is_at_rest));
    let opened = clock.now();

    let outage = 24 * 60 * MINUTE * u32::try_from(factor()).unwrap();
    let mut next = opened + EVERY;
    while clock.now().since(opened) < outage {
        step(&inside, &manual);
        if clock.now() >= next {
            next = next + EVERY;
            let path = inside.valid_paths(total..total + 1);
            total += 1;
            inside.enqueue(total as u128, &[&path[0]]);
            // The clock stands still meanwhile: it arrives with no delay at all.
            assert_good_has_all(&inside, &path);
        }
    }
    for id in [GONE, BROKEN, STUCK] {
        assert_probed_once_a_minute(&inside, id, opened, outage);
        let counts = &inside.status().destinations[id].by_state;
        assert_eq!([counts.live(), counts.total()], [total as u64; 2], "{id}: none dead, none lost");
    }

    let back = clock.now();
    for id in [GONE, BROKEN, STUCK] {
        inside.destination(id).set_failing(None);
    }
    let all_done = |id: &str| inside.count(id, StateName::Done) == total as u64;
    // At the next probe.
    step_until(&inside, &manual, MINUTE + step_length(), || all_done(GONE) && all_done(STUCK));
    // What failed by itself waits for its own back-off, 15 minutes at most.
    step_until(&inside, &manual, 16 * MINUTE, || all_done(BROKEN));
    println!("{total} paths; {:?} after the outage all were there", clock.now().since(back));
    inside.stop();
}

/// One destination that cannot be reached, in doubt, to which so many paths are owed.
fn in_doubt(paths: usize) -> (Inside, ManualClock) {
    let (clock, manual) = Clock::manual(Time::from_ms(1_700_000_000_000));
    let mut inside = Inside::new(clock, "", &[GONE]);
    inside.start(None);
    inside.destination(GONE).set_failing(Some(FaultClass::Unreachable));
    let paths = inside.valid_paths(0..paths);
    inside.enqueue(0, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    steps(&inside, &manual, 30, &|| inside.status().destinations[GONE].breaker.as_deref() == Some("open"));
    (inside, manual)
}

/// Moves the clock on, with this one destination, until everybody sleeps again and nothing is under way.
fn one_step(inside: &Inside, manual: &ManualClock) {
    manual.step(step_length());
    inside.block_on(manual.sleeping(SLEEPERS - 3));
    wait::until(SOON, || inside.status().destinations.values().all(is_at_rest));
}

/// So many steps at most, until `condition` holds.
#[track_caller]
fn steps(inside: &Inside, manual: &ManualClock, limit: usize, condition: &dyn Fn() -> bool) {
    for _ in 0..limit {
        if condition() {
            return;
        }
        one_step(inside, manual);
    }
    assert!(condition(), "not after {limit} steps: {:?}", inside.status());
}

/// A probe whose path leaves the store while it is sent says nothing of the destination: another one is tried.
#[test]
fn a_probe_whose_path_vanishes_is_followed_by_another() {
    const PATHS: usize = 12;
    let (mut inside, manual) = in_doubt(PATHS);
    let destination = inside.destination(GONE);
    let steps = |limit: usize, condition: &dyn Fn() -> bool| steps(&inside, &manual, limit, condition);
    destination.set_failing(None);
    destination.set_vanishing(2);
    let rest = u64::try_from(PATHS).unwrap() - 2;
    steps(30, &|| inside.count(GONE, StateName::Done) == rest && inside.count(GONE, StateName::Gone) == 2);
    inside.stop();
}

/// What cannot be read here says nothing of the destination, and is not tried again and again meanwhile.
#[test]
fn paths_that_cannot_be_read_wait_for_their_time_at_a_destination_in_doubt() {
    const PATHS: usize = 6;
    let (mut inside, manual) = in_doubt(PATHS);
    let destination = inside.destination(GONE);
    let steps = |limit: usize, condition: &dyn Fn() -> bool| steps(&inside, &manual, limit, condition);
    destination.set_failing(Some(FaultClass::Local));
    let before = destination.tries().len();
    let tried = || destination.tries().len() - before;
    steps(30, &|| tried() >= PATHS);
    let already = tried(); // some may have been due again meanwhile
    for round in 1..=10 {
        one_step(&inside, &manual); // a lane that tries again at once never sleeps
        let tries = tried() - already;
        assert!(tries <= PATHS * (1 + round), "{tries} tries after {round} steps");
    }
    destination.set_failing(None);
    // The longest back-off is 15 minutes.
    steps(50, &|| inside.count(GONE, StateName::Done) == u64::try_from(PATHS).unwrap());
    inside.stop();
}

/// A destination that answers every batch with a failure is found out in a handful of tries, not by splitting batches
/// down to each path.
#[test]
fn a_destination_that_refuses_everything_is_not_asked_for_each_path() {
    let mut inside = Inside::new(Clock::system(), "", &[BROKEN]);
    inside.start(None);
    inside.destination(BROKEN).set_failing(Some(FaultClass::Failed));
    let paths = inside.valid_paths(0..300);
    inside.enqueue(0, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let opened = || inside.status().destinations[BROKEN].breaker.as_deref() == Some("open");
    wait::until(SOON, opened);
    let at_rest = || {
        let counts = inside.status().destinations[BROKEN].by_state.clone();
        counts.of(StateName::Queued) + counts.of(StateName::Waiting) == 300
    };
    wait::until(SOON, at_rest);
    // Eight batches may be under way; each notes at most five failed parts and as many single paths.
    let tries = inside.destination(BROKEN).tries().len();
    assert!((5..=8 * 10).contains(&tries), "{tries} tries before the destination was in doubt");
    inside.stop();
}

/// Moves the clock until `condition` holds, at most by `limit`. What is under way ends before the clock moves on.
#[track_caller]
fn step_until(inside: &Inside, manual: &ManualClock, limit: Duration, condition: impl Fn() -> bool) {
    let mut waited = Duration::ZERO;
    while !condition() {
        assert!(waited < limit, "not within {limit:?}: {:?}", inside.status());
        step(inside, manual);
        wait::until(SOON, || inside.status().destinations.values().all(is_at_rest));
        waited += step_length();
    }
}

/// Nothing is under way, and nothing will be before the clock moves.
fn is_at_rest(destination: &DestinationStatus) -> bool {
    let states = &destination.by_state;
    let under_way =
        [StateName::Leased, StateName::Pushing, StateName::Verifying].map(|state| states.of(state));
    let may_start = match destination.breaker.as_deref() {
        Some("open") => false,
        Some("closed") => states.of(StateName::Queued) > 0,
        _ => true,
    };
    under_way == [0; 3] && !may_start
}

/// Moves the clock on, until everybody sleeps again. An attempt may still be under way: then the disk is as slow as
/// a few steps are long, and what must never happen must not happen even so.
fn step(inside: &Inside, manual: &ManualClock) {
    manual.step(step_length());
    inside.block_on(manual.sleeping(SLEEPERS));
}

#[track_caller]
fn assert_good_has_all(inside: &Inside, paths: &[String]) {
    wait::until(SOON, || paths.iter().all(|path| inside.destination(GOOD).has(path)));
}

#[track_caller]
fn assert_probed_once_a_minute(inside: &Inside, id: &str, opened: Time, outage: Duration) {
    let mut probes = inside.destination(id).tries();
    probes.retain(|probe| probe.at > opened);
    for pair in probes.windows(2) {
        let pause = pair[1].at.since(pair[0].at);
        assert!(pause >= MINUTE, "{id}: two probes within {pause:?}");
    }
    assert!(probes.iter().all(|probe| probe.paths == 1), "{id}: a probe is one path");
    let minutes = outage.as_secs() / 60;
    let most = (minutes * 2 / 3)..=(minutes + 1);
    assert!(most.contains(&(probes.len() as u64)), "{id}: {} probes in {minutes} minutes", probes.len());
}
