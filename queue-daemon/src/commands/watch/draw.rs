//! From a frame to the lines of a picture that fits so many columns: pure.
//!
//! Names and paths come from outside and are escaped. Colours only repeat what the words say.

use service_kit::text::one_line;

use super::text::{bytes, cut, span};
use super::view::{Frame, Row};
use crate::control::protocol::MovingPath;
use crate::delivery::StateName;

/// Transfers that are shown of one destination.
const MOVING_SHOWN: usize = 5;
/// From this width on a destination's bar and numbers share a line.
const WIDE: usize = 60;
/// Columns of a bar.
const BAR_MIN: usize = 10;
const BAR_MAX: usize = 40;
/// Columns of a destination's name.
const NAME_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Green,
    Yellow,
    Red,
}

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Red => Some("31"),
        }
    }
}

/// A line in the making.
#[derive(Debug, Default)]
struct Line(Vec<(Paint, String)>);

impl Line {
    fn of(text: impl Into<String>) -> Self {
        Self(vec![(Paint::Plain, text.into())])
    }

    fn add(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    fn len(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line in at most so many columns.
    fn finish(self, width: usize, paint: bool) -> String {
        let (mut shown, mut left) = (String::new(), width);
        for (colour, text) in self.0 {
            let text = cut(&text, left);
            left -= text.chars().count();
            match colour.code().filter(|_| paint && !text.is_empty()) {
                Some(code) => shown.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => shown.push_str(&text),
            }
        }
        shown.truncate(shown.trim_end().len());
        shown
    }
}

/// The lines of a picture.
pub(super) fn draw(frame: &Frame<'_>, width: usize, paint: bool) -> Vec<String> {
    let mut lines = vec![head(frame)];
    if let Some(trouble) = frame.trouble {
        lines.push(Line::default().add(Paint::Red, one_line(trouble).to_string()));
    }
    if frame.rows.is_empty() {
        lines.push(Line::of("no destinations"));
    }
    let names = frame.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(NAME_MAX);
    for row in &frame.rows {
        lines.push(Line::default());
        destination(row, names, width, &mut lines);
    }
    if frame.rows.len() > 1 {
        lines.push(Line::default());
        lines.push(in_all(frame));
    }
    lines.into_iter().map(|line| line.finish(width, paint)).collect()
}

fn head(frame: &Frame<'_>) -> Line {
    let watched = frame.watched;
    let mut parts = vec![
        format!("eka-queue {}", one_line(&watched.version)),
        format!("up {}", span(watched.uptime_seconds)),
    ];
    if watched.draining {
        parts.push("draining".into());
    }
    if watched.spool_files > 0 {
        parts.push(format!("{} file(s) in the spool", watched.spool_files));
    }
    Line::of(parts.join(", "))
}

fn destination(row: &Row<'_>, names: usize, width: usize, lines: &mut Vec<Line>) {
    let name = cut(&one_line(row.name).to_string(), NAME_MAX);
    let pace = row.pace();
    if width < WIDE {
        lines.push(Line::of(name));
        if let Some(thousandths) = row.thousandths {
            let bar = width.saturating_sub(9).clamp(BAR_MIN, BAR_MAX);
            lines.push(barred(Line::of("  "), thousandths, bar));
        }
        lines.push(Line::of(format!("  {pace}")));
    } else {
        let line = Line::of(format!("{name:<names$}  "));
        let bar = width.saturating_sub(names + 12 + pace.len()).clamp(BAR_MIN, BAR_MAX);
        lines.push(match row.thousandths {
            Some(thousandths) => barred(line, thousandths, bar).add(Paint::Plain, format!("  {pace}")),
            None => line.add(Paint::Plain, pace),
        });
    }
    if let Some(note) = row.note() {
        lines.push(Line::of("  ").add(Paint::Yellow, note));
    }
    wrapped(row, width, lines);
    for moving in row.at.moving.iter().take(MOVING_SHOWN) {
        lines.push(Line::of(on_its_way(moving)));
    }
    if row.at.moving.len() > MOVING_SHOWN {
        lines.push(Line::of(format!("    and {} more", row.at.moving.len() - MOVING_SHOWN)));
    }
}

/// `[####....]  50%`
fn barred(line: Line, thousandths: u64, columns: usize) -> Line {
    let filled = usize::try_from(thousandths).unwrap_or(0).min(1_000) * columns / 1_000;
    line.add(Paint::Plain, "[")
        .add(Paint::Green, "#".repeat(filled))
        .add(Paint::Plain, ".".repeat(columns - filled))
        .add(Paint::Plain, format!("] {:>3}%", thousandths / 10))
}

/// The counts, on as many lines as they need.
fn wrapped(row: &Row<'_>, width: usize, lines: &mut Vec<Line>) {
    let mut line = Line::default();
    for (state, text) in row.counts() {
        let paint = match state {
            Some(StateName::Dead | StateName::Gone) => Paint::Red,
            Some(StateName::Waiting) => Paint::Yellow,
            _ => Paint::Plain,
        };
        let (before, needs) = (line.len(), text.chars().count() + 3);
        line = match before {
            0 => Line::of("  "),
            _ if before + needs > width => {
                lines.push(line.add(Paint::Plain, ","));
                Line::of("  ")
            }
            _ => line.add(Paint::Plain, ", "),
        };
        line = line.add(paint, text);
    }
    if line.len() > 0 {
        lines.push(line);
    }
}

/// The name without the hash, which says little and is long; `eka-queue show` and `--json` have all of it.
fn on_its_way(moving: &MovingPath) -> String {
    let base = moving.path.rsplit('/').next().unwrap_or_default();
    let name = base.split_once('-').map_or(base, |(_, name)| name);
    let of = if moving.nar_bytes > 0 { format!(", NAR {}", bytes(moving.nar_bytes)) } else { String::new() };
    let sent = format!("{} sent", bytes(moving.sent_bytes));
    format!("    {:<22}{of:<16} {:>6}  {}", sent, span(moving.since_seconds), one_line(name))
}

fn in_all(frame: &Frame<'_>) -> Line {
    let owed: u64 = frame.rows.iter().map(|row| row.at.status.by_state.live()).sum();
    let owed_bytes = frame.rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.at.owed_nar_bytes));
    let done: u64 = frame.rows.iter().map(|row| row.done).sum();
    let rate = frame
        .rows
        .iter()
        .filter_map(|row| row.at.bytes_per_second)
        .fold(0_u64, u64::saturating_add);
    Line::of(format!(
        "in all: {owed} owed ({} of NARs), {done} done since the watch began, {}/s",
        bytes(owed_bytes),
        bytes(rate)
    ))
}
