//! Text of people and forges comes in; names that git can take for nothing else come out.

use std::fmt;
use std::str::FromStr;

use super::CheckoutError;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// A branch or another reference, by its full name: `refs/heads/main`, `refs/pull/7/merge`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefName(String);

/// What a person writes for a commit: a hash, a branch, a tag, `HEAD~2`, `origin/main^`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rev(String);

impl RefName {
    /// The branch of this name.
    ///
    /// # Errors
    /// [`CheckoutError::Name`] when it can be none.
    pub fn branch(name: &str) -> Result<Self, CheckoutError> {
        format!("refs/heads/{name}").parse()
    }

    /// Its full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Rev {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RefName {
    type Err = CheckoutError;

    /// By the rules of `git check-ref-format`, and below `refs/`.
    fn from_str(text: &str) -> Result<Self, CheckoutError> {
        let bad = |why| Err(CheckoutError::name(text, "reference", why));
        let Some(rest) = text.strip_prefix("refs/") else {
            return bad("a full name is expected, such as refs/heads/main");
        };
        if text.len() > NAME_BYTES_MAX {
            return bad("it is longer than 1024 bytes");
        }
        let odd = |c: char| {
            c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\' | '\u{7f}')
        };
        if text.contains(odd) || text.contains("..") || text.contains("@{") || text.ends_with('.') {
            return bad("git allows no such characters in it");
        }
        let part_is_bad =
            |part: &str| part.is_empty() || part.starts_with(['.', '-']) || part.ends_with(".lock");
        if rest.split('/').any(part_is_bad) {
            return bad("a part of it is empty, begins with `.` or `-`, or ends with `.lock`");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Rev {
    type Err = CheckoutError;

    fn from_str(text: &str) -> Result<Self, CheckoutError> {
        let bad = |why| Err(CheckoutError::name(text, "revision", why));
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return bad("1 to 1024 bytes are expected, such as HEAD~1 or a branch");
        }
        if text.starts_with('-') {
            return bad("it begins with `-`; write a branch of that name as refs/heads/NAME");
        }
        if text.contains(char::is_control) || text.contains("..") || text.starts_with(['^', ':']) {
            return bad("one commit is expected, not a range, an exclusion, a search or several lines");
        }
        if text.contains(':') {
            return bad("a commit is expected, not a file within one");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
