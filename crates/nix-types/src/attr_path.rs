//! Where a value lies in a set of Nix: components come in, from an evaluator's lists or from people's text; an
//! [`AttrPath`] comes out, and its text is what Nix itself would take. A component may hold any text at all, for Nix
//! allows any; nothing here is ever put into a command line or an expression.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest path that is taken, in bytes of all components.
pub const ATTR_PATH_BYTES_MAX: usize = 4096;
/// Most components.
pub const ATTR_PATH_DEPTH_MAX: usize = 64;

/// A path of attribute names; the empty path is the root. Ordered by components.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AttrPath(Vec<String>);

/// Text or components that are no attribute path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAttrPath {
    /// Too long.
    #[error("the attribute path has more than {ATTR_PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Too deep.
    #[error("the attribute path has more than {ATTR_PATH_DEPTH_MAX} components")]
    TooDeep,
    /// Text that cannot be split.
    #[error("{text:?} is no attribute path: {why}")]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl AttrPath {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Components as an evaluator gives them.
    ///
    /// # Errors
    /// When there are too many, or they are too long.
    pub fn new(components: Vec<String>) -> Result<Self, NotAnAttrPath> {
        if components.len() > ATTR_PATH_DEPTH_MAX {
            return Err(NotAnAttrPath::TooDeep);
        }
        if components.iter().map(String::len).sum::<usize>() > ATTR_PATH_BYTES_MAX {
            return Err(NotAnAttrPath::TooLong);
        }
        Ok(Self(components))
    }

    /// The names from the root on.
    #[must_use]
    pub fn components(&self) -> &[String] {
        &self.0
    }

    /// Is it the root?
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Does it lie at `ancestor`, or below?
    #[must_use]
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.0.starts_with(&ancestor.0)
    }
}

impl TryFrom<Vec<String>> for AttrPath {
    type Error = NotAnAttrPath;

    fn try_from(components: Vec<String>) -> Result<Self, NotAnAttrPath> {
        Self::new(components)
    }
}

impl From<AttrPath> for Vec<String> {
    fn from(path: AttrPath) -> Self {
        path.0
    }
}

/// As people write it: `a.b`, `a."b.c"`. The empty text is the root.
impl FromStr for AttrPath {
    type Err = NotAnAttrPath;

    fn from_str(text: &str) -> Result<Self, NotAnAttrPath> {
        let malformed = |why| NotAnAttrPath::Malformed { text: text.chars().take(200).collect(), why };
        let (mut components, mut rest) = (Vec::new(), text);
        if rest.is_empty() {
            return Ok(Self::root());
        }
        loop {
            let (component, after) = match rest.strip_prefix('"') {
                Some(quoted) => unquote(quoted).ok_or_else(|| malformed("a quote is not closed"))?,
                None => {
                    let end = rest.find('.').unwrap_or(rest.len());
                    if rest[..end].contains('"') {
                        return Err(malformed("a quote begins inside a name"));
                    }
                    (rest[..end].to_owned(), &rest[end..])
                }
            };
            if component.is_empty() && !rest.starts_with('"') {
                return Err(malformed("a name is empty; quote it if it really is"));
            }
            components.push(component);
            if after.is_empty() {
                return Self::new(components);
            }
            rest = after.strip_prefix('.').ok_or_else(|| malformed("`.` expected behind a closing quote"))?;
        }
    }
}

/// A component up to its closing quote, and what comes behind that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut component, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((component, &text[at + 1..])),
            '\\' => component.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => component.push(other),
        }
    }
    None
}

impl fmt::Display for AttrPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, component) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            component_text(f, component)?;
        }
        Ok(())
    }
}

fn component_text(f: &mut fmt::Formatter<'_>, component: &str) -> fmt::Result {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'\'' | b'+');
    if !component.is_empty() && component.bytes().all(is_plain) {
        return f.write_str(component);
    }
    f.write_str("\"")?;
    for c in component.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            other => write!(f, "{other}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_write_it_as_nix_does() {
        for (text, components) in [
            ("", &[][..]),
            ("hello", &["hello"]),
            ("a.b-c", &["a", "b-c"]),
            (r#"packages."x86_64-linux"."a.b""#, &["packages", "x86_64-linux", "a.b"]),
            (r#""""#, &[""]),
        ] {
            assert_eq!(text.parse::<AttrPath>().unwrap().components(), components, "{text}");
        }
        for bad in [".", "a.", ".a", "a..b", "\"a", "\"a\"b", "a\"b\""] {
            assert!(bad.parse::<AttrPath>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn its_text_is_read_back(components in prop::collection::vec(any::<String>(), 0..6)) {
            let path = AttrPath::new(components).unwrap();
            prop_assert_eq!(path.to_string().parse::<AttrPath>().unwrap(), path);
        }
    }
}
