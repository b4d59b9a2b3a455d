//! Patterns over the files of a repository (`doc/**`, `**/*.md`). A pattern's text comes in once; yes or no for each path
//! comes out. The patterns over branches and repositories are others ([`crate::pattern`]), and so are those over store
//! paths (`nix_types::glob`).
//!
//! | in a pattern | stands for |
//! |---|---|
//! | `**/` in front, `/**/` in between | any folders, none too |
//! | `/**` at the end | everything below |
//! | `**` alone | every file |
//! | `*` | any characters of one segment, none too |
//! | `?` | one character of a segment |
//! | any other | itself; case counts |

use std::str::FromStr;

use nix_types::glob::takes_all;
use serde::{Deserialize, Serialize};

use super::fault::cut;
use super::text::NotThat;

/// Longest path that is looked at, in bytes; a longer one matches nothing.
pub const PATH_BYTES_MAX: usize = 4096;

/// A pattern over files, from the root of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathGlob {
    source: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`
    Folders,
    One(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    This(char),
    /// `?`
    Any,
    /// `*`
    Run,
}

impl PathGlob {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Does it match the whole of a path from the root of the repository? Takes at most as many steps as the pattern has
    /// characters, times those of the path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        if path.is_empty() || path.len() > PATH_BYTES_MAX {
            return false;
        }
        let parts: Vec<Vec<char>> = path.split('/').map(|part| part.chars().collect()).collect();
        // `reached[n]`: the segments so far can have taken exactly the first n parts.
        let mut reached = vec![false; parts.len() + 1];
        reached[0] = true;
        for (place, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::One(steps) => {
                    for end in (1..reached.len()).rev() {
                        reached[end] = reached[end - 1] && takes(steps, &parts[end - 1]);
                    }
                    reached[0] = false;
                }
                Segment::Folders => {
                    let last = place + 1 == self.segments.len();
                    below(&mut reached, last);
                }
            }
        }
        reached[parts.len()]
    }
}

/// Takes any number of parts; at least one where something has to be below.
fn below(reached: &mut [bool], at_least_one: bool) {
    let mut before = false;
    for end in reached {
        let here = *end;
        *end = before || (here && !at_least_one);
        before |= here;
    }
}

/// Does a segment take the whole of a part?
fn takes(steps: &[Step], part: &[char]) -> bool {
    let takes = |step: &Step, c: &char| *step == Step::Any || *step == Step::This(*c);
    takes_all(steps, part, |step| *step == Step::Run, takes)
}

impl FromStr for PathGlob {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        let wrong = |what: &str, remedy: &str| NotThat::new(format!("{} {what}", cut(text)), remedy);
        if text.starts_with('/') || text.starts_with("./") {
            return Err(wrong("begins with / or ./", "write it from the root of the repository: doc/**"));
        }
        if text.ends_with('/') {
            return Err(wrong("ends with /, and git has no folders", "write /** for everything below"));
        }
        if let Some(c) =
            text.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '\\' | '!') || c.is_control())
        {
            let remedy = "only *, ** and ? stand for others: write ? for this character, or several patterns";
            return Err(wrong(&format!("has {c:?}"), remedy));
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("has a segment that is empty, . or ..", "write the path without detours"));
        }
        if text.split('/').any(|part| part != "**" && part.contains("**")) {
            return Err(wrong("has ** within a segment", "write ** between slashes, or * for one segment"));
        }
        let mut segments: Vec<Segment> = text.split('/').map(segment).collect();
        segments.dedup_by(|a, b| *a == Segment::Folders && *b == Segment::Folders);
        Ok(Self { source: text.to_owned(), segments })
    }
}

fn segment(part: &str) -> Segment {
    if part == "**" {
        return Segment::Folders;
    }
    let step = |c| match c {
        '*' => Step::Run,
        '?' => Step::Any,
        c => Step::This(c),
    };
    Segment::One(part.chars().map(step).collect())
}
