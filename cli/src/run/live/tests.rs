//! The picture and the lines of one run, from its first word to its last.

use std::time::Duration;

use ci_model::flow::EvaluationCost;
use ci_model::outcome::{Progress, Side};

use super::super::render::samples::job;
use super::super::text::columns;
use super::draw::draw;
use super::plain::Plain;
use super::state::State;

/// What is said of a run, and after how many seconds.
fn said() -> Vec<(u64, Progress)> {
    let evaluating = |name, side| Progress::Evaluating { job: job(name), side };
    let evaluated = |name, side, attrs, errors| Progress::Evaluated {
        job: job(name),
        side,
        attrs,
        errors,
        memory_bytes: 212 << 20,
    };
    let ended = |name, side, attrs, reused| Progress::EvaluationEnded {
        job: job(name),
        side,
        attrs,
        errors: 2,
        cost: EvaluationCost {
            engine: "walker (Nix 2.8.0)".into(),
            wall_ms: 21_000,
            cpu_ms: 40_000,
            memory_peak_bytes: 300 << 20,
            processes: 4,
            reused,
        },
    };
    vec![
        (0, Progress::CheckingOut),
        (1, evaluating("packages", Side::Head)),
        (1, evaluating("packages", Side::Base)),
        (2, ended("packages", Side::Base, 8_990, true)),
        (3, evaluating("数数", Side::Head)),
        (9, evaluated("packages", Side::Head, 3_000, 1)),
        (12, evaluated("packages", Side::Head, 4_503, 2)),
        (22, evaluated("packages", Side::Head, 9_000, 2)),
        (22, ended("packages", Side::Head, 9_011, false)),
        (23, ended("数数", Side::Head, 7, false)),
        (23, Progress::Instantiating { done: 0, of: 312 }),
        (24, Progress::Instantiating { done: 156, of: 312 }),
        (25, Progress::Comparing),
    ]
}

fn after(count: usize) -> (State, Duration) {
    let (mut state, mut now) = (State::default(), Duration::ZERO);
    for (seconds, progress) in said().into_iter().take(count) {
        now = Duration::from_secs(seconds);
        state.hear(&progress, now);
    }
    (state, now + Duration::from_millis(500))
}

#[test]
fn a_run_as_it_is_drawn() {
    let pictures = [1, 4, 7, 12, 13].map(|count| {
        let (state, now) = after(count);
        draw(&state, now, 79, false).join("\n")
    });
    let (mut state, now) = after(13);
    state.finish(now);
    let last = draw(&state, now, 79, false).join("\n");
    insta::assert_snapshot!(format!("{}\n----\n{last}", pictures.join("\n----\n")));
}

/// However little was said before: the end says all of it.
#[test]
fn what_is_over_has_all_its_attributes() {
    let (state, _) = after(said().len());
    let counts = state.evaluations.values().map(|of| (of.attrs, of.errors));
    assert_eq!(counts.collect::<Vec<_>>(), [9_011, 8_990, 7].map(|attrs| (Some(attrs), 2)));
}

#[test]
fn a_run_in_lines() {
    let mut plain = Plain::default();
    let lines = said().into_iter().flat_map(|(seconds, progress)| {
        let lines = plain.hear(&progress, Duration::from_secs(seconds));
        lines.into_iter().map(move |line| format!("{seconds:>2}s {line}"))
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn no_picture_is_wider_than_the_terminal() {
    for count in 0..=said().len() {
        let (state, now) = after(count);
        for width in 0..100 {
            assert!(draw(&state, now, width, false).iter().all(|line| columns(line) <= width));
        }
    }
}
