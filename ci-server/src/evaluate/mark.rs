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

/// What begins each mark of a walk that was given this word.
pub(crate) fn prefix(nonce: &str) -> String {
    format!("trace: @{nonce} ")
}

/// Reads the text behind [`prefix`]. `None` when it is no whole mark: its process was ended in the midst of it.
pub(crate) fn parse(text: &str) -> Option<(Place, Mark<'_>)> {
    let mut words = text.splitn(3, ' ');
    let (kind, place, detail) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let mark = match kind {
        "b" => Mark::Begins(serde_json::from_str(detail).ok()?),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_and_halves_of_them_are_not() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        for (text, want) in [
            (r#"b 3.17 "a\n\"b""#, Some((place("3.17"), Mark::Begins(Some("a\n\"b".into()))))),
            ("b 0 null", Some((place("0"), Mark::Begins(None)))),
            ("s - 5", Some((place("-"), Mark::Holds(5)))),
            ("x 1 ", Some((place("1"), Mark::Throws))),
            (r#"j 2 {"n":"a b"}"#, Some((place("2"), Mark::Job(r#"{"n":"a b"}"#)))),
            ("z - ", Some((place("-"), Mark::End))),
            ("l 4 its depth", Some((place("4"), Mark::TooLarge("its depth")))),
            (r#"b 3.17 "a\n"#, None),
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
}
