//! A text as whoever undoes its escapes reads it. In: bytes. Out: the bytes that are meant, each with where it was written.
//! Undoes percent-encoding, the escapes of JSON (and of languages like it), those of XML, and line breaks. What is no
//! escape stands for itself.

/// Most bytes in which one is written.
pub(super) const ESCAPE_MAX: usize = 12;

/// What is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `%2B`
    Percent,
    /// `\n`, `\/`, `\u002b`, `\u{2b}`, `\x2b`
    Backslash,
    /// `&amp;`, `&#43;`, `&#x2B;`
    Ampersand,
    /// Line breaks, which wrap what is long.
    Wrap,
}

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Cannot be told yet.
    More,
    /// So many bytes are an escape of this many others.
    Escape(usize, Meant),
    /// The first byte stands for itself.
    Plain,
}

/// What an escape stands for: up to four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Meant {
    bytes: [u8; 4],
    len: usize,
}

impl Meant {
    fn byte(byte: u8) -> Self {
        Self { bytes: [byte, 0, 0, 0], len: 1 }
    }

    fn code(code: u32) -> Self {
        let mut meant = Self::default();
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        meant.len = c.encode_utf8(&mut meant.bytes).len();
        meant
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Percent, Self::Backslash, Self::Ampersand, Self::Wrap];

    /// Whether an escape can begin so.
    pub(super) fn begins(self, byte: u8) -> bool {
        match self {
            Self::Percent => byte == b'%',
            Self::Backslash => byte == b'\\',
            Self::Ampersand => byte == b'&',
            Self::Wrap => matches!(byte, b'\n' | b'\r'),
        }
    }

    /// Looks at bytes, of which there is at least one.
    pub(super) fn step(self, bytes: &[u8]) -> Step {
        if !bytes.first().is_some_and(|byte| self.begins(*byte)) {
            return Step::Plain;
        }
        match self {
            Self::Percent => fixed(bytes, 1, 2).map_or_else(|step| step, |code| byte(3, code)),
            Self::Backslash => backslash(bytes),
            Self::Ampersand => ampersand(bytes),
            Self::Wrap => Step::Escape(1, Meant::default()),
        }
    }
}

fn byte(len: usize, code: u32) -> Step {
    u8::try_from(code).map_or(Step::Plain, |code| Step::Escape(len, Meant::byte(code)))
}

/// A number of so many hexadecimal digits.
fn fixed(bytes: &[u8], from: usize, digits: usize) -> Result<u32, Step> {
    let there = bytes.get(from..).unwrap_or_default();
    let there = &there[..there.len().min(digits)];
    let code = number(there, 16).ok_or(Step::Plain)?;
    if there.len() < digits { Err(Step::More) } else { Ok(code) }
}

/// 0 for no digits.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    digits.iter().try_fold(0_u32, |sum, digit| {
        sum.checked_mul(radix)?.checked_add(char::from(*digit).to_digit(radix)?)
    })
}

fn backslash(bytes: &[u8]) -> Step {
    let Some(second) = bytes.get(1) else { return Step::More };
    let single = |byte| Step::Escape(2, Meant::byte(byte));
    match second {
        b'n' => single(b'\n'),
        b'r' => single(b'\r'),
        b't' => single(b'\t'),
        b'b' => single(8),
        b'f' => single(12),
        b'"' | b'\'' | b'\\' | b'/' => single(*second),
        b'x' => fixed(bytes, 2, 2).map_or_else(|step| step, |code| byte(4, code)),
        b'u' if bytes.get(2) == Some(&b'{') => braced(bytes),
        b'u' => fixed(bytes, 2, 4).map_or_else(|step| step, |code| pair(bytes, code)),
        _ => Step::Plain,
    }
}

/// `\u{2b}`
fn braced(bytes: &[u8]) -> Step {
    let inside = bytes.get(3..).unwrap_or_default();
    match inside.iter().position(|byte| *byte == b'}') {
        Some(len @ 1..=6) => match number(&inside[..len], 16) {
            Some(code) => Step::Escape(len + 4, Meant::code(code)),
            None => Step::Plain,
        },
        Some(_) => Step::Plain,
        None if inside.len() > 6 || number(inside, 16).is_none() => Step::Plain,
        None => Step::More,
    }
}

