//! Why the store did not do what it was asked. An engine's answer comes in with what was tried; a sentence that names
//! the database and the remedy goes out, and a [`Class`] that says what the caller can do about it.

use std::error::Error;
use std::fmt;

use nix_types::{AttrPath, DrvPath};

use super::{CHUNK_MAX, EvaluationId, RunId};

/// A command was not carried out. Nothing of it is stored.
#[derive(Debug)]
pub struct StoreError {
    doing: String,
    place: String,
    fault: Fault,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Ask again in a moment.
    Retry,
    /// Ask again when somebody has made space; until then reading goes on.
    DiskFull,
    /// Nothing: the database is damaged, and a backup has to come back.
    Damaged,
    /// Nothing: the operator has to set something right first.
    Operator,
    /// Nothing: what was asked for cannot be stored, and the database is sound.
    Refused,
    /// Nothing: a mistake of this program.
    Ours,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else holds the database, or the writer has more to do than it takes in.
    Busy,
    /// No space is left.
    Full,
    /// The disk does not read or write, or is full: the engine did not say which.
    Disk,
    /// The file is damaged, or holds a row that this version cannot read.
    Damaged(String),
    /// The database could not be opened; the cause says it all.
    Open(Class),
    /// The store is closed, or its writer died.
    Stopped,
    /// What was asked for cannot be stored.
    Refused(Refusal),
    /// A statement failed that never should.
    Ours,
}

/// What cannot be stored, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An evaluation names an attribute twice.
    #[error("the attribute {0} is in the evaluation already; an evaluator names each once")]
    AttrTwice(AttrPath),
    /// There is no such evaluation.
    #[error("there is no evaluation {0}; it was dropped, or never begun: begin it again")]
    UnknownEvaluation(EvaluationId),
    /// An earlier opening of the store gave the token out.
    #[error("the token of evaluation {0} is from before a restart; begin the evaluation again")]
    LateToken(EvaluationId),
    /// The evaluation is closed.
    #[error("evaluation {0} is closed; nothing more can be added to it")]
    EvaluationClosed(EvaluationId),
    /// A chunk is missing between what is there and this one.
    #[error(
        "chunk {got} of evaluation {evaluation} comes too early, chunk {wanted} is next; add them in order"
    )]
    ChunkGap {
        /// Which evaluation.
        evaluation: EvaluationId,
        /// The number that is due.
        wanted: u32,
        /// The number that came.
        got: u32,
    },
    /// Too much at once.
    #[error("{0} rows in one chunk; at most {CHUNK_MAX} are taken")]
    ChunkTooLarge(usize),
    /// A derivation needs one that is not stored.
    #[error(
        "{drv} needs {input}, which is not stored; store what a derivation needs before it, or in the same chunk"
    )]
    InputUnknown {
        /// The derivation.
        drv: DrvPath,
        /// What it needs.
        input: DrvPath,
    },
    /// Two names for one hash: at least one of them was made up.
    #[error("{new} has the hash of {stored}, which is stored; one of them does not exist")]
    NameDiffers {
        /// What is stored.
        stored: DrvPath,
        /// What came.
        new: DrvPath,
    },
    /// Its hash is no number.
    #[error("{0} is no path that Nix makes: its hash has characters of no hash")]
    NotAHash(DrvPath),
    /// No such run.
    #[error("there is no run {0}; it was forgotten, or never begun")]
    UnknownRun(RunId),
    /// The key was used for something else.
    #[error("the key {key:?} belongs to run {run}, whose trigger is another; give each run a key of its own")]
    KeyTaken {
        /// The key.
        key: String,
        /// The run that has it.
        run: RunId,
    },
    /// It ended before, in another way.
    #[error("run {0} is closed; how it ended is not changed")]
    RunClosed(RunId),
    /// It was compared before, with another result.
    #[error("run {0} has a comparison already, and it is another one")]
    ComparedOtherwise(RunId),
}

impl StoreError {
    /// `doing` goes on behind "cannot"; `place` is the database.
    pub(super) fn new(doing: impl Into<String>, place: impl Into<String>, fault: Fault) -> Self {
        Self { doing: doing.into(), place: place.into(), fault, source: None }
    }

    pub(super) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// What the caller can do.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.fault {
            Fault::Busy | Fault::Disk => Class::Retry,
            Fault::Full => Class::DiskFull,
            Fault::Damaged(_) => Class::Damaged,
            Fault::Open(class) => class,
            Fault::Refused(_) => Class::Refused,
            Fault::Stopped | Fault::Ours => Class::Ours,
        }
    }

    /// Why it cannot be stored, when that is the reason.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.fault {
            Fault::Refused(why) => Some(why),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, place, fault, .. } = self;
        match fault {
            Fault::Open(_) => write!(f, "cannot {doing}"),
            fault => write!(f, "cannot {doing} in {place}: {fault}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => {
                f.write_str("another program holds it, or it has too much to do; try again shortly")
            }
            Self::Full => f.write_str("no space is left; free some, then it goes on by itself"),
            Self::Disk => {
                f.write_str("its disk is full, or does not read or write; check it, then try again")
            }
            Self::Damaged(what) => write!(f, "it is damaged ({what}); stop the CI and restore a backup"),
            Self::Open(_) => f.write_str("it could not be opened"),
            Self::Stopped => f.write_str("it is closed; start the CI again"),
            Self::Refused(why) => why.fmt(f),
            Self::Ours => f.write_str("this is a mistake in the program, please report it"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
