//! Text of outsiders, made safe for one line of a terminal or a log. In: any text. Out: the same text with
//! control characters and text-direction overrides written as escapes. Leaves out any shortening.

use std::fmt::{self, Display, Write};

/// Displays `text` with every control character (line breaks and escape sequences included) and every
/// bidirectional override as `\n`, `\t`, `\r` or `\u{..}`, so that it cannot forge a line or steer a terminal.
#[must_use]
pub fn one_line(text: &str) -> OneLine<'_> {
    OneLine(text)
}

/// See [`one_line`].
#[derive(Debug, Clone, Copy)]
pub struct OneLine<'a>(&'a str);

impl Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if steers(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Whether a character can move the cursor, end a line or reorder what is read around it.
pub(crate) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(one_line("a\nb\u{1b}[31m\u{202e}c").to_string(), "a\\nb\\u{1b}[31m\\u{202e}c");
        assert_eq!(one_line("größe 数").to_string(), "größe 数");
    }
}
