//! Lines for a person. Words come in, one write per line goes out, on standard error, with the program's name
//! in front. Whatever came from outside is made printable first: names and answers are other people's text.

use core::fmt::{self, Write as _};

use hook_wire::is_printable;

use crate::{Stream, Sys};

/// Most bytes of one line; what is longer is cut and marked.
const LINE_MAX: usize = 1024;
/// Most bytes of a foreign name inside a line.
const NAME_SHOWN_MAX: usize = 200;
/// Most lines of a foreign text.
const LINES_SHOWN_MAX: usize = 20;
const CUT: &str = "…";

/// One line to standard error.
pub(crate) fn say<S: Sys>(sys: &S, words: fmt::Arguments<'_>) {
    let mut line = Text::<LINE_MAX>::new();
    // A `Text` cuts instead of failing, and our own Display implementations do not fail.
    let _ = write!(line, "eka-hook: {words}");
    line.end_line();
    sys.print(Stream::Err, line.bytes());
}

/// A foreign text of several lines, each as a line of its own.
pub(crate) fn say_text<S: Sys>(sys: &S, text: &str) {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    for line in lines.by_ref().take(LINES_SHOWN_MAX) {
        say(sys, format_args!("{}", Shown { bytes: line.as_bytes(), max: LINE_MAX }));
    }
    if lines.next().is_some() {
        say(sys, format_args!("{CUT}"));
    }
}

/// A foreign name in a form that cannot break out of its line.
pub(crate) fn shown(bytes: &[u8]) -> Shown<'_> {
    Shown { bytes, max: NAME_SHOWN_MAX }
}

/// Foreign bytes, printable: what is not is written as `\xNN`, and the end is cut.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    bytes: &'a [u8],
    max: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.max;
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                left = match left.checked_sub(c.len_utf8()) {
                    None => return f.write_str(CUT),
                    Some(left) => left,
                };
                if is_printable(c) {
                    f.write_char(c)?;
                } else {
                    escaped(f, c.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
            }
            left = match left.checked_sub(chunk.invalid().len()) {
                None => return f.write_str(CUT),
                Some(left) => left,
            };
            escaped(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Text in a fixed place; what does not fit is cut off between two characters.
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
    cut: bool,
}

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0, cut: false }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether something did not fit.
    pub(crate) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Ends the line, with a mark when it was cut.
    fn end_line(&mut self) {
        let end = if self.cut { "…\n" } else { "\n" };
        let text = str::from_utf8(self.bytes()).unwrap_or_default();
        let kept = text.floor_char_boundary(N.saturating_sub(end.len()));
        self.len = kept;
        self.push(end);
    }

    fn push(&mut self, text: &str) {
        let fits = text.floor_char_boundary(N - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        self.cut |= fits < text.len();
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.cut {
            self.push(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_names_cannot_break_out_of_a_line() {
        assert_eq!(shown(b"a\n\x1b[31mb\xffc").to_string(), "a\\x0a\\x1b[31mb\\xffc");
        assert_eq!(shown("\u{202e}ü".as_bytes()).to_string(), "\\xe2\\x80\\xaeü");
        assert_eq!(shown(&[b'x'; 201]).to_string(), "x".repeat(200) + "…");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut text = Text::<8>::new();
        assert!(write!(text, "ab{}", "ü".repeat(9)).is_ok());
        assert!(text.is_cut());
        text.end_line();
        assert_eq!(String::from_utf8_lossy(text.bytes()), "abü…\n");
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_printable(bytes: std::vec::Vec<u8>) {
            prop_assert!(shown(&bytes).to_string().chars().all(is_printable));
        }
    }
}
