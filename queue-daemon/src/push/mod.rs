//! The door to destinations: one trait, one module per kind.
//!
//! In flows a batch of leased paths; out flow reports, path by path, of what the destination has or why it has not, or
//! a fault of the whole. Splitting, retries, breakers and states are the lane's: an engine does one attempt.

pub(crate) mod command;
pub(crate) mod credentials;
pub(crate) mod hosted;
pub(crate) mod keys;
pub(crate) mod native;
pub(crate) mod nix_copy;
pub(crate) mod sign;
pub(crate) mod ssh;

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use nix_store::PathInfo;
use nix_store::process::Outcome;
use nix_types::StorePath;
use service_kit::shutdown::Stop;
use tokio::sync::mpsc;

use crate::delivery::FaultClass;
pub use crate::store::lease::Leased;
#[doc(hidden)] // for the fuzz targets
pub use hosted::cachix_file::records as dhall_records;
#[doc(hidden)] // the same
pub use native::encoding::undo as stored_text;

/// A future an engine returns.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How an engine wants its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Most paths in one batch; at least 1.
    pub paths_max: usize,
    /// All paths of a batch come from one derivation.
    pub one_drv: bool,
    /// The engine wants to know the closure.
    pub closure: bool,
    /// It sends the closure as a whole, so batches under way must not share unsent paths.
    pub exclusive: bool,
    /// While a batch is under way, what arrives within this time of its start goes into one further batch.
    pub gather: Duration,
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
    /// A failure of which nothing was printed.
    pub(crate) fn failed(class: FaultClass, why: impl Into<String>) -> Self {
        Self::Failed { class, why: why.into(), output: String::new() }
    }

    /// True when the destination could not be reached at all.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Failed { class: FaultClass::Unreachable, .. })
    }
}

/// What an engine's work came to; [`Fault::Cancelled`] when the daemon stops first. The work is dropped then.
pub(crate) async fn unless_stopped<T>(
    stop: &Stop,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    stop.or(work).await.unwrap_or(Err(Fault::Cancelled))
}

/// What a batch is, as its engine sees it.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// What is to be delivered; at least one.
    pub leased: &'a [Leased],
    /// All of it and everything it refers to, references first. Empty unless [`Rules::closure`] is set.
    pub closure: &'a [PathInfo],
}

/// What an attempt has to say of one path of its batch, by its place in [`Batch::leased`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Everything has been sent; the destination is being asked.
    Sent,
    /// The destination has the path.
    Delivered {
        /// Which one.
        place: usize,
        /// What proves it: one JSON object.
        receipt: serde_json::Value,
        /// Bytes that left for it.
        bytes: u64,
        /// It was there already: that the destination takes things is not shown by it.
        was_there: bool,
    },
    /// This path could not be delivered; the others may be.
    Failed {
        /// Which one.
        place: usize,
        /// Why.
        fault: Fault,
    },
}

/// Where an attempt reports, path by path, as soon as it knows. Whoever listens is never behind by more than a batch.
#[derive(Debug, Clone)]
pub struct Reports(mpsc::UnboundedSender<Report>);

impl Reports {
    /// Both ends.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Report>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Says that everything has been sent.
    pub fn sent(&self) {
        self.say(Report::Sent);
    }

    /// Says that the destination has a path.
    pub fn delivered(&self, place: usize, receipt: serde_json::Value, bytes: u64) {
        self.say(Report::Delivered { place, receipt, bytes, was_there: false });
    }

    /// Says that the destination had a path before anything was sent.
    pub fn was_there(&self, place: usize, receipt: serde_json::Value) {
        self.say(Report::Delivered { place, receipt, bytes: 0, was_there: true });
    }

    /// Says that a path could not be delivered.
    pub fn failed(&self, place: usize, fault: Fault) {
        self.say(Report::Failed { place, fault });
    }

    fn say(&self, report: Report) {
        let _ = self.0.send(report); // the lane listens until the attempt has ended
    }
}

/// What an attempt leaves behind beside its reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Paths the destination is known to have now.
    pub present: Vec<StorePath>,
    /// Bytes that left and belong to no path of the batch.
    pub bytes: u64,
}

/// What a destination says of a path that it was brought before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// It is there, with everything it needs.
    There,
    /// It is not, or not whole: why, as one line for people that names the path at fault where that is another one.
    Missing(String),
    /// There is nobody to ask.
    Unknown,
}

/// What came of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// One for each path that was asked for, in their order.
    pub checks: Vec<Check>,
    /// What the destination lacks, wholly or in part: paths asked for, and paths they need.
    pub lost: Vec<StorePath>,
}

impl Checked {
    /// Nobody can be asked about any of so many paths.
    pub(crate) fn unknown(count: usize) -> Self {
        Self { checks: vec![Check::Unknown; count], lost: Vec::new() }
    }
}

/// Paths that were found whole at a destination moments ago, with all they need.
#[derive(Debug, Default)]
pub struct Whole(HashSet<StorePath>);

impl Whole {
    /// What is beyond this is looked at again.
    const MAX: usize = 200_000;

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, path: &StorePath) -> bool {
        self.0.contains(path)
    }

    /// Adds one, as long as there is room.
    pub fn add(&mut self, path: &StorePath) {
        if self.0.len() < Self::MAX {
            self.0.insert(path.clone());
        }
    }
}

/// One kind of destination.
pub trait Push: Send + Sync {
    /// The kind's word, for logs and metrics.
    fn kind(&self) -> &'static str;

    /// How it wants its batches.
    fn rules(&self) -> Rules;

    /// Sends a batch, references first, asks the destination for each path and reports on each. A fault is said of
    /// all that was not reported on. Ends soon after `stop`.
    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>>;

    /// Asks the destination whether it still has paths that it was brought. Changes nothing there. A fault is one of
    /// the destination: then nothing is known. Ends soon after `stop`. What was found whole on the way is added to
    /// `whole`, and what is in it need not be looked at again for those that need it.
    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        whole: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>>;

    /// Clears away at the destination what killed daemons left there unfinished, where there is such a thing. Nothing
    /// depends on it: it logs what it did and what kept it from it. May be dropped at any time.
    fn tidy(&self) -> Work<'_, ()> {
        Box::pin(std::future::ready(()))
    }
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
