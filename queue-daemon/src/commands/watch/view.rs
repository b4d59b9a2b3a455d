//! From snapshots to what is shown of them: how far each destination has come since the watch began, and what has
//! changed since the last look. Pure.

use std::collections::BTreeMap;

use super::text::{bytes, span};
use crate::control::protocol::{Watched, WatchedDestination};
use crate::delivery::StateName;

/// What a watch remembers.
#[derive(Debug, Default)]
pub(super) struct History {
    newest: Option<Watched>,
    /// What was done when the watch, or the daemon, began: deliveries and NAR bytes.
    begun: BTreeMap<String, (u64, u64)>,
    /// Of earlier lives of the daemon.
    before: BTreeMap<String, (u64, u64)>,
    trouble: Option<String>,
}

/// What is to be shown.
#[derive(Debug, Clone)]
pub(super) struct Frame<'a> {
    pub(super) watched: &'a Watched,
    pub(super) rows: Vec<Row<'a>>,
    /// Why there is nothing newer.
    pub(super) trouble: Option<&'a str>,
    /// It is the only one: nothing can have been done since the watch began.
    pub(super) still: bool,
}

/// One destination.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    pub(super) at: &'a WatchedDestination,
    /// Deliveries done since the watch began.
    pub(super) done: u64,
    /// How much of what was owed since then is done, in thousandths; `None` when nothing was.
    pub(super) thousandths: Option<u64>,
}

impl History {
    /// Takes a snapshot.
    pub(super) fn take(&mut self, watched: Watched) {
        let restarted = self.newest.as_ref().is_some_and(|newest| is_another_life(newest, &watched));
        if restarted {
            let newest = self.newest.iter().flat_map(|newest| &newest.destinations);
            self.before = newest.map(|(name, at)| (name.clone(), self.done(name, at))).collect();
            self.begun.clear();
        }
        for (name, at) in &watched.destinations {
            // After a restart everything that is done was done while we watched.
            let now = if restarted { (0, 0) } else { (at.done_since_start, at.done_nar_bytes_since_start) };
            self.begun.entry(name.clone()).or_insert(now);
        }
        (self.newest, self.trouble) = (Some(watched), None);
    }

    /// There was no snapshot this time.
    pub(super) fn none(&mut self, why: String) {
        self.trouble = Some(why);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub(super) fn newest(&self) -> Option<&Watched> {
        self.newest.as_ref().filter(|_| self.trouble.is_none())
    }

    /// What is to be shown after the first snapshot.
    pub(super) fn frame(&self) -> Frame<'_> {
        let watched = self.newest.as_ref().expect("a frame is asked for after the first snapshot");
        let rows = watched.destinations.iter().map(|(name, at)| {
            let (done, nar_bytes) = self.done(name, at);
            Row { name, at, done, thousandths: thousandths(at, done, nar_bytes) }
        });
        Frame { watched, rows: rows.collect(), trouble: self.trouble.as_deref(), still: false }
    }

    /// The same, to be shown once.
    pub(super) fn still(&self) -> Frame<'_> {
        let frame = self.frame();
        let rows = frame.rows.into_iter().map(|row| Row { thousandths: None, ..row }).collect();
        Frame { rows, still: true, ..frame }
    }

    /// Deliveries and NAR bytes that were done since the watch began.
    fn done(&self, name: &str, at: &WatchedDestination) -> (u64, u64) {
        let of = |map: &BTreeMap<String, (u64, u64)>| map.get(name).copied().unwrap_or_default();
        let (begun, before) = (of(&self.begun), of(&self.before));
        (
            at.done_since_start.saturating_sub(begun.0).saturating_add(before.0),
            at.done_nar_bytes_since_start.saturating_sub(begun.1).saturating_add(before.1),
        )
    }
}

/// Whether the daemon was started again between two snapshots: what only grows has shrunk.
fn is_another_life(before: &Watched, now: &Watched) -> bool {
    let done =
        |watched: &Watched, name: &str| watched.destinations.get(name).map_or(0, |at| at.done_since_start);
    now.uptime_seconds < before.uptime_seconds
        || now.destinations.keys().any(|name| done(now, name) < done(before, name))
}

