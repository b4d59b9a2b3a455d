//! A pattern for the names of store paths comes in; yes or no for each name comes out. `*`, `?`, `[abc]`, `[a-z]`
//! and `[!abc]` as in a shell, over the whole name and case sensitive. A pattern that could never match a name (a
//! slash, braces, an open bracket) is an error instead of a rule that silently does nothing. The globs of
//! repositories and branches have other rules and live elsewhere.

/// Most bytes of a pattern. No name is longer than 211.
pub const PATTERN_MAX: usize = 256;

/// A pattern over the name of a store path, such as `*-spec.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    source: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// This byte.
    Byte(u8),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[...]`: one bit for each ASCII character.
    Set(u128),
}

/// Why a text is no pattern. `at` counts bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// No characters.
    #[error("the pattern is empty; write * to match every name")]
    Empty,
    /// More than [`PATTERN_MAX`] bytes.
    #[error("the pattern has {0} bytes, more than {PATTERN_MAX}; write several shorter ones")]
    TooLong(usize),
    /// A character outside of brackets that no name has.
    #[error(
        "pattern `{pattern}`: no name of a store path has the character {found:?} (byte {at}); names are made of \
         A-Z a-z 0-9 + - . _ ? = and the pattern sees only what follows the hash"
    )]
    NeverInAName {
        /// The pattern, escaped.
        pattern: String,
        /// Where.
        at: usize,
        /// The character.
        found: char,
    },
    /// `[` without `]`.
    #[error("pattern `{pattern}`: the bracket at byte {at} is not closed; close it with ]")]
    Open {
        /// The pattern, escaped.
        pattern: String,
        /// Where.
        at: usize,
    },
    /// `[z-a]`.
    #[error("pattern `{pattern}`: the range at byte {at} runs backwards and matches nothing; swap its ends")]
    Backwards {
        /// The pattern, escaped.
        pattern: String,
        /// Where.
        at: usize,
    },
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`GlobError`] for a pattern that is malformed or can match no name at all.
    pub fn parse(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        if pattern.len() > PATTERN_MAX {
            return Err(GlobError::TooLong(pattern.len()));
        }
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(found) = pattern[at..].chars().next() {
            let step = match found {
                '*' => Step::Star,
                '?' => Step::Any,
                '[' => {
                    let (set, end) = parse_set(pattern, at)?;
                    at = end;
                    Step::Set(set)
                }
                _ => Step::Byte(name_byte(pattern, at, found)?),
            };
            at += found.len_utf8();
            if !(step == Step::Star && steps.last() == Some(&Step::Star)) {
                steps.push(step);
            }
        }
        Ok(Self { source: pattern.to_owned(), steps })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Does the pattern match the whole of `name`? See [`takes_all`] for how long that takes.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        takes_all(&self.steps, name.as_bytes(), |step| *step == Step::Star, |step, byte| step.takes(*byte))
    }
}

/// Do the steps of a pattern take the whole of a text? `is_star` says which steps take any run of it, also an empty one,
/// and `takes` what the others take one of. At most as many steps as the one's length times the other's: only the last
/// star is ever taken up again.
pub fn takes_all<S, T>(
    steps: &[S],
    text: &[T],
    is_star: impl Fn(&S) -> bool,
    takes: impl Fn(&S, &T) -> bool,
) -> bool {
    let (mut at, mut step) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match steps.get(step) {
            Some(star) if is_star(star) => {
                retry = Some((step, at));
                step += 1;
                continue;
            }
            Some(one) if takes(one, &text[at]) => {
                at += 1;
                step += 1;
                continue;
            }
            Some(_) | None => {}
        }
        let Some((star, taken)) = retry else { return false };
        retry = Some((star, taken + 1));
        at = taken + 1;
        step = star + 1;
    }
    steps[step..].iter().all(is_star)
}

impl Step {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => *wanted == byte,
            Self::Any | Self::Star => true,
            Self::Set(set) => byte < 128 && set & (1 << byte) != 0,
        }
    }
}

/// The byte of `found` if a name can have it.
fn name_byte(pattern: &str, at: usize, found: char) -> Result<u8, GlobError> {
    match u8::try_from(found) {
        Ok(byte) if byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte) => Ok(byte),
        _ => Err(GlobError::NeverInAName { pattern: escaped(pattern), at, found }),
    }
}

/// The set that opens at byte `open`, and the byte of its closing bracket.
fn parse_set(pattern: &str, open: usize) -> Result<(u128, usize), GlobError> {
    let unclosed = || GlobError::Open { pattern: escaped(pattern), at: open };
    let bytes = pattern.as_bytes();
    let mut at = open + 1;
    let negated = matches!(bytes.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut set = 0_u128;
    loop {
        let low = *bytes.get(at).ok_or_else(unclosed)?;
        if low == b']' && at > first {
            break;
        }
        if !low.is_ascii() {
            let found = pattern[at..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
            return Err(GlobError::NeverInAName { pattern: escaped(pattern), at, found });
        }
        let (high, len) = match (bytes.get(at + 1), bytes.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' && high.is_ascii() => (*high, 3),
            _ => (low, 1),
        };
        if high < low {
            return Err(GlobError::Backwards { pattern: escaped(pattern), at });
        }
        (low..=high).for_each(|byte| set |= 1 << byte);
        at += len;
    }
    Ok((if negated { !set } else { set }, at))
}

fn escaped(pattern: &str) -> String {
    pattern.escape_debug().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(matches("*", "anything-1.0"));
        assert!(matches("*-spec.json", "app-spec.json"));
        assert!(!matches("*-spec.json", "app-spec.json5"));
        assert!(!matches("spec", "app-spec"));
        assert!(matches("a?c", "abc"));
        assert!(!matches("a?c", "ac"));
        assert!(matches("a**b", "ab"));
        assert!(matches("*a*b*", "xaxbx"));
        assert!(!matches("*a*b", "ba"));
        assert!(matches("abc*", "abc"));
    }

    #[test]
    fn sets() {
        assert!(matches("v[0-9].[0-9]", "v1.2"));
        assert!(!matches("v[0-9]", "vx"));
        assert!(matches("[!a-c]x", "dx"));
        assert!(!matches("[^a-c]x", "bx"));
        assert!(matches("[?]", "?"));
        assert!(!matches("[?]", "a"));
        assert!(matches("[]a]", "a"));
        assert!(matches("[a-]", "-"));
        assert!(matches("[-a]", "-"));
        assert!(matches("[a-a]b", "ab"));
        assert!(!matches("[a-a]b", "-b"));
    }

    #[test]
    fn a_pattern_that_can_never_match_is_an_error() {
        assert_eq!(Glob::parse(""), Err(GlobError::Empty));
        assert!(matches!(Glob::parse("a/b"), Err(GlobError::NeverInAName { at: 1, found: '/', .. })));
        assert!(matches!(Glob::parse("{a,b}"), Err(GlobError::NeverInAName { at: 0, found: '{', .. })));
        assert!(matches!(Glob::parse("aü"), Err(GlobError::NeverInAName { at: 1, found: 'ü', .. })));
        assert!(matches!(Glob::parse("[aü]"), Err(GlobError::NeverInAName { at: 2, found: 'ü', .. })));
        assert!(matches!(Glob::parse("x[a"), Err(GlobError::Open { at: 1, .. })));
        assert!(matches!(Glob::parse("[]"), Err(GlobError::Open { .. })));
        assert!(matches!(Glob::parse("[z-a]"), Err(GlobError::Backwards { at: 1, .. })));
        assert_eq!(Glob::parse(&"a".repeat(300)), Err(GlobError::TooLong(300)));
    }

    #[test]
    fn many_stars_do_not_blow_up() {
        let pattern = Glob::parse(&"a*".repeat(100)).unwrap();
        let name = "a".repeat(211);
        let hostile = format!("{}b", "a".repeat(99));
        assert!(pattern.matches(&name));
        assert!(!pattern.matches(&hostile));
    }

    /// The obvious definition, exponential and therefore only for short inputs.
    fn oracle(steps: &[Step], name: &[u8]) -> bool {
        match (steps.split_first(), name.split_first()) {
            (None, rest) => rest.is_none(),
            (Some((Step::Star, more)), rest) => {
                oracle(more, name) || rest.is_some_and(|(_, name)| oracle(steps, name))
            }
            (Some((step, more)), Some((byte, rest))) => step.takes(*byte) && oracle(more, rest),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{1,8}|[ab*]{0,3}\\[[!^]?[abc-]{1,3}\\][ab*?]{0,3}", name in "[abc-]{0,8}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                prop_assert_eq!(glob.matches(&name), oracle(&glob.steps, name.as_bytes()));
            }
        }

        #[test]
        fn any_text_is_a_pattern_or_an_error(pattern in "\\PC{0,40}", name in "\\PC{0,40}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _ = glob.matches(&name); // only that it returns
            }
        }

        #[test]
        fn a_name_matches_itself(name in "[a-z0-9+.=_-]{1,60}") {
            prop_assert!(matches(&name, &name));
        }
    }
}
