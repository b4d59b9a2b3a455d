//! Lines of a walk's standard error come in; its marks go out. A mark begins with a word that only we and the walk
//! know, so what an expression prints by itself is never taken for one.

use super::place::Place;

/// What a walk tells of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark<'a> {
    /// It looks at it now. The name, unless it is too long to be told.
    Begins(Option<String>),
    /// It is a set or a list, and so many children come now.
    Holds(u32),
    /// It is a job: JSON.
    Job(&'a str),
    /// The meta of the job before: JSON, or `null` when it is too long to be told.
    Meta(&'a str),
    /// It throws.
    Throws,
    /// There is nothing to build.
    Nothing,
    /// It is for a system that is not asked for.
    OtherSystem,
    /// It was not looked at: this of it is too large.
    TooLarge(&'a str),
    /// There is no more.
    End,
}

/// The marks of one walk among the lines of its standard error.
pub(crate) struct Marks {
    prefix: String,
}

impl Marks {
    /// Of the walk that was given this word.
    pub(crate) fn of(nonce: &str) -> Self {
        Self { prefix: format!("@{nonce} ") }
    }

    /// Reads a line. `None` when it is no mark, or no whole one: its process was ended in the midst of it.
    pub(crate) fn read<'l>(&self, line: &'l str) -> Option<(Place, Mark<'l>)> {
        // Nix says that it is a trace before the first of the marks that are told together.
        let line = line.strip_prefix("trace: ").unwrap_or(line);
        line.strip_prefix(&self.prefix).and_then(parse)
    }
}

pub(super) fn parse(text: &str) -> Option<(Place, Mark<'_>)> {
    let mut words = text.splitn(3, ' ');
    let (kind, place, detail) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let mark = match kind {
        "b" => Mark::Begins(Some(name(detail)?)),
        "u" => Mark::Begins(None),
        "s" => Mark::Holds(detail.parse().ok()?),
        "j" => Mark::Job(detail),
        "m" => Mark::Meta(detail),
        "x" => Mark::Throws,
        "e" => Mark::Nothing,
        "o" => Mark::OtherSystem,
        "l" => Mark::TooLarge(detail),
        "z" => Mark::End,
        _ => return None,
    };
    Some((place, mark))
}

/// A name as JSON, but with control characters in it as they are.
fn name(quoted: &str) -> Option<String> {
    let escaped = |c: char| match c {
        '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(c)),
        other => other.to_string(),
    };
    if quoted.bytes().any(|byte| byte < b' ') {
        return serde_json::from_str(&quoted.chars().map(escaped).collect::<String>()).ok();
    }
    serde_json::from_str(quoted).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_and_halves_of_them_are_not() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        for (text, want) in [
            (r#"b 3.17 "a\n\"b""#, Some((place("3.17"), Mark::Begins(Some("a\n\"b".into()))))),
            (
                "b 0 \"a\u{1}\\u001b\u{fffd}\"",
                Some((place("0"), Mark::Begins(Some("a\u{1}\u{1b}\u{fffd}".into())))),
            ),
            ("u 0 ", Some((place("0"), Mark::Begins(None)))),
            ("s - 5", Some((place("-"), Mark::Holds(5)))),
            ("x 1 ", Some((place("1"), Mark::Throws))),
            (r#"j 2 {"n":"a b"}"#, Some((place("2"), Mark::Job(r#"{"n":"a b"}"#)))),
            ("z - ", Some((place("-"), Mark::End))),
            ("l 4 its depth", Some((place("4"), Mark::TooLarge("its depth")))),
            (r#"b 3.17 "a\n"#, None),
            (r#"b 3.17 "a\""#, None),
            ("b 0 null", None),
            ("x 1", None),
            ("b 3.", None),
            ("b -1 \"a\"", None),
            ("s 1 -5", None),
            ("q 1 ", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    #[test]
    fn only_lines_with_the_word_are_marks() {
        let marks = Marks::of("word");
        for (line, is_mark) in [
            ("trace: @word x 1 ", true),
            ("@word x 1 ", true),
            ("trace: @other x 1 ", false),
            ("x 1 ", false),
            (" @word x 1 ", false),
            ("trace: trace: @word x 1 ", false),
            ("@wordx 1 ", false),
        ] {
            assert_eq!(marks.read(line).is_some(), is_mark, "{line}");
        }
    }
}
