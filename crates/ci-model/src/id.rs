//! Names of the CI's things. Text from a forge, from git or from people comes in once; types come out that can be
//! trusted not to be an option, a path with `..` or half a line.

use std::str::FromStr;

use crate::text_type::text_type;

/// Longest name of a job or repository, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Text that is not the name it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {wanted}")]
pub struct NotAName {
    what: &'static str,
    text: String,
    wanted: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $wanted:literal, $check:expr) => {
        text_type!($(#[$doc])* $type: NotAName);

        impl FromStr for $type {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    return Ok(Self(text.to_owned()));
                }
                let text = text.chars().take(NAME_BYTES_MAX).collect();
                Err(NotAName { what: $what, text, wanted: $wanted })
            }
        }
    };
}

name!(
    /// A commit: all of its hash, in lower case.
    CommitId, "commit", "all 40 (or 64) hexadecimal digits of its hash are expected", is_object_id
);
name!(
    /// A tree of git: what a checkout holds, whichever commit it came with. The key under which evaluations are reused.
    TreeId, "tree", "all 40 (or 64) hexadecimal digits of its hash are expected", is_object_id
);
name!(
    /// A job of a repository's configuration.
    JobName, "job name", "1 to 255 printable characters are expected, the first of them no `-`", is_printable
);
name!(
    /// A repository: `forge-host/owner/name`, or the path of a local one.
    RepositoryName, "repository", "1 to 255 printable characters are expected, the first of them no `-`", is_printable
);

fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_printable(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && !text.starts_with('-')
        && !text.chars().any(char::is_control)
}

impl CommitId {
    /// As people write it: 12 digits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}
