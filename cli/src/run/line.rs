//! Lines of a terminal in the making: pieces of text with a colour each come in, a line that fits so many columns comes
//! out. Colours only repeat what the words say. Pure.

use super::text::{begin, columns, cut};

/// How a piece of text is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Green => Some("32"),
            Self::Yellow => Some("33"),
            Self::Red => Some("31"),
        }
    }
}

/// A line in the making. Its pieces hold no control characters: [`super::text::safe`] was there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(Vec<(Paint, String)>);

impl Line {
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self::default().add(Paint::Plain, text)
    }

    pub(crate) fn painted(paint: Paint, text: impl Into<String>) -> Self {
        Self::default().add(paint, text)
    }

    pub(crate) fn add(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// The line in at most so many columns, without blanks at its end; what was cut ends with `…`.
    pub(crate) fn finish(mut self, width: usize, paint: bool) -> String {
        while let Some((_, last)) = self.0.last_mut() {
            last.truncate(last.trim_end().len());
            if !last.is_empty() {
                break;
            }
            self.0.pop();
        }
        let is_cut = self.0.iter().map(|(_, text)| columns(text)).sum::<usize>() > width;
        let (mut shown, mut left) = (String::new(), width.saturating_sub(usize::from(is_cut)));
        for (colour, text) in self.0 {
            let text = begin(&text, left);
            left -= columns(text);
            match colour.code().filter(|_| paint && !text.is_empty()) {
                Some(code) => shown.push_str(&format!("\x1b[{code}m{text}\x1b[0m")),
                None => shown.push_str(text),
            }
        }
        if is_cut && width > 0 {
            shown.push('…');
        }
        shown
    }
}

/// Cells below each other: every column as wide as its widest cell, but for the one that gives way when there is not
/// enough room.
#[derive(Debug, Default)]
pub(crate) struct Table {
    indent: usize,
    columns: Vec<Column>,
    rows: Vec<Vec<(Paint, String)>>,
}

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// To the left.
    Left,
    /// To the right: numbers.
    Right,
    /// To the left, and the first to be cut.
    Gives,
}

/// Columns between two columns.
const GAP: usize = 2;
/// A column that gives way keeps this much, if it has it.
const KEPT_MIN: usize = 12;

impl Table {
    pub(crate) fn new(indent: usize, columns: Vec<Column>) -> Self {
        Self { indent, columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<(Paint, String)>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// How wide it would be, if it could.
    pub(crate) fn columns(&self) -> usize {
        self.indent + self.widths().iter().sum::<usize>() + GAP * self.columns.len().saturating_sub(1)
    }

    fn widths(&self) -> Vec<usize> {
        let widest = |place: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(place));
            cells.map(|(_, text)| columns(text)).max().unwrap_or(0)
        };
        (0..self.columns.len()).map(widest).collect()
    }

    /// What fits into so many columns: of those that give way the widest is cut first.
    fn fitting(&self, width: usize) -> Vec<usize> {
        let mut widths = self.widths();
        for _ in width..self.columns() {
            let giving = (0..widths.len()).filter(|place| self.columns[*place] == Column::Gives);
            match giving.filter(|place| widths[*place] > KEPT_MIN).max_by_key(|place| widths[*place]) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            }
        }
        widths
    }

    /// Its lines, none of which needs more than `width` columns as long as there is room for [`KEPT_MIN`]; a line that
    /// does is cut when it is finished.
    pub(crate) fn lines(self, width: usize) -> Vec<Line> {
        let widths = self.fitting(width);
        let line = |cells: Vec<(Paint, String)>| {
            let mut line = Line::of(" ".repeat(self.indent));
            for (place, (paint, text)) in cells.into_iter().enumerate() {
                let text = cut(&text, widths[place]);
                let pad = " ".repeat(widths[place] - columns(&text));
                let gap = if place == 0 { "" } else { "  " };
                line = match self.columns[place] {
                    Column::Right => line.add(Paint::Plain, format!("{gap}{pad}")).add(paint, text),
                    Column::Left | Column::Gives => {
                        line.add(Paint::Plain, gap).add(paint, text).add(Paint::Plain, pad)
                    }
                };
            }
            line
        };
        self.rows.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_ends_without_blanks() {
        let line =
            || Line::of("  ").add(Paint::Red, "bad").add(Paint::Plain, ": why   ").add(Paint::Dim, "  ");
        assert_eq!(line().finish(80, false), "  bad: why");
        assert_eq!(line().finish(80, true), "  \x1b[31mbad\x1b[0m: why");
        assert_eq!([line().finish(4, false), line().finish(0, false)], ["  b…", ""]);
    }

    #[test]
    fn the_column_that_gives_way_is_cut_alone() {
        let table = || {
            let mut table = Table::new(2, vec![Column::Left, Column::Gives, Column::Right]);
            table.row(vec![
                (Paint::Plain, "a".into()),
                (Paint::Plain, "x".repeat(30)),
                (Paint::Plain, "7".into()),
            ]);
            table.row(vec![
                (Paint::Plain, "bbb".into()),
                (Paint::Plain, "数".into()),
                (Paint::Plain, "1,204".into()),
            ]);
            table
        };
        let lines = |width| {
            table().lines(width).into_iter().map(|line| line.finish(width, false)).collect::<Vec<_>>()
        };
        assert_eq!(lines(30), ["  a    xxxxxxxxxxxxxxx…      7", "  bbb  数                1,204"]);
        assert!(lines(5).iter().all(|line| columns(line) <= 5));
    }
}
