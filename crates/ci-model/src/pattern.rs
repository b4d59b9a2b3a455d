//! Patterns over the names of repositories (`myorg/*`) and branches (`release/*`). A pattern's text comes in once; yes or
//! no for each name comes out. What is no name of a repository or branch on any forge matches nothing, not even `*`. The
//! patterns over store paths are others (`nix_types::glob`): there are no segments in them.
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `*` alone | every name |
//! | `*/` at the beginning | one or more whole segments |
//! | `/*` at the end | any rest that is not empty, further segments too |
//! | `*` elsewhere | any characters of one segment, none too |
//! | `**` | any characters, slashes and none too |
//! | any other | itself; the case of ASCII letters counts in branches, and not in repositories |

use serde::{Deserialize, Serialize};

/// Most bytes of a pattern.
pub const PATTERN_MAX: usize = 256;
/// Most bytes of a name; a longer one matches nothing.
pub const NAME_MAX: usize = 1024;

/// A pattern over `owner/name`, such as `myorg/*`. Forges find a repository whatever the case it is written in, so ASCII
/// letters match in either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryPattern(Pattern);

/// A pattern over the name of a branch, without `refs/heads/`, such as `release/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchPattern(Pattern);

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// No characters.
    #[error("the pattern is empty; write * for everything")]
    Empty,
    /// More than [`PATTERN_MAX`] bytes.
    #[error("the pattern has {0} bytes, more than {PATTERN_MAX}; write several shorter ones")]
    TooLong(usize),
}

impl RepositoryPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Pattern::parse(text).map(Self)
    }

    /// Does the pattern match this `owner/name`?
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        is_repository(name) && self.0.matches(&self.0.folded, &name.to_ascii_lowercase())
    }

    /// Why no repository can match, for people: what the pattern is or has; `None` when one can.
    #[must_use]
    pub fn matches_nothing(&self) -> Option<&'static str> {
        let text = self.as_str();
        let names_no_owner = text != "*" && !text.contains('/') && !text.contains("**");
        names_no_owner
            .then_some("has no owner, and repositories are written owner/name")
            .or(self.0.not_a_name())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.source
    }
}

impl BranchPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        Pattern::parse(text).map(Self)
    }

    /// Does the pattern match this branch?
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        is_name(name) && self.0.matches(&self.0.steps, name)
    }

    /// Why no branch can match, for people: what the pattern is or has; `None` when one can.
    #[must_use]
    pub fn matches_nothing(&self) -> Option<&'static str> {
        let reference = self.as_str().starts_with("refs/");
        reference
            .then_some("begins with refs/, and branches are written by their name alone")
            .or(self.0.not_a_name())
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.source
    }
}

impl TryFrom<String> for BranchPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        Self::parse(&text)
    }
}

impl From<BranchPattern> for String {
    fn from(pattern: BranchPattern) -> Self {
        pattern.0.source
    }
}

/// Whether forges could have a repository of this name: `owner/name`, with groups in between on some.
fn is_repository(name: &str) -> bool {
    name.contains('/') && is_name(name)
}

/// Whether Git could have a branch of this name, as far as it matters to patterns.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX && !name.contains('*') && !has_no_name_segment(name) && !name.contains(in_no_name)
}

fn has_no_name_segment(text: &str) -> bool {
    text.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

/// What Git allows in no branch and forges in no repository. A `*` neither, but that means something in a pattern.
fn in_no_name(c: char) -> bool {
    c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '[' | '\\')
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    source: String,
    steps: Vec<Step>,
    /// The steps in lower case.
    folded: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// These bytes, at least one.
    Text(String),
    /// Any bytes but slashes.
    Within,
    /// Any bytes.
    Across,
    /// Any bytes, at least one.
    Some,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            0 => Err(PatternError::Empty),
            1..=PATTERN_MAX => Ok(Self {
                source: text.to_owned(),
                steps: steps(text),
                folded: steps(&text.to_ascii_lowercase()),
            }),
            len => Err(PatternError::TooLong(len)),
        }
    }

    /// Takes at most as many passes over the name as there are steps: `reached[n]` says whether the steps so far can
    /// have taken exactly the first `n` bytes.
    fn matches(&self, steps: &[Step], name: &str) -> bool {
        let name = name.as_bytes();
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for step in steps {
            step.take(name, &mut reached);
        }
        reached[name.len()]
    }

    fn not_a_name(&self) -> Option<&'static str> {
        let text = &self.source;
        if text.starts_with('/') {
            Some("begins with a slash")
        } else if text.ends_with('/') {
            Some("ends with a slash, and all below is written /*")
        } else if has_no_name_segment(text) {
            Some("has a segment that is empty, `.` or `..`")
        } else if text.contains(in_no_name) {
            Some("has a character that is in no name, and `*` and `**` are the only wildcards")
        } else {
            None
        }
    }
}

fn steps(pattern: &str) -> Vec<Step> {
    if pattern == "*" {
        return vec![Step::Some];
    }
    // The slash belongs to the text between, so that `*/*` has one.
    let (first, rest) = match pattern.strip_prefix('*') {
        Some(rest) if rest.starts_with('/') => (Some(Step::Some), rest),
        _ => (None, pattern),
    };
    let (rest, last) = match rest.strip_suffix('*') {
        Some(rest) if rest.ends_with('/') => (rest, Some(Step::Some)),
        _ => (rest, None),
    };
    first.into_iter().chain(between(rest)).chain(last).collect()
}

fn between(mut rest: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let stars = rest.len() - rest.trim_start_matches('*').len();
        let end = match stars {
            0 => rest.find('*').unwrap_or(rest.len()),
            _ => stars,
        };
        let (part, later) = rest.split_at(end);
        steps.push(match stars {
            0 => Step::Text(part.to_owned()),
            1 => Step::Within,
            _ => Step::Across,
        });
        rest = later;
    }
    steps
}

impl Step {
    fn take(&self, name: &[u8], reached: &mut [bool]) {
        match self {
            Self::Text(text) => {
                for end in (0..reached.len()).rev() {
                    let start = end.checked_sub(text.len());
                    reached[end] = start.is_some_and(|at| reached[at] && name[at..end] == *text.as_bytes());
                }
            }
            Self::Within => {
                for end in 1..reached.len() {
                    reached[end] |= reached[end - 1] && name[end - 1] != b'/';
                }
            }
            Self::Across => {
                for end in 1..reached.len() {
                    reached[end] |= reached[end - 1];
                }
            }
            Self::Some => {
                let mut before = false;
                for end in reached {
                    before |= std::mem::replace(end, before);
                }
            }
        }
    }
}