/// A character of `\uXXXX`, or of two of them.
fn pair(bytes: &[u8], high: u32) -> Step {
    if !(0xd800..0xdc00).contains(&high) {
        return Step::Escape(6, Meant::code(high));
    }
    let alone = Step::Escape(6, Meant::code(high));
    let begun = bytes.get(6..).unwrap_or_default();
    if !b"\\u".starts_with(&begun[..begun.len().min(2)]) {
        return alone;
    }
    match fixed(bytes, 8, 4) {
        Ok(low) if (0xdc00..0xe000).contains(&low) => {
            Step::Escape(12, Meant::code(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)))
        }
        Ok(_) | Err(Step::Plain | Step::Escape(..)) => alone,
        Err(Step::More) => Step::More,
    }
}

fn ampersand(bytes: &[u8]) -> Step {
    let inside = &bytes[1..];
    let Some(len) = inside.iter().position(|byte| *byte == b';') else {
        let may = inside.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'#');
        return if may && bytes.len() < ESCAPE_MAX { Step::More } else { Step::Plain };
    };
    let meant = match &inside[..len] {
        b"amp" => Some(u32::from(b'&')),
        b"lt" => Some(u32::from(b'<')),
        b"gt" => Some(u32::from(b'>')),
        b"quot" => Some(u32::from(b'"')),
        b"apos" => Some(u32::from(b'\'')),
        [b'#', b'x' | b'X', digits @ ..] if !digits.is_empty() => number(digits, 16),
        [b'#', digits @ ..] if !digits.is_empty() => number(digits, 10),
        _ => None,
    };
    meant.map_or(Step::Plain, |code| Step::Escape(len + 2, Meant::code(code)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_writing_a_character_is_undone() {
        let cases: [(Kind, &str, &str); 19] = [
            (Kind::Percent, "%2B", "+"),
            (Kind::Percent, "%2b", "+"),
            (Kind::Percent, "%zz", ""),
            (Kind::Backslash, "\\n", "\n"),
            (Kind::Backslash, "\\/", "/"),
            (Kind::Backslash, "\\u002b", "+"),
            (Kind::Backslash, "\\u00E9", "é"),
            (Kind::Backslash, "\\ud83d\\ude00", "😀"),
            (Kind::Backslash, "\\u{2b}", "+"),
            (Kind::Backslash, "\\u{1f600}", "😀"),
            (Kind::Backslash, "\\x2B", "+"),
            (Kind::Backslash, "\\q", ""),
            (Kind::Ampersand, "&amp;", "&"),
            (Kind::Ampersand, "&#43;", "+"),
            (Kind::Ampersand, "&#x2B;", "+"),
            (Kind::Ampersand, "&#x00002b;", "+"),
            (Kind::Ampersand, "&#;", ""),
            (Kind::Ampersand, "&none;", ""),
            (Kind::Ampersand, "&a b", ""),
        ];
        for (kind, text, meant) in cases {
            let step = kind.step(text.as_bytes());
            match (&step, meant) {
                (Step::Plain, "") => {}
                (Step::Escape(len, found), _) => {
                    assert_eq!((*len, found.as_slice()), (text.len(), meant.as_bytes()), "{text}");
                }
                _ => panic!("{text}: {step:?}"),
            }
            // However much of it is there: it waits, or says what it says of all of it.
            for end in 1..text.len() {
                let early = kind.step(&text.as_bytes()[..end]);
                assert!(early == Step::More || early == step, "{}: {early:?}", &text[..end]);
            }
            assert!(text.len() <= ESCAPE_MAX);
        }
        assert_eq!(Kind::Backslash.step(b"\\ud83d x"), Step::Escape(6, Meant::code(0xd83d)));
        assert_eq!(Kind::Ampersand.step(b"&aaaaaaaaaaaaa"), Step::Plain);
    }
}
