//! Pictures as people see them, and what a watch makes of what it sees.

use std::collections::BTreeMap;

use super::draw::draw;
use super::view::{Changes, History};
use crate::control::protocol::{DestinationStatus, MovingPath, Tally, Watched, WatchedDestination};
use crate::delivery::StateName;

/// A destination with these deliveries.
fn at(counts: &[(StateName, u64)]) -> WatchedDestination {
    let mut by_state: BTreeMap<String, u64> =
        StateName::ALL.map(|state| (state.as_str().to_owned(), 0)).into_iter().collect();
    for (state, count) in counts {
        by_state.insert(state.as_str().to_owned(), *count);
    }
    WatchedDestination {
        status: DestinationStatus {
            by_state: Tally(by_state),
            breaker: Some("closed".into()),
            paused: false,
            configured: true,
            oldest_queued_seconds: None,
            bytes_pushed: 0,
        },
        owed_nar_bytes: 0,
        done_since_start: 0,
        done_nar_bytes_since_start: 0,
        bytes_per_second: Some(0),
        eta_seconds: None,
        moving: Vec::new(),
    }
}

fn moving(name: &str, nar_bytes: u64, sent_bytes: u64, since_seconds: u64) -> MovingPath {
    let path = format!("/nix/store/00000000000000000000000000000000-{name}");
    MovingPath { path, nar_bytes, sent_bytes, since_seconds }
}

fn watched(destinations: Vec<(&str, WatchedDestination)>) -> Watched {
    Watched {
        destinations: destinations.into_iter().map(|(name, at)| (name.to_owned(), at)).collect(),
        spool_files: 0,
        draining: false,
        uptime_seconds: 7_500,
        version: "1.2.3".into(),
    }
}

/// Half an hour of a busy day: 1.5 GiB of 4 are done since the watch began.
fn busy() -> History {
    let mut history = History::default();
    let mut begin = at(&[(StateName::Queued, 600), (StateName::Done, 40)]);
    (begin.owed_nar_bytes, begin.done_since_start, begin.done_nar_bytes_since_start) = (4 << 30, 40, 1 << 30);
    history.take(watched(vec![("main", begin)]));
    let mut now = at(&[
        (StateName::Queued, 301),
        (StateName::Leased, 1),
        (StateName::Pushing, 6),
        (StateName::Waiting, 2),
        (StateName::Dead, 3),
        (StateName::Done, 327),
    ]);
    (now.owed_nar_bytes, now.done_since_start, now.done_nar_bytes_since_start) =
        ((5 << 30) / 2, 327, (5 << 30) / 2);
    (now.bytes_per_second, now.eta_seconds) = (Some(12_000_000), Some(75));
    now.moving = vec![
        moving("linux-firmware-20240101", 700 << 20, 200 << 20, 31),
        moving("chromium-unwrapped-122.0.6261.94-with-a-very-long-name-indeed", 400 << 20, 20 << 20, 9),
        moving("of-unknown-size", 0, 512, 2),
        moving("a", 1_000, 0, 0),
        moving("b", 1_000, 0, 0),
        moving("c", 1_000, 0, 0),
        moving("d", 1_000, 0, 0),
    ];
    let mut slow = at(&[(StateName::Queued, 12)]);
    (slow.bytes_per_second, slow.owed_nar_bytes) = (None, 3 << 20);
    history.take(watched(vec![("main", now), ("ssh-builder", slow)]));
    history
}

/// Destinations that stand still, each for another reason.
fn standing() -> History {
    let mut history = History::default();
    let mut open = at(&[(StateName::Waiting, 4), (StateName::Gone, 1)]);
    (open.status.breaker, open.owed_nar_bytes) = (Some("open".into()), 4_096);
    let mut probing = open.clone();
    probing.status.breaker = Some("half-open".into());
    let mut paused = at(&[(StateName::Queued, 4)]);
    (paused.status.paused, paused.owed_nar_bytes) = (true, 4_096);
    let mut removed = at(&[(StateName::Dead, 4)]);
    removed.status.breaker = None;
    let idle = at(&[(StateName::Done, 1_000_000)]);
    let named = vec![
        ("down", open),
        ("probed", probing),
        ("paused", paused),
        ("left", removed),
        ("a-destination-with-a-long-name", idle),
    ];
    let watched = Watched { draining: true, spool_files: 2, ..watched(named) };
    history.take(watched);
    history
}

fn pictures(history: &History) -> String {
    let picture =
        |width: usize| format!("{:-<width$}\n{}\n", "", draw(&history.frame(), width, false).join("\n"));
    [120, 80, 40, 12].map(picture).concat()
}

