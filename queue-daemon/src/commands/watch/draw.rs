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
    let mut lines = Vec::new();
    wrap("", plain(head(frame)), width, &mut lines);
    if let Some(trouble) = frame.trouble {
        lines.push(Line::default().add(Paint::Red, one_line(trouble).to_string()));
    }
    if frame.rows.is_empty() {
        lines.push(Line::of("no destinations"));
    }
    let columns = Columns::of(frame, width);
    for row in &frame.rows {
        lines.push(Line::default());
        destination(row, columns, width, &mut lines);
    }
    if frame.rows.len() > 1 {
        lines.push(Line::default());
        wrap("", plain(in_all(frame)), width, &mut lines);
    }
    lines.into_iter().map(|line| line.finish(width, paint)).collect()
}

/// The same for all destinations, so that they stand below each other.
#[derive(Debug, Clone, Copy)]
struct Columns {
    name: usize,
    bar: usize,
}

impl Columns {
    fn of(frame: &Frame<'_>, width: usize) -> Self {
        let longest = |length: &dyn Fn(&Row<'_>) -> usize| frame.rows.iter().map(length).max().unwrap_or(0);
        let name = longest(&|row| shown_name(row).chars().count());
        let beside = if width < WIDE { 9 } else { name + 12 + longest(&|row| row.pace().chars().count()) };
        Self { name, bar: width.saturating_sub(beside).clamp(BAR_MIN, BAR_MAX) }
    }
}

fn shown_name(row: &Row<'_>) -> String {
    cut(&one_line(row.name).to_string(), NAME_MAX)
}

fn head(frame: &Frame<'_>) -> Vec<String> {
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
    parts
}

fn destination(row: &Row<'_>, columns: Columns, width: usize, lines: &mut Vec<Line>) {
    let (name, pace) = (shown_name(row), row.pace());
    let bar = |line| row.thousandths.map(|thousandths| barred(line, thousandths, columns.bar));
    if width < WIDE {
        lines.push(Line::of(name));
        lines.extend(bar(Line::of("  ")));
        lines.extend((!pace.is_empty()).then(|| Line::of(format!("  {pace}"))));
    } else {
        let begin = || Line::of(format!("{name:<0$}  ", columns.name));
        let line = bar(begin()).map_or_else(begin, |line| line.add(Paint::Plain, "  "));
        lines.push(line.add(Paint::Plain, pace));
    }
    if let Some(note) = row.note() {
        lines.push(Line::of("  ").add(Paint::Yellow, note));
    }
    let counts = row.counts().into_iter().map(|(state, text)| (paint_of(state), text));
    wrap("  ", counts.collect(), width, lines);
    let moving = row.at.moving.iter().take(MOVING_SHOWN);
    lines.extend(moving.map(|moving| Line::of(on_its_way(moving, width))));
    if row.at.moving.len() > MOVING_SHOWN {
        lines.push(Line::of(format!("    and {} more", row.at.moving.len() - MOVING_SHOWN)));
    }
}

fn paint_of(state: Option<StateName>) -> Paint {
    match state {
        Some(StateName::Dead | StateName::Gone) => Paint::Red,
        Some(StateName::Waiting) => Paint::Yellow,
        Some(
            StateName::Queued
            | StateName::Leased
            | StateName::Pushing
            | StateName::Verifying
            | StateName::Done,
        )
        | None => Paint::Plain,
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

fn plain(parts: Vec<String>) -> Vec<(Paint, String)> {
    parts.into_iter().map(|text| (Paint::Plain, text)).collect()
}

/// Parts with commas between them, on as many lines as they need.
fn wrap(indent: &str, parts: Vec<(Paint, String)>, width: usize, lines: &mut Vec<Line>) {
    let mut line: Option<Line> = None;
    for (paint, text) in parts {
        let begun = match line {
            None => Line::of(indent),
            Some(line) if line.len() + text.chars().count() + 3 > width => {
                lines.push(line.add(Paint::Plain, ","));
                Line::of(indent)
            }
            Some(line) => line.add(Paint::Plain, ", "),
        };
        line = Some(begun.add(paint, text));
    }
    lines.extend(line);
}

/// The name without the hash, which says little and is long; `eka-queue show` and `--json` have all of it.
fn on_its_way(moving: &MovingPath, width: usize) -> String {
    let base = moving.path.rsplit('/').next().unwrap_or_default();
    let name = one_line(base.split_once('-').map_or(base, |(_, name)| name));
    let sent = bytes(moving.sent_bytes);
    if width < WIDE {
        return format!("  {sent:>10}  {name}");
    }
    let of =
        if moving.nar_bytes > 0 { format!("NAR {:>10}", bytes(moving.nar_bytes)) } else { String::new() };
    format!("  {sent:>10} sent  {of:<14}  {:>6}  {name}", span(moving.since_seconds))
}

fn in_all(frame: &Frame<'_>) -> Vec<String> {
    let owed: u64 = frame.rows.iter().map(|row| row.at.status.by_state.live()).sum();
    let owed_bytes = frame.rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.at.owed_nar_bytes));
    let done: u64 = frame.rows.iter().map(|row| row.done).sum();
    let rates = frame.rows.iter().filter_map(|row| row.at.bytes_per_second);
    let mut parts = vec![format!("in all {owed} owed"), format!("{} of NARs", bytes(owed_bytes))];
    parts.extend((!frame.still).then(|| format!("{done} done since the watch began")));
    parts.push(format!("{}/s", bytes(rates.fold(0, u64::saturating_add))));
    parts
}
