//! The door between an evaluation and what keeps it in: an evaluator as it would be started comes in, with what it
//! needs of the machine; the same evaluator inside of a sandbox goes out. How that is done is not said here.

use std::path::PathBuf;

use nix_store::process::{Exit, Spec};

/// Wraps evaluators.
pub trait Confine: Send + Sync {
    /// The evaluator, kept in. Its output must reach us as if it ran bare, and ending its process group must end it.
    ///
    /// # Errors
    /// [`NotConfined`] when this machine cannot keep it in; then nothing is started.
    fn confine(&self, spec: Spec, needs: &Needs) -> Result<Spec, NotConfined>;

    /// How the evaluator itself ended, by how what keeps it in did.
    fn exit(&self, exit: Exit) -> Exit {
        exit
    }

    /// What it kept evaluators from, and how to allow it, once they have ended: a sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What an evaluator needs of the machine, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders it reads: the checkout, and a folder of ours with the expression and the lists.
    pub reads: Vec<PathBuf>,
    /// What it does with the store.
    pub store: StoreUse,
    /// Most address space of each of its processes, in bytes; `None` where it is watched from outside alone.
    pub memory_bytes: Option<u64>,
}

/// What an evaluator does with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreUse {
    /// Nothing: paths are only computed.
    Nothing,
    /// It writes derivations and sources, through the daemon.
    Writes,
}

/// An evaluator that could not be kept in.
#[derive(Debug, thiserror::Error)]
#[error("the evaluator cannot be confined: {why}; {remedy}")]
pub struct NotConfined {
    /// What is missing.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// Keeps nothing in: for code that may do what we may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare;

impl Confine for Bare {
    fn confine(&self, spec: Spec, _needs: &Needs) -> Result<Spec, NotConfined> {
        Ok(spec)
    }
}
