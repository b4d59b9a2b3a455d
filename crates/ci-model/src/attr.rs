//! What one attribute of a job evaluates to. Either engine of the evaluation fills these in; everything later reads
//! them. Leaves out what only a build can tell.

use std::collections::BTreeMap;
use std::fmt;

use nix_types::{AttrPath, DrvPath, StorePath, System};
use serde::{Deserialize, Serialize};

/// An attribute that is a derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attr {
    /// Where it lies, from the root of the job.
    pub path: AttrPath,
    /// Its derivation. Whether the file was written depends on the pass; the path is the same.
    pub drv: DrvPath,
    /// The derivation's name: `hello-2.12`.
    pub name: String,
    /// `hello`, where it is said.
    pub pname: Option<String>,
    /// `2.12`, where it is said.
    pub version: Option<String>,
    /// Where it is built.
    pub system: System,
    /// By name; a path is `None` where only the built content decides.
    pub outputs: BTreeMap<String, Option<StorePath>>,
    /// What its build asks for; `None` where the engine does not say and the derivation has not been read yet.
    pub traits: Option<BuildTraits>,
    /// What its author says of it.
    pub meta: Meta,
}

/// What a build asks of who carries it out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildTraits {
    /// Is the content fixed in advance?
    pub is_fod: bool,
    /// `requiredSystemFeatures`, sorted.
    pub required_features: Vec<String>,
    /// `preferLocalBuild`
    pub prefers_local: bool,
    /// `allowSubstitutes`; false only where it is said.
    pub forbids_substitutes: bool,
    /// Is its output's path known only after the build?
    pub is_content_addressed: bool,
}

/// What a derivation's `meta` says. What is absent, or could not be evaluated, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// One line about it.
    pub description: Option<String>,
    /// In the order they are given.
    pub licenses: Vec<License>,
    /// In the order they are given.
    pub maintainers: Vec<Maintainer>,
    /// Where it is defined, from the root of the checkout.
    pub position: Option<Position>,
    /// `meta.broken`
    pub broken: bool,
    /// `meta.insecure`, or known vulnerabilities.
    pub insecure: bool,
}

/// A licence: `spdx` where it has such a name, else what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct License {
    /// `MIT`, …
    pub spdx: Option<String>,
    /// `mit`, or its full name.
    pub name: String,
    /// Whether it is free, where it is said.
    pub free: Option<bool>,
}

/// Who looks after a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Maintainer {
    /// As they are called.
    pub name: Option<String>,
    /// Their login on GitHub, which may be renamed.
    pub github: Option<String>,
    /// Their number there, which may not.
    pub github_id: Option<u64>,
    /// An address.
    pub email: Option<String>,
}

/// A place in a file of the checkout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// From the root of the checkout; the whole path where it lies elsewhere.
    pub file: String,
    /// From 1.
    pub line: u32,
}

/// An attribute that could not be evaluated, or the whole job when `path` is the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrError {
    /// Where.
    pub path: AttrPath,
    /// What kind of end it was.
    pub kind: ErrorKind,
    /// The evaluator's last `error:`, one or a few lines; attacker's text, without control characters.
    pub message: String,
    /// All that the evaluator said about it, cut at [`TRACE_BYTES_MAX`].
    pub trace: String,
}

/// Most bytes of [`AttrError::trace`].
pub const TRACE_BYTES_MAX: usize = 16 << 10;
/// Most bytes of [`AttrError::message`].
pub const MESSAGE_BYTES_MAX: usize = 2 << 10;

/// How the evaluation of an attribute ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// `throw` or `assert`: the expression itself says no.
    Thrown,
    /// The evaluator ended with an error that `tryEval` does not catch: abort, a missing attribute, a type error, …
    Fatal,
    /// The evaluation built something, or read what it may not.
    Forbidden,
    /// It took longer than it may.
    TimedOut,
    /// It took more memory than it may.
    OutOfMemory,
    /// It nested deeper than the evaluator can.
    StackOverflow,
    /// The evaluator was killed, or crashed.
    Crashed,
    /// It evaluates to more than is taken: output, depth or names beyond a bound.
    TooLarge,
    /// The evaluator said something that cannot be read.
    Garbage,
}

impl AttrError {
    /// Does it say that a job was not looked at to its end, and not what its code does?
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        let is_bound = matches!(self.kind, ErrorKind::TooLarge | ErrorKind::Garbage);
        self.path.is_root() && (is_bound || self.kind.is_of_machine())
    }
}

impl ErrorKind {
    /// Is it what the machine had to give, more than what the code says?
    #[must_use]
    pub fn is_of_machine(self) -> bool {
        match self {
            Self::TimedOut | Self::OutOfMemory | Self::Crashed => true,
            Self::Thrown
            | Self::Fatal
            | Self::Forbidden
            | Self::StackOverflow
            | Self::TooLarge
            | Self::Garbage => false,
        }
    }

    /// All, for tables.
    pub const ALL: [Self; 9] = [
        Self::Thrown,
        Self::Fatal,
        Self::Forbidden,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::StackOverflow,
        Self::Crashed,
        Self::TooLarge,
        Self::Garbage,
    ];

    /// As people read it, and as it is stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Thrown => "thrown",
            Self::Fatal => "fatal",
            Self::Forbidden => "forbidden",
            Self::TimedOut => "timed-out",
            Self::OutOfMemory => "out-of-memory",
            Self::StackOverflow => "stack-overflow",
            Self::Crashed => "crashed",
            Self::TooLarge => "too-large",
            Self::Garbage => "garbage",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl License {
    /// What people call it.
    #[must_use]
    pub fn shown(&self) -> &str {
        self.spdx.as_deref().unwrap_or(&self.name)
    }

    /// Is it said not to be free? What does not say so is taken to be.
    #[must_use]
    pub fn is_unfree(&self) -> bool {
        self.free == Some(false)
    }
}