/// By bytes, which is closer to the time it takes; by number where Nix noted no sizes.
fn thousandths(at: &WatchedDestination, done: u64, nar_bytes: u64) -> Option<u64> {
    let by_bytes = (nar_bytes, at.owed_nar_bytes);
    let (done, owed) = if by_bytes == (0, 0) || (by_bytes.1 == 0 && at.status.by_state.live() > 0) {
        (done, at.status.by_state.live())
    } else {
        by_bytes
    };
    let all = u128::from(done) + u128::from(owed);
    let part = (u128::from(done) * 1_000).checked_div(all)?;
    u64::try_from(part).ok()
}

impl Row<'_> {
    /// What keeps it from going on, or what is wrong with it.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self.at.status.breaker.as_deref() {
            None => Some("no longer in the configuration"),
            Some(_) if self.at.status.paused => Some("paused"),
            Some("closed") => None,
            Some("half-open") => Some("in doubt: a probe is under way"),
            Some(_) => Some("in doubt: it is probed from time to time"),
        }
    }

    /// Rate and forecast, as far as they are known; may be empty.
    pub(super) fn pace(&self) -> String {
        if self.at.status.by_state.live() == 0 {
            return "nothing owed".into();
        }
        let stands = self.note().is_some();
        let rate = self.at.bytes_per_second.filter(|rate| *rate > 0 || !stands);
        let rate = rate.map(|rate| format!("{}/s", bytes(rate)));
        let eta = match self.at.eta_seconds {
            Some(seconds) => Some(format!("about {} left", span(seconds))),
            None if stands => None, // and the note says why
            None => Some("time left unknown".into()),
        };
        rate.into_iter().chain(eta).collect::<Vec<_>>().join(", ")
    }

    /// Deliveries by what matters to people; what there is none of is left out.
    pub(super) fn counts(&self) -> Vec<(Option<StateName>, String)> {
        let of = |state| self.at.status.by_state.of(state);
        let under_way: u64 = StateName::ALL.into_iter().filter(|state| state.is_in_flight()).map(of).sum();
        let counted = [
            (Some(StateName::Queued), of(StateName::Queued), "queued"),
            (Some(StateName::Pushing), under_way, "under way"),
            (Some(StateName::Waiting), of(StateName::Waiting), "waiting"),
            (Some(StateName::Dead), of(StateName::Dead), "dead"),
            (Some(StateName::Gone), of(StateName::Gone), "gone"),
            (None, self.done, "done since the watch began"),
        ];
        let there = counted.into_iter().filter(|(_, count, _)| *count > 0);
        there.map(|(state, count, word)| (state, format!("{count} {word}"))).collect()
    }
}

/// What was said of each destination the last time.
#[derive(Debug, Default)]
pub(super) struct Changes {
    said: BTreeMap<String, WatchedDestination>,
    draining: bool,
    trouble: Option<String>,
}

impl Changes {
    /// A line for each change since the last time.
    pub(super) fn of(&mut self, frame: &Frame<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(trouble) = frame.trouble {
            if self.trouble.as_deref() != Some(trouble) {
                lines.push(trouble.to_owned());
            }
            self.trouble = Some(trouble.to_owned());
            return lines;
        }
        self.trouble = None;
        if std::mem::replace(&mut self.draining, frame.watched.draining) != frame.watched.draining {
            lines.push(if self.draining { "the daemon drains" } else { "the daemon drains no more" }.into());
        }
        for row in &frame.rows {
            let before = self.said.insert(row.name.to_owned(), row.at.clone());
            if before.is_none_or(|before| before.status_differs(row.at)) {
                lines.push(line(row));
            }
        }
        lines
    }
}

impl WatchedDestination {
    /// Whether counts or circumstances are others; rates, ages and forecasts always are.
    fn status_differs(&self, other: &Self) -> bool {
        let (one, other) = (&self.status, &other.status);
        one.by_state != other.by_state
            || one.breaker != other.breaker
            || one.paused != other.paused
            || one.configured != other.configured
    }
}

fn line(row: &Row<'_>) -> String {
    let mut parts: Vec<String> = row.counts().into_iter().map(|(_, text)| text).collect();
    parts.extend(Some(row.pace()).filter(|pace| !pace.is_empty()));
    parts.extend(row.note().map(str::to_owned));
    format!("{}: {}", row.name, parts.join(", "))
}
