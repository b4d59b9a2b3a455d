//! What the CI decides by. Repositories, branches, commits, evaluations and an operator's rules come in; who may push
//! where, what a change does and why come out, with the reason for people. [`flow`] tells the whole story as types.
//! Pure: nothing here reads a file, a clock or a database, and nothing speaks with a forge.
#![forbid(unsafe_code)]

pub mod attr;
pub mod change;
pub mod config;
pub mod diff;
pub mod drv;
pub mod flow;
pub mod graph;
pub mod id;
pub mod outcome;
pub mod pattern;
pub mod permissions;
mod text_type;
pub mod trust;

pub use id::{CommitId, JobName, NotAName, RepositoryName, TreeId};
pub use pattern::{BranchPattern, PatternError, RepositoryPattern};
pub use permissions::{CachePolicy, Decision, Permissions, Refusal, Situation, Written, may_push};
pub use trust::{Change, TrustClass};
