//! The terminal a picture is drawn on, over itself: lines that fit it come in, control sequences that replace the last
//! picture go out to standard error, one write for each picture. The cursor is hidden meanwhile, and is there again when
//! this ends, below the picture.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use super::super::text::{columns, count, cut};

/// What is taken of a terminal that does not say its size.
const USUAL: Size = Size { columns: 80, rows: 24 };
/// How the cursor stands. Changed only while standard error is held.
static CURSOR: AtomicU8 = AtomicU8::new(UNTOUCHED);
const UNTOUCHED: u8 = 0;
/// We have hidden it.
const HIDDEN: u8 = 1;
/// We have given it back, and will not hide it again.
const RESTORED: u8 = 2;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

/// True when standard error is a terminal that can be drawn on.
pub(super) fn is_live() -> bool {
    io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        Ok(_) | Err(_) => USUAL,
    }
}

/// One line.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}"); // nobody reads it; the run goes on
}

/// Gives the cursor back, when it was taken, and lets nobody draw any more: whatever ends the program calls it.
pub(super) fn restore() {
    let mut stderr = io::stderr().lock();
    if CURSOR.swap(RESTORED, Ordering::SeqCst) == HIDDEN {
        let shown = stderr.write_all(b"\x1b[?7h\x1b[?25h").and_then(|()| stderr.flush());
        let _ = shown; // the terminal is gone, and its cursor with it
    }
}

/// The picture on the terminal.
pub(super) struct Screen {
    paint: bool,
    /// How wide each line of the picture is that is there.
    drawn: Vec<usize>,
}

impl Screen {
    pub(super) fn new(paint: bool) -> Self {
        Self { paint, drawn: Vec::new() }
    }

    /// Draws a picture over the last one; lines that the terminal has no room for are left out.
    pub(super) fn draw(&mut self, picture: impl FnOnce(usize, bool) -> Vec<String>) -> io::Result<()> {
        let size = size();
        // The last column stays free: some terminals begin a line when it is written to.
        let width = size.columns.saturating_sub(1);
        let lines = fitting(picture(width, self.paint), size.rows, width);
        let frame = over(&self.drawn, &lines, size.columns);
        self.drawn = lines.iter().map(|line| columns(&unpainted(line))).collect();
        let mut stderr = io::stderr().lock();
        if CURSOR.load(Ordering::SeqCst) == RESTORED {
            return Ok(());
        }
        CURSOR.store(HIDDEN, Ordering::SeqCst);
        stderr.write_all(frame.as_bytes())?;
        stderr.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// As many lines as the terminal has room for.
fn fitting(mut lines: Vec<String>, rows: usize, width: usize) -> Vec<String> {
    if lines.len() >= rows {
        let kept = rows.saturating_sub(2);
        let left_out = lines.len() - kept;
        lines.truncate(kept);
        lines.push(cut(&format!("and {}", count(left_out, "more line")), width));
    }
    lines
}

/// What replaces a picture whose lines are so wide. A terminal that became narrower since has wrapped them, and the
/// picture is higher now.
fn over(drawn: &[usize], lines: &[String], columns: usize) -> String {
    let height: usize = drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
    let mut frame = String::from("\x1b[?25l\x1b[?7l"); // no cursor, no wrapping
    if height > 0 {
        frame.push_str(&format!("\x1b[{height}A\r"));
    }
    for line in lines {
        frame.push_str(line);
        frame.push_str("\x1b[K\r\n");
    }
    frame.push_str("\x1b[J\x1b[?7h");
    frame
}

/// A line without its colours.
fn unpainted(line: &str) -> String {
    let (mut plain, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let lines = ["one".to_owned(), "two".to_owned()];
        assert_eq!(over(&[], &lines, 80), "\x1b[?25l\x1b[?7lone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J\x1b[?7h");
        assert!(over(&[3, 0], &lines, 80).starts_with("\x1b[?25l\x1b[?7l\x1b[2A\rone"));
        assert!(over(&[30, 0], &lines, 10).contains("\x1b[4A\r"), "it was wrapped since");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let lines = |count: usize| (0..count).map(|place| place.to_string()).collect::<Vec<_>>();
        assert_eq!(fitting(lines(3), 4, 80), lines(3));
        assert_eq!(fitting(lines(5), 4, 80), ["0", "1", "and 3 more lines"]);
        assert_eq!(fitting(lines(5), 1, 4), ["and…"]);
        assert_eq!(unpainted("a\x1b[31mb\x1b[0mc"), "abc");
    }
}
