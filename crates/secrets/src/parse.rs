//! The content of a credential file, or of a service's secret. In: its text. Out: names and values, from a JSON object or
//! from `KEY=VALUE` lines, or the whole text as one value where the source allows that. Errors say a line, never a word
//! of the text.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::Secret;

/// Most names in one content.
pub const NAMES_MAX: usize = 256;
/// Why [`Pairs`] refuses a name that is there twice: told from other errors by [`json_error`].
const TWICE: &str = "a name stands twice";
/// Why [`Pairs`] refuses too many names.
const MANY: &str = "too many names";

/// Why a content gives no names and values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing is in it.
    #[error("is empty")]
    Empty,
    /// It begins as a JSON object and is none of texts.
    #[error("is no JSON object of names and texts, at line {line}, column {column}")]
    Json {
        /// From 1 on.
        line: usize,
        /// From 1 on.
        column: usize,
    },
    /// A line that is no `KEY=VALUE`.
    #[error("line {line} is neither KEY=VALUE, empty, nor a remark")]
    Line {
        /// From 1 on.
        line: usize,
    },
    /// A quote, or a PEM block, that nothing ends.
    #[error("the value that begins in line {line} has no end: its closing quote or END line is missing")]
    Open {
        /// From 1 on.
        line: usize,
    },
    /// A name that stands twice.
    #[error("line {line} has a name that was there before")]
    Twice {
        /// From 1 on.
        line: usize,
    },
    /// More than [`NAMES_MAX`] names.
    #[error("has more than {NAMES_MAX} names")]
    Many,
}

/// Reads a JSON object, or `KEY=VALUE` lines. Values may be quoted with `'` (as they stand) or `"` (with `\n`, `\t`, `\r`,
/// `\"`, `\\`, `\$`), over several lines; a PEM block needs no quotes. In a PEM block a literal `\n` is a line break.
///
/// # Errors
/// [`ParseError`]
pub fn parse(text: &str) -> Result<BTreeMap<String, Secret>, ParseError> {
    let text = text.trim_start_matches('\u{feff}');
    match text.trim_start().chars().next() {
        None => Err(ParseError::Empty),
        Some('{') => serde_json::from_str(text).map(|Pairs(map)| map).map_err(|error| json_error(&error)),
        Some(_) => lines(text),
    }
}

/// As [`parse`]; but a text whose first line is no `KEY=VALUE` is one value, called `name`, without the line break at its
/// end. A single line that ends behind the first `=`, or behind `==`, is such a value: so do tokens in base64.
///
/// # Errors
/// [`ParseError`]
pub fn parse_or_raw(text: &str, name: &str) -> Result<BTreeMap<String, Secret>, ParseError> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = first.and_then(pair);
    let single = text.trim().lines().count() == 1;
    let padding = pair.is_some_and(|(_, value)| single && matches!(value, "" | "="));
    let json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    if text.trim().is_empty() || json || (pair.is_some() && !padding) {
        return parse(text);
    }
    Ok(BTreeMap::from([(name.to_owned(), tidy(text.trim_end_matches(['\n', '\r'])))]))
}

/// A value as it was meant: PEM blocks are often written with `\n` for their line breaks.
pub(crate) fn tidy(value: &str) -> Secret {
    if value.starts_with("-----BEGIN ") && value.contains("\\n") {
        return Secret::new(value.replace("\\r", "").replace("\\n", "\n"));
    }
    Secret::new(value)
}

fn lines(text: &str) -> Result<BTreeMap<String, Secret>, ParseError> {
    let mut map = BTreeMap::new();
    let mut rest = Rest { text, line: 0 };
    while let Some(line) = rest.next_line() {
        let at = rest.line;
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (name, value) = pair(trimmed).ok_or(ParseError::Line { line: at })?;
        let value = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => rest.quoted(line, value, quote)?,
            _ if value.starts_with("-----BEGIN ") => rest.pem(value)?,
            _ => Secret::new(value),
        };
        if map.len() == NAMES_MAX {
            return Err(ParseError::Many);
        }
        if map.insert(name.to_owned(), tidy(value.reveal())).is_some() {
            return Err(ParseError::Twice { line: at });
        }
    }
    if map.is_empty() { Err(ParseError::Empty) } else { Ok(map) }
}

