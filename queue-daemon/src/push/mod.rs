//! The door to destinations: one trait, one module per kind.
//!
//! In flows a batch of leased paths; out flows that all of it was sent, or a fault; then, path by path, what the
//! destination says it has. Splitting, retries, breakers and receipts are the lane's: an engine does one attempt.

pub(crate) mod command;
pub(crate) mod nix_copy;
pub(crate) mod sign;

use std::future::Future;
use std::pin::Pin;

use nix_store::process::Outcome;
use nix_types::StorePath;
use service_kit::shutdown::Stop;

use crate::delivery::FaultClass;
pub use crate::store::lease::Leased;

/// A future an engine returns.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How an engine wants its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most paths in one batch; at least 1.
    pub paths_max: usize,
    /// All paths of a batch come from one derivation.
    pub one_drv: bool,
    /// The engine sends the closure itself, so batches under way must not share unsent paths.
    pub sends_closure: bool,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The attempt failed.
    Failed {
        /// What kind of failure.
        class: FaultClass,
        /// One line for people.
        why: String,
        /// The end of what was printed.
        output: String,
    },
    /// This path is not in the store (any more).
    Gone(StorePath),
    /// The daemon stops.
    Cancelled,
}

impl Fault {
    /// True when the destination could not be reached at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Failed { class: FaultClass::Unreachable, .. })
    }
}

/// What the destination says about one path of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is there; the receipt is one JSON object.
    Present(serde_json::Value),
    /// It is not there although the attempt said so.
    Missing(String),
}

/// One kind of destination.
pub trait Push: Send + Sync {
    /// The kind's word, for logs and metrics.
    fn kind(&self) -> &'static str;

    /// How it wants its batches.
    fn rules(&self) -> Rules;

    /// Sends a batch, references first. Ends soon after `stop`.
    fn send<'a>(&'a self, batch: &'a [Leased], stop: &'a Stop) -> Work<'a, Result<(), Fault>>;

    /// Asks the destination for each path of a batch that was sent; one verdict per path, in order.
    fn verify<'a>(&'a self, batch: &'a [Leased], stop: &'a Stop) -> Work<'a, Result<Vec<Verdict>, Fault>>;
}

/// Both tails of a child as text that cannot drive a terminal; stderr last.
pub(crate) fn tails(outcome: &Outcome) -> String {
    let mut text = String::new();
    for tail in [&outcome.stdout_tail, &outcome.stderr_tail] {
        text.push_str(&printable(&String::from_utf8_lossy(&tail.bytes)));
    }
    text
}

/// Outside text with its control characters escaped; line breaks stay.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || hook_wire::is_printable(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}
