//! What the CI decides by. Repositories, branches, commits, trust classes and an operator's rules come in; who may push
//! where comes out, with the reason for people. Pure: nothing here reads a file, a clock or a database, and nothing
//! speaks with a forge.
#![forbid(unsafe_code)]

pub mod pattern;
pub mod permissions;
pub mod trust;

pub use pattern::{BranchPattern, PatternError, RepositoryPattern};
pub use permissions::{CachePolicy, Decision, Permissions, Refusal, Situation, Written, may_push};
pub use trust::{Change, TrustClass};