/// Name and value of a trimmed line.
fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").map_or(line, str::trim_start);
    let (name, value) = line.split_once('=')?;
    let name = name.trim_end();
    is_name(name).then(|| (name, value.trim()))
}

/// Whether a text can name a variable: letters, digits and `_`, no digit in front.
pub(crate) fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// What is still to be read.
struct Rest<'a> {
    text: &'a str,
    /// Lines read so far.
    line: usize,
}

impl<'a> Rest<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        if self.text.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
        self.text = rest;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// A value in quotes that began on the line just read.
    fn quoted(&mut self, line: &'a str, value: &str, quote: char) -> Result<Secret, ParseError> {
        let begun = self.line;
        // From the quote on, with what the trimming took off the end: it may belong to the value.
        let start = line.find(value).unwrap_or_default() + 1;
        let (mut out, mut part) = (zeroize::Zeroizing::new(String::new()), &line[start..]);
        loop {
            let mut chars = part.char_indices();
            while let Some((at, c)) = chars.next() {
                match c {
                    '\\' if quote == '"' => unescape(chars.next().map(|(_, c)| c), &mut out),
                    _ if c == quote => {
                        let behind = part[at + 1..].trim();
                        let clean = behind.is_empty() || behind.starts_with('#');
                        return if clean {
                            Ok(Secret::new(out.as_str()))
                        } else {
                            Err(ParseError::Line { line: self.line })
                        };
                    }
                    _ => out.push(c),
                }
            }
            out.push('\n');
            part = self.next_line().ok_or(ParseError::Open { line: begun })?;
        }
    }

    /// A PEM block that began on the line just read.
    fn pem(&mut self, value: &str) -> Result<Secret, ParseError> {
        let begun = self.line;
        let mut out = zeroize::Zeroizing::new(value.to_owned());
        if value.contains("-----END ") {
            return Ok(Secret::new(out.as_str()));
        }
        loop {
            let line = self.next_line().ok_or(ParseError::Open { line: begun })?.trim();
            out.push('\n');
            out.push_str(line);
            if line.starts_with("-----END ") {
                out.push('\n');
                return Ok(Secret::new(out.as_str()));
            }
        }
    }
}

fn unescape(c: Option<char>, out: &mut String) {
    match c {
        Some('n') => out.push('\n'),
        Some('r') => out.push('\r'),
        Some('t') => out.push('\t'),
        Some(c @ ('"' | '\\' | '$')) => out.push(c),
        Some(c) => out.extend(['\\', c]),
        // A backslash before the end of a line joins the two, but for the line break, which the caller adds.
        None => out.push('\\'),
    }
}

/// Places an error of the JSON parser. Its own words can quote what it read.
pub(crate) fn json_error(error: &serde_json::Error) -> ParseError {
    let text = error.to_string();
    if text.starts_with(TWICE) {
        return ParseError::Twice { line: error.line() };
    }
    if text.starts_with(MANY) {
        return ParseError::Many;
    }
    ParseError::Json { line: error.line(), column: error.column() }
}

/// A JSON object of names and texts; numbers without fraction, and truth values, count as texts.
pub(crate) struct Pairs(pub(crate) BTreeMap<String, Secret>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Pairs, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((name, Text(value))) = from.next_entry::<String, Text>()? {
                    if map.len() == NAMES_MAX {
                        return Err(A::Error::custom(MANY));
                    }
                    if map.insert(name, tidy(value.reveal())).is_some() {
                        return Err(A::Error::custom(TWICE));
                    }
                }
                Ok(Pairs(map))
            }
        }
        from.deserialize_map(Object)
    }
}

