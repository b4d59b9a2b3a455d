//! Text for people: what attackers wrote made fit to be shown, cut and padded by the columns it takes on a terminal, and
//! numbers, sizes and times as people read them. Pure. Leaves out colours and lines: [`super::line`] has those.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// Marks that may sit on one letter; from here on they are written as escapes, for a tower of them covers other lines.
const MARKS_MAX: usize = 4;

/// `text` on one line: whatever would end a line, steer a terminal, reorder what is read around it, or not be seen at
/// all, is written as an escape.
#[must_use]
pub(crate) fn safe(text: &str) -> String {
    let (mut shown, mut marks) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        marks = if columns_of(c) == 0 { marks + 1 } else { 0 };
        if steers(c) || hides(c) || marks > MARKS_MAX || (marks > 0 && shown.is_empty()) {
            shown.extend(c.escape_default());
            marks = 0;
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Can it end a line, move a cursor, or turn the direction of writing?
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Is it there without being seen, or does it change how wide another one is?
fn hides(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1f3fb}'..='\u{1f3ff}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// How many columns a text takes that [`safe`] made.
#[must_use]
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// At most so many columns of it; what was cut ends with `…`.
#[must_use]
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let end = if width > 0 { "…" } else { "" };
    format!("{}{end}", begin(text, width.saturating_sub(1)))
}

/// Its beginning, in at most so many columns.
#[must_use]
pub(crate) fn begin(text: &str, width: usize) -> &str {
    let (mut end, mut taken) = (0, 0);
    for c in text.chars() {
        taken += columns_of(c);
        if taken > width {
            break;
        }
        end += c.len_utf8();
    }
    &text[..end]
}

/// At most so many bytes of it, whole characters; what was cut ends with `…`.
#[must_use]
pub(crate) fn cut_bytes(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let kept = text.floor_char_boundary(bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..kept])
}

/// Words on lines of at most `width` columns; a word that is longer is cut.
#[must_use]
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&cut(word, width));
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// `1,204`
#[must_use]
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 attribute`, `1,204 attributes`: `one` is the singular, its plural ends with an `s`.
#[must_use]
pub(crate) fn count(number: usize, one: &str) -> String {
    format!("{} {one}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Bytes in the largest unit that leaves a number above one.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let (mut unit, mut rest) = (0, count);
    while unit + 1 < UNITS.len() && rest >= 1_024 * 1_024 {
        (unit, rest) = (unit + 1, rest / 1_024);
    }
    let tenths = u128::from(rest) * 10 / 1_024;
    let mut shown = (tenths / 10).to_string();
    if tenths < 100 {
        // Writing to a string does not fail.
        let _ = write!(shown, ".{}", tenths % 10);
    }
    format!("{shown} {}", UNITS[unit])
}

/// A span of time, in its two largest units; below a minute with tenths of a second.
#[must_use]
pub(crate) fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0..60 => format!("{seconds}.{}s", milliseconds % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// So many in so many milliseconds, by the second; `None` when there was no time, or nothing.
#[must_use]
pub(crate) fn rate(number: usize, milliseconds: u64) -> Option<String> {
    let each = (number as u128 * 1_000).checked_div(u128::from(milliseconds))?;
    match usize::try_from(each).ok()? {
        0 if number == 0 => None,
        0 => Some("<1/s".into()),
        each => Some(format!("{}/s", thousands(each))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_steers_hides_or_towers_is_written_out() {
        assert_eq!(safe("a\n\u{1b}[31m\u{9b}2J"), "a\\n\\u{1b}[31m\\u{9b}2J");
        assert_eq!(safe("b\u{202e}c\u{200b}d\u{feff}\u{e0041}"), "b\\u{202e}c\\u{200b}d\\u{feff}\\u{e0041}");
        assert_eq!(safe("größe 数 e\u{301}"), "größe 数 e\u{301}");
        assert_eq!(safe("\u{301}x"), "\\u{301}x", "a mark on what stands before it");
        let tower = format!("a{}", "\u{301}".repeat(6));
        assert_eq!(safe(&tower), "a\u{301}\u{301}\u{301}\u{301}\\u{301}\u{301}");
    }

    #[test]
    fn what_is_cut_says_so_and_wide_letters_count_twice() {
        assert_eq!([cut("größe", 5), cut("größe", 4), cut("größe", 0)], ["größe", "grö…", ""]);
        assert_eq!([cut("数数数", 6), cut("数数数", 5), cut("数数数", 4)], ["数数数", "数数…", "数…"]);
        assert_eq!(cut_bytes("größe", 6), "gr…");
    }

    #[test]
    fn words_are_wrapped_whole() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("a extraordinarily b", 6), ["a", "extra…", "b"]);
    }

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!(
            [0, 999, 1_204, 20_000, 1_000_000].map(thousands).join(" "),
            "0 999 1,204 20,000 1,000,000"
        );
        assert_eq!(
            [0, 1, 2].map(|n| count(n, "attribute")).join(", "),
            "0 attributes, 1 attribute, 2 attributes"
        );
        let sizes = [0, 1_023, 1_536, 10 << 20, 5 << 30, u64::MAX].map(bytes).join(", ");
        assert_eq!(sizes, "0 B, 1023 B, 1.5 KiB, 10 MiB, 5.0 GiB, 15 EiB");
        assert_eq!(
            [0, 1_250, 61_000, 3_660_000, 90_000_000].map(span).join(" "),
            "0.0s 1.2s 1m01s 1h01m 1d01h"
        );
        assert_eq!((rate(1_500, 500).as_deref(), rate(1, 0)), (Some("3,000/s"), None));
        assert_eq!((rate(1, 5_000).as_deref(), rate(0, 10)), (Some("<1/s"), None));
    }

    proptest! {
        #[test]
        fn nothing_that_is_cut_is_wider_than_asked(text in any::<String>(), width in 0_usize..40) {
            let shown = cut(&safe(&text), width);
            prop_assert!(columns(&shown) <= width);
            prop_assert!(!shown.chars().any(|c| steers(c) || hides(c)));
        }
    }
}
