//! The values that flow through the queue: who asks, for what, and where it may go.
//!
//! In flows text from outside, once; out flow types that the stages trust. Nothing here does IO.

use std::fmt;
use std::sync::Arc;

use ci_model::{Situation, TrustClass};
use hook_wire::{Source, Trust};
use nix_types::{DrvPath, StorePath};
use service_kit::clock::Time;

use crate::audit::Who;

/// Longest destination id, in bytes (the frame has the same bound).
pub const DESTINATION_ID_MAX: usize = 128;

/// The id of one configured destination: 1 to 128 letters, digits, `.`, `_`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(Arc<str>);

/// A text that is no destination id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no destination id: use 1 to 128 letters, digits, `.`, `_` or `-`")]
pub struct BadDestinationId(pub String);

impl DestinationId {
    /// Parses an id.
    ///
    /// # Errors
    /// When it is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, BadDestinationId> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > DESTINATION_ID_MAX || !text.bytes().all(fine) {
            return Err(BadDestinationId(text.chars().take(64).flat_map(char::escape_default).collect()));
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The way a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// The enqueue socket.
    Socket = 0,
    /// A file of the spool.
    Spool = 1,
    /// The control socket.
    Control = 2,
}

/// The commit a CI request stands for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// `owner/name` on the forge.
    pub repository: Option<String>,
    /// The branch that was pushed; absent for a pull request.
    pub branch: Option<String>,
    /// The commit's id.
    pub commit: Option<String>,
}

impl Origin {
    /// What is known of a build for this commit. An approval that names no commit is none.
    #[must_use]
    pub fn situation(&self, trust: Option<Trust>) -> Situation<'_> {
        let commit = self.commit.as_deref();
        let trust = match trust {
            None => None,
            Some(Trust::TrustedPush) => Some(TrustClass::TrustedPush),
            Some(Trust::ApprovedPr) => commit.map(TrustClass::ApprovedPr),
            Some(Trust::UntrustedPr) => Some(TrustClass::UntrustedPr),
        };
        Situation { repository: self.repository.as_deref(), branch: self.branch.as_deref(), commit, trust }
    }
}

/// One request to deliver paths, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The client's idempotency key: the same key twice is the same request.
    pub key: [u8; 16],
    /// Who says so.
    pub source: Source,
    /// The user it came from (of the socket's peer, or of the spool file).
    pub uid: u32,
    /// The way it came in.
    pub via: Via,
    /// A name to wait for and to filter by.
    pub tag: Option<String>,
    /// The derivation that was built.
    pub drv: Option<DrvPath>,
    /// The paths to deliver; empty when only the derivation is known.
    pub paths: Vec<StorePath>,
    /// Where to; empty means the default destinations.
    pub destinations: Vec<DestinationId>,
    /// What the CI says of it.
    pub origin: Origin,
    /// The CI's trust class.
    pub trust: Option<Trust>,
    /// Higher goes first.
    pub priority: i32,
    /// When the client made it.
    pub made: Option<Time>,
    /// Who asked over the control socket.
    pub(crate) operator: Option<Who>,
}

impl Request {
    /// What is known of the build, when this is work of a CI: it comes from one, or speaks as only a CI may.
    #[must_use]
    pub fn work(&self) -> Option<Situation<'_>> {
        let of_a_ci = self.source == Source::Ci || self.trust.is_some() || self.origin != Origin::default();
        of_a_ci.then(|| self.origin.situation(self.trust))
    }
}

/// What the CI said about a derivation it is building.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The only destinations a hook's request for it may go to, those that take the build provided.
    pub destinations: Vec<DestinationId>,
    /// For which commit.
    pub origin: Origin,
    /// With which trust.
    pub trust: Option<Trust>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Everything asked for is on disk.
    Queued {
        /// Deliveries that are now owed or were done already.
        accepted: u32,
    },
    /// Some of it is on disk; the rest was refused for good.
    Partly {
        /// Deliveries on disk.
        accepted: u32,
        /// Paths refused.
        refused: u32,
        /// Which and why.
        why: String,
    },
    /// Nothing was queued, and asking again will not help.
    Refused {
        /// Why, and the remedy.
        why: String,
    },
    /// Nothing was queued; the client should keep it and ask again.
    Busy {
        /// Why.
        why: String,
    },
}
