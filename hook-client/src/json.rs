//! A reader for JSON that keeps nothing and allocates nothing: text comes in, and whoever reads asks for the
//! members and strings it wants and skips the rest. All of the text is checked, what is skipped too. Nesting
//! is bounded by [`DEPTH_MAX`]; numbers stay text.

use core::fmt;

/// Deepest nesting of arrays and objects.
pub(crate) const DEPTH_MAX: usize = 64;

/// What is wrong with the text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// Bytes in front of it.
    pub at: usize,
    /// What it is.
    pub problem: JsonProblem,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonProblem {
    /// Something else had to stand here.
    Expected(&'static str),
    /// The text goes on after the value.
    Trailing,
    /// Arrays and objects are nested too deep.
    TooDeep,
    /// A string is not UTF-8, has a bare control character, or an escape that does not exist.
    BadString,
    /// A member that we read is there twice.
    Twice(&'static str),
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.problem {
            JsonProblem::Expected(what) => write!(f, "expected {what} at byte {at}"),
            JsonProblem::Trailing => write!(f, "text after the end at byte {at}"),
            JsonProblem::TooDeep => write!(f, "nested deeper than {DEPTH_MAX} at byte {at}"),
            JsonProblem::BadString => write!(f, "a malformed string at byte {at}"),
            JsonProblem::Twice(name) => write!(f, "a second \"{name}\" at byte {at}"),
        }
    }
}

impl core::error::Error for JsonFault {}

/// The inside of a string's quotes, checked, with its escapes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The characters that are meant.
    pub(crate) fn chars(self) -> impl Iterator<Item = char> + use<'a> {
        let mut rest = self.0.chars();
        core::iter::from_fn(move || match rest.next()? {
            '\\' => unescape(&mut rest),
            plain => Some(plain),
        })
    }

    pub(crate) fn is(self, text: &str) -> bool {
        self.chars().eq(text.chars())
    }
}

/// The character of an escape behind its backslash; `None` when it is none.
fn unescape(rest: &mut core::str::Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        '"' => '"',
        '\\' => '\\',
        '/' => '/',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => match unit(rest)? {
            high @ 0xd800..=0xdbff => {
                if (rest.next()?, rest.next()?) != ('\\', 'u') {
                    return None;
                }
                let low = unit(rest).filter(|low| (0xdc00..=0xdfff).contains(low))?;
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?
            }
            unit => char::from_u32(unit)?,
        },
        _ => return None,
    })
}

fn unit(rest: &mut core::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |value, _| Some(value * 16 + rest.next()?.to_digit(16)?))
}

/// A place in a text, going forward.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

/// What is done with each member or element.
type Each<'e, 'a, T> = &'e mut dyn FnMut(&mut Reader<'a>, T) -> Result<(), JsonFault>;

impl<'a> Reader<'a> {
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    pub(crate) const fn fault(&self, problem: JsonProblem) -> JsonFault {
        JsonFault { at: self.at, problem }
    }

    /// Nothing but blanks is left.
    pub(crate) fn end(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault(JsonProblem::Trailing)),
        }
    }

    /// An object. `each` is called behind the colon of each member and must read its value.
    pub(crate) fn object(&mut self, each: Each<'_, 'a, Raw<'a>>) -> Result<(), JsonFault> {
        self.expect(b'{', "an object")?;
        self.listed(b'}', "a comma or the end of the object", &mut |reader, ()| {
            let name = reader.string()?;
            reader.expect(b':', "a colon")?;
            each(reader, name)
        })
    }

    /// An array. `each` must read one element.
    pub(crate) fn array(&mut self, each: Each<'_, 'a, ()>) -> Result<(), JsonFault> {
        self.expect(b'[', "an array")?;
        self.listed(b']', "a comma or the end of the array", each)
    }

    fn listed(&mut self, close: u8, expected: &'static str, each: Each<'_, 'a, ()>) -> Result<(), JsonFault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fault(JsonProblem::TooDeep));
        }
        if self.peek() != Some(close) {
            loop {
                each(self, ())?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(byte) if byte == close => break,
                    _ => return Err(self.fault(JsonProblem::Expected(expected))),
                }
            }
        }
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// A string.
    pub(crate) fn string(&mut self) -> Result<Raw<'a>, JsonFault> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let bad = JsonFault { at: start, problem: JsonProblem::BadString };
        let mut escapes = false;
        loop {
            match self.text.get(self.at).ok_or(bad)? {
                b'"' => break,
                b'\\' => {
                    escapes = true;
                    self.at += 2;
                }
                0..0x20 => return Err(bad),
                _ => self.at += 1,
            }
        }
        let inside = str::from_utf8(&self.text[start..self.at]).map_err(|_| bad)?;
        self.at += 1;
        if escapes {
            let mut rest = inside.chars();
            while let Some(c) = rest.next() {
                if c == '\\' {
                    unescape(&mut rest).ok_or(bad)?;
                }
            }
        }
        Ok(Raw(inside))
    }

    /// A string, or `null`.
    pub(crate) fn string_or_null(&mut self) -> Result<Option<Raw<'a>>, JsonFault> {
        if self.peek() == Some(b'n') { self.word(b"null").map(|()| None) } else { self.string().map(Some) }
    }

    /// A number, `true` or `false` as its text, also where it is written as a string; or `null`.
    pub(crate) fn scalar_or_null(&mut self) -> Result<Option<&'a [u8]>, JsonFault> {
        match self.peek() {
            Some(b'n') => self.word(b"null").map(|()| None),
            Some(b'"') => self.string().map(|raw| Some(raw.0.as_bytes())),
            Some(b'{' | b'[') => Err(self.fault(JsonProblem::Expected("a value"))),
            _ => {
                let start = self.at;
                self.skip()?;
                Ok(Some(&self.text[start..self.at]))
            }
        }
    }

    /// Any value, checked and dropped.
    pub(crate) fn skip(&mut self) -> Result<(), JsonFault> {
        match self.peek() {
            Some(b'{') => self.object(&mut |reader, _| reader.skip()),
            Some(b'[') => self.array(&mut |reader, ()| reader.skip()),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.number().map(|_| ()),
        }
    }

    fn number(&mut self) -> Result<&'a [u8], JsonFault> {
        self.peek();
        let start = self.at;
        let bad = self.fault(JsonProblem::Expected("a value"));
        self.taken(|b| b == b'-', 1);
        if self.taken(|b| b == b'0', 1) == 0 && self.taken(|b| b.is_ascii_digit(), usize::MAX) == 0 {
            return Err(bad);
        }
        if self.taken(|b| b == b'.', 1) == 1 && self.taken(|b| b.is_ascii_digit(), usize::MAX) == 0 {
            return Err(bad);
        }
        if self.taken(|b| b == b'e' || b == b'E', 1) == 1 {
            self.taken(|b| b == b'+' || b == b'-', 1);
            if self.taken(|b| b.is_ascii_digit(), usize::MAX) == 0 {
                return Err(bad);
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// Goes past at most `max` bytes of a kind; says how many.
    fn taken(&mut self, kind: fn(u8) -> bool, max: usize) -> usize {
        let count = self.text[self.at..].iter().take(max).take_while(|b| kind(**b)).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), JsonFault> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.fault(JsonProblem::Expected("a value")));
        }
        self.at += word.len();
        Ok(())
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonFault> {
        if self.peek() != Some(byte) {
            return Err(self.fault(JsonProblem::Expected(what)));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        self.taken(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'), usize::MAX);
        self.text.get(self.at).copied()
    }
}