/// A JSON text, or what counts as one.
pub(crate) struct Text(pub(crate) Secret);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Secret::new(text)))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(Secret::new(text)))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(Secret::new(number.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(Secret::new(number.to_string())))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(Secret::new(value.to_string())))
            }
        }
        from.deserialize_any(Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIC\nAQAB==\n-----END RSA PRIVATE KEY-----\n";

    fn get(text: &str, name: &str) -> String {
        parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))[name].reveal().to_owned()
    }

    #[test]
    fn every_documented_form_of_a_private_key_is_the_same_key() {
        let escaped = PEM.replace('\n', "\\n");
        for text in [
            format!("A=1\nKEY={PEM}B=2\n"),
            format!("KEY=\"{PEM}\"\n"),
            format!("KEY='{PEM}'"),
            format!("export KEY=\"{escaped}\""),
            format!("KEY={escaped}\n"),
            format!("KEY={}", PEM.replace('\n', "\r\n")),
            format!("{{\"KEY\":\"{escaped}\"}}"),
            format!("{{\"KEY\":\"{}\"}}", escaped.replace('\\', "\\\\")),
        ] {
            assert_eq!(get(&text, "KEY"), PEM, "{text}");
        }
        let raw = parse_or_raw(PEM, "key").unwrap();
        assert_eq!(raw["key"].reveal(), PEM.trim_end());
    }

    #[test]
    fn values_stand_as_they_are_but_for_quotes() {
        let text = "# remark\n\nA = b c#d\\n\nB='x\\ny'\nC=\"a\\tb\\\"c\\$ \\x\" # remark\nD=a=b==\nE=\n F=\" y \"\n";
        for (name, value) in [
            ("A", "b c#d\\n"),
            ("B", "x\\ny"),
            ("C", "a\tb\"c$ \\x"),
            ("D", "a=b=="),
            ("E", ""),
            ("F", " y "),
        ] {
            assert_eq!(get(text, name), value, "{name}");
        }
        let json = r#" {"ID": 123456, "T": true, "S": "a\nb"}"#;
        assert_eq!(
            (get(json, "ID"), get(json, "T"), get(json, "S")),
            ("123456".into(), "true".into(), "a\nb".into())
        );
    }

    #[test]
    fn what_is_wrong_is_said_by_line_and_never_by_word() {
        for (text, expected) in [
            (" \n", ParseError::Empty),
            ("# only a remark\n", ParseError::Empty),
            ("A=1\ncanary\n", ParseError::Line { line: 2 }),
            ("1A=1\n", ParseError::Line { line: 1 }),
            ("A=1\nB=\"canary\n\n", ParseError::Open { line: 2 }),
            ("A=-----BEGIN X-----\ncanary\n", ParseError::Open { line: 1 }),
            ("A='x' canary\n", ParseError::Line { line: 1 }),
            ("A=1\n\nA=canary\n", ParseError::Twice { line: 3 }),
            ("{\"A\":\n\"canary\"", ParseError::Json { line: 2, column: 8 }),
            ("{\"A\":{\"canary\":1}}", ParseError::Json { line: 1, column: 6 }),
            ("{\"A\":1,\n\"A\":2}", ParseError::Twice { line: 2 }),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let many: String = (0..=NAMES_MAX).map(|n| format!("N{n}=1\n")).collect();
        assert_eq!(parse(&many), Err(ParseError::Many));
    }

    #[test]
    fn a_text_without_names_is_one_value_where_that_is_allowed() {
        for token in ["eyJhbGciOi.J9x=", "dG9rZW4=", "dG9rZW4==", "cache-1:AAAA==", "two words", "a\nb"] {
            let raw = parse_or_raw(&format!("{token}\n"), "token").unwrap();
            assert_eq!(raw["token"].reveal(), token);
        }
        assert_eq!(parse_or_raw("A=b", "token").unwrap()["A"].reveal(), "b");
        assert_eq!(parse_or_raw("A=b\ncanary", "token"), Err(ParseError::Line { line: 2 }));
        assert_eq!(parse_or_raw("\n", "token"), Err(ParseError::Empty));
    }
}
