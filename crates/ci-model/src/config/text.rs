//! Texts of a configuration, each kind with its rules. Text comes in once; names, files, globs and times come out that
//! can be trusted. Leaves out whether what they name is there.

use std::str::FromStr;

use nix_types::{AttrPath, System};

use super::cron::Cron;
use super::fault::cut;
use super::glob::PathGlob;
use crate::text_type::{text_forms, text_type};
use crate::{BranchPattern, JobName};

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct NotThat {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl NotThat {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// A kind of text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// What it is, with its article.
    pub what: &'static str,
    /// Fewest bytes.
    pub bytes_min: usize,
    /// Most bytes.
    pub bytes_max: usize,
    /// A regular expression, of those that JSON Schema has, that every good one matches; and some that are not.
    pub pattern: Option<&'static str>,
    /// What else it has to be.
    pub check: fn(&str) -> Result<(), NotThat>,
}

const fn text(what: &'static str, bytes_max: usize, check: fn(&str) -> Result<(), NotThat>) -> Text {
    Text { what, bytes_min: 1, bytes_max, pattern: None, check }
}

const NO_OPTION: Option<&str> = Some("^[^-]");

pub(super) const JOB_NAME: Text = Text { pattern: NO_OPTION, ..text("the name of a job", 255, job_name) };
pub(super) const CHECK_NAME: Text = Text {
    pattern: NO_OPTION,
    ..text("the name of a check", 255, |text| printable(text, "the name of a check"))
};
pub(super) const SCHEDULE_NAME: Text = Text {
    pattern: NO_OPTION,
    ..text("the name of a schedule", 255, |text| printable(text, "the name of a schedule"))
};
pub(super) const HOOK_NAME: Text =
    Text { pattern: Some("^[A-Za-z0-9_][A-Za-z0-9._-]*$"), ..text("the name of a hook", 100, hook_name) };
pub(super) const CACHE_ID: Text = Text {
    pattern: NO_OPTION,
    ..text("the id of a cache", 255, |text| printable(text, "the id of a cache"))
};
pub(super) const JOB_FILE: Text =
    Text { pattern: NO_OPTION, ..text("a file of the repository", 1024, parsed::<JobFile>) };
pub(super) const ATTR_PATH: Text = text("an attribute path", 4096, attr_path);
pub(super) const SYSTEM: Text =
    Text { pattern: Some("^[A-Za-z0-9_.][A-Za-z0-9_.-]*$"), ..text("a system", 64, system) };
pub(super) const BRANCH: Text = Text { pattern: NO_OPTION, ..text("the name of a branch", 255, branch) };
pub(super) const BRANCH_PATTERN: Text = text("a pattern over branches", 256, branch_pattern);
pub(super) const PATH_GLOB: Text =
    Text { pattern: Some("^[^/]"), ..text("a pattern over files", 256, parsed::<PathGlob>) };
pub(super) const CRON: Text = text("a time in the manner of cron", 256, parsed::<Cron>);
pub(super) const COMMAND_LINE: Text = text("a command line", 16 << 10, no_nul);
pub(super) const ARGUMENT: Text = Text { bytes_min: 0, ..text("an argument", 16 << 10, no_nul) };
pub(super) const VALUE: Text = Text { bytes_min: 0, ..text("a value", 16 << 10, no_nul) };
pub(super) const VARIABLE: Text =
    Text { pattern: Some("^[A-Za-z_][A-Za-z0-9_]*$"), ..text("the name of a variable", 255, variable) };
pub(super) const FOLDER: Text = Text { pattern: Some("^/"), ..text("an absolute path", 1024, absolute) };
pub(super) const ADDRESS: Text =
    text("where the schema is", 2048, |text| printable(text, "where the schema is"));

fn parsed<T: FromStr<Err = NotThat>>(text: &str) -> Result<(), NotThat> {
    text.parse::<T>().map(|_| ())
}

fn printable(text: &str, what: &str) -> Result<(), NotThat> {
    if text.chars().any(char::is_control) {
        return Err(NotThat::new(format!("{what} has a control character"), "take it away"));
    }
    if text.starts_with('-') {
        return Err(NotThat::new(format!("{what} begins with -"), "begin with another character"));
    }
    Ok(())
}

fn job_name(text: &str) -> Result<(), NotThat> {
    if let "flake.checks" | "flake.packages" = text {
        let what = format!("{text} is what the job of the key {text} is called");
        return Err(NotThat::new(what, "choose another name"));
    }
    printable(text, JOB_NAME.what)?;
    let name = text.parse::<JobName>();
    name.map(|_| ()).map_err(|error| NotThat::new(error.to_string(), "choose another name"))
}

fn hook_name(text: &str) -> Result<(), NotThat> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.starts_with(['-', '.']) || !text.chars().all(good) {
        let what = format!("{} cannot be a part of a file's name", cut(text));
        return Err(NotThat::new(
            what,
            "write letters, digits, _, - and ., and begin with a letter, a digit or _",
        ));
    }
    Ok(())
}

fn attr_path(text: &str) -> Result<(), NotThat> {
    no_nul(text)?;
    let path = text.parse::<AttrPath>();
    path.map(|_| ()).map_err(|error| NotThat::new(error.to_string(), "write a.b or a.\"b.c\""))
}