#[test]
fn a_busy_day() {
    insta::assert_snapshot!(pictures(&busy()));
}

#[test]
fn a_busy_day_shown_once() {
    let mut history = History::default();
    history.take(busy().newest().unwrap().clone());
    insta::assert_snapshot!(draw(&history.still(), usize::MAX, false).join("\n"));
}

#[test]
fn everything_stands_still() {
    insta::assert_snapshot!(pictures(&standing()));
}

#[test]
fn nothing_is_configured_and_the_daemon_is_away() {
    let mut history = History::default();
    history.take(watched(Vec::new()));
    history.none("no daemon answers at /run/\x1b[31m".into());
    insta::assert_snapshot!(pictures(&history));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for history in [busy(), standing()] {
        for width in 0..200 {
            for line in draw(&history.frame(), width, false) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}

#[test]
fn colours_change_no_letter() {
    for history in [busy(), standing()] {
        let (plain, painted) = (draw(&history.frame(), 80, false), draw(&history.frame(), 80, true));
        assert_ne!(plain, painted);
        let without = |line: &String| {
            ["\x1b[0m", "\x1b[31m", "\x1b[32m", "\x1b[33m"]
                .iter()
                .fold(line.clone(), |l, code| l.replace(code, ""))
        };
        assert_eq!(
            painted.iter().map(without).map(|line| line.trim_end().to_owned()).collect::<Vec<_>>(),
            plain
        );
    }
}

#[test]
fn in_lines_only_what_changes_is_said() {
    let (mut changes, mut said) = (Changes::default(), Vec::new());
    let mut history = busy();
    said.push(changes.of(&history.frame()));
    let mut faster = history.newest().unwrap().clone();
    faster.destinations.get_mut("main").unwrap().bytes_per_second = Some(1);
    history.take(faster.clone());
    said.push(changes.of(&history.frame()));
    let main = faster.destinations.get_mut("main").unwrap();
    (main.status.paused, main.eta_seconds) = (true, None);
    history.take(Watched { draining: true, ..faster.clone() });
    said.push(changes.of(&history.frame()));
    history.none("nobody answers".into());
    said.push(changes.of(&history.frame()));
    said.push(changes.of(&history.frame()));
    history.take(faster);
    said.push(changes.of(&history.frame()));
    let said: Vec<String> = said.iter().map(|lines| format!("- {}", lines.join("\n  "))).collect();
    insta::assert_snapshot!(said.join("\n"));
}

/// What was done is counted on over a restart of the daemon, whose own counts begin again.
#[test]
fn a_restarted_daemon_does_not_take_back_what_was_done() {
    let mut history = History::default();
    let life = |uptime_seconds: u64, done: u64, owed: u64| {
        let mut main = at(&[(StateName::Queued, owed)]);
        (main.done_since_start, main.done_nar_bytes_since_start, main.owed_nar_bytes) = (done, done, owed);
        Watched { uptime_seconds, ..watched(vec![("main", main)]) }
    };
    let mut shown = Vec::new();
    for (uptime, done, owed) in [(100, 50, 10), (101, 55, 5), (1, 2, 3), (2, 5, 0), (2, 0, 30)] {
        history.take(life(uptime, done, owed));
        let row = &history.frame().rows[0];
        shown.push((row.done, row.thousandths));
    }
    assert_eq!(shown, [(0, Some(0)), (5, Some(500)), (7, Some(700)), (10, Some(1_000)), (10, Some(250))]);
}

#[test]
fn a_bar_is_by_bytes_or_where_there_are_none_by_number() {
    let part = |nar_bytes: u64, owed_bytes: u64, owed: u64, done: u64| {
        let mut history = History::default();
        history.take(watched(vec![("main", at(&[]))]));
        let mut main = at(&[(StateName::Queued, owed)]);
        main.owed_nar_bytes = owed_bytes;
        (main.done_since_start, main.done_nar_bytes_since_start) = (done, nar_bytes);
        history.take(watched(vec![("main", main)]));
        history.frame().rows[0].thousandths
    };
    assert_eq!(part(100, 300, 1, 99), Some(250));
    assert_eq!(part(0, 0, 1, 3), Some(750));
    assert_eq!(part(100, 0, 1, 3), Some(750), "what is owed is of unknown size");
    assert_eq!(part(0, 0, 0, 0), None);
    assert_eq!(part(u64::MAX, u64::MAX, 1, 1), Some(500));
}
