//! The terminal a picture is drawn on, over itself.
//!
//! In flow lines that fit it; out flow the control sequences that replace the last picture. The cursor is hidden
//! meanwhile, and is there again when this ends, below the picture.

use std::io::{self, IsTerminal, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is taken of a terminal that does not say its size.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// True when our output is a terminal that can be drawn on.
pub(super) fn is_live() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// The size of the terminal our output is.
pub(super) fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        Ok(_) | Err(_) => USUAL,
    }
}

/// The picture on the terminal.
pub(super) struct Screen {
    /// Colours are wanted.
    paint: bool,
    /// Lines of the picture that is there, and the size it was drawn for.
    drawn: Option<(usize, Size)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let paint = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { paint, drawn: None }
    }

    /// Draws a picture over the last one; lines below the terminal's end are left out.
    pub(super) fn draw(&mut self, picture: impl FnOnce(Size, bool) -> Vec<String>) -> io::Result<()> {
        let size = size();
        let mut lines = picture(size, self.paint);
        if lines.len() >= size.rows {
            let left_out = lines.len() - size.rows.saturating_sub(2);
            lines.truncate(size.rows.saturating_sub(2));
            lines.push(super::text::cut(&format!("and {left_out} more line(s)"), size.columns));
        }
        let mut frame = String::from("\x1b[?25l\x1b[?7l"); // no cursor, no wrapping
        match self.drawn {
            None => {}
            Some((count, drawn_for)) if drawn_for == size => frame.push_str(&format!("\x1b[{count}A\r")),
            // What is there may have been wrapped anew: begin on an empty screen.
            Some(_) => frame.push_str("\x1b[H\x1b[2J"),
        }
        for line in &lines {
            frame.push_str(line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J\x1b[?7h");
        self.drawn = (!lines.is_empty()).then_some((lines.len(), size));
        let mut stdout = io::stdout().lock();
        stdout.write_all(frame.as_bytes())?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        let shown = stdout.write_all(b"\x1b[?7h\x1b[?25h").and_then(|()| stdout.flush());
        let _ = shown; // the terminal is gone, and its cursor with it
    }
}

/// Hears that the terminal has another size.
pub(super) struct Resized(Option<Signal>);

impl Resized {
    /// Within a runtime. Where the system refuses, the next picture has the new size all the same.
    pub(super) fn listen() -> Self {
        Self(signal(SignalKind::window_change()).ok())
    }

    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some(resized) => {
                resized.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}