fn system(text: &str) -> Result<(), NotThat> {
    let system = text.parse::<System>();
    system.map(|_| ()).map_err(|_| {
        NotThat::new(format!("{} is no system", cut(text)), "write one as Nix does: x86_64-linux")
    })
}

/// What git refuses in a branch, and `refs/`, which is no part of its name.
fn branch(text: &str) -> Result<(), NotThat> {
    printable(text, BRANCH.what)?;
    let never = [' ', '~', '^', ':', '?', '*', '[', '\\'];
    let segments =
        text.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"));
    if text.starts_with("refs/") {
        return Err(NotThat::new("a branch is written by its name alone", "leave refs/heads/ out"));
    }
    if segments || text.contains(never) || text.contains("..") || text.contains("@{") || text.ends_with('.') {
        return Err(NotThat::new(
            format!("{} is no name git has for a branch", cut(text)),
            "write the branch's name",
        ));
    }
    Ok(())
}

fn branch_pattern(text: &str) -> Result<(), NotThat> {
    no_nul(text)?;
    let pattern = BranchPattern::parse(text);
    let pattern = pattern.map_err(|error| NotThat::new(error.to_string(), "write main or release/*"))?;
    match pattern.matches_nothing() {
        None => Ok(()),
        Some(why) => {
            let what = format!("{} {why}: it matches no branch", cut(text));
            Err(NotThat::new(what, "write main or release/*"))
        }
    }
}

fn no_nul(text: &str) -> Result<(), NotThat> {
    match text.contains('\0') {
        true => Err(NotThat::new("a NUL can be in no argument and no path", "take it away")),
        false => Ok(()),
    }
}

fn variable(text: &str) -> Result<(), NotThat> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(|c: char| c.is_ascii_digit()) || !text.chars().all(good) {
        let what = format!("{} is no name of a variable", cut(text));
        return Err(NotThat::new(what, "write letters, digits and _, and no digit in front"));
    }
    Ok(())
}

fn absolute(text: &str) -> Result<(), NotThat> {
    no_nul(text)?;
    let Some(rest) = text.strip_prefix('/') else {
        return Err(NotThat::new(format!("{} does not begin with /", cut(text)), "write the whole path"));
    };
    match rest.split('/').any(|part| matches!(part, "" | "." | "..")) && !rest.is_empty() {
        true => Err(NotThat::new(
            format!("{} has a segment that is empty, . or ..", cut(text)),
            "write the path without detours",
        )),
        false => Ok(()),
    }
}

text_type!(
    /// A file inside the checkout, from its root: no `/` or `-` in front, no `.` and no `..` anywhere, no NUL. `default.nix`,
    /// `./default.nix` and `/default.nix` are the same one. Whether it is there, and is no link, is for who opens it.
    JobFile: NotThat
);

impl FromStr for JobFile {
    type Err = NotThat;

    fn from_str(text: &str) -> Result<Self, NotThat> {
        printable(text, "the file")?;
        let file = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
        printable(file, "the file")?;
        if file.split('/').any(|part| part == "..") {
            let remedy = "write a file of the repository, from its root";
            return Err(NotThat::new(format!("{} leads out of where it is", cut(text)), remedy));
        }
        if file.split('/').any(|part| matches!(part, "" | ".")) {
            let what = format!("{} names no file, or has an empty segment", cut(text));
            return Err(NotThat::new(what, "write it as default.nix or pkgs/all.nix"));
        }
        if file.rsplit('/').next() == Some("flake.nix") {
            let remedy = "write {\"flake\": {\"packages\": {\"enable\": true}}} instead of this job";
            return Err(NotThat::new("a flake is not evaluated as a file", remedy));
        }
        Ok(Self(file.to_owned()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:expr) => {
        text_type!($(#[$doc])* $type: NotThat);

        impl FromStr for $type {
            type Err = NotThat;

            fn from_str(text: &str) -> Result<Self, NotThat> {
                $kind.of(text)?;
                Ok(Self(text.to_owned()))
            }
        }
    };
}

name!(
    /// A check of a repository's configuration.
    CheckName, CHECK_NAME
);
name!(
    /// A hook; can be a part of a file's name.
    HookName, HOOK_NAME
);
name!(
    /// A schedule.
    ScheduleName, SCHEDULE_NAME
);
name!(
    /// A cache of the server's configuration.
    CacheId, CACHE_ID
);

text_forms!(PathGlob: NotThat);
text_forms!(Cron: NotThat);

impl Text {
    /// Is it one?
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(&self, text: &str) -> Result<(), NotThat> {
        let what = self.what;
        if text.len() < self.bytes_min {
            return Err(NotThat::new(format!("{what} is expected, and the text is empty"), "write it"));
        }
        if text.len() > self.bytes_max {
            let what = format!("the text has {} bytes, more than {} for {what}", text.len(), self.bytes_max);
            return Err(NotThat::new(what, "make it shorter"));
        }
        (self.check)(text)
    }
}

/// An attribute path as people write it; the root is the empty text.
pub(super) mod attr_path_text {
    use nix_types::AttrPath;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::config) fn serialize<S: Serializer>(path: &AttrPath, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(path)
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AttrPath, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
