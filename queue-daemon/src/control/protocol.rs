//! What subcommands and daemon say to each other: one request line, then reply lines until `end` or `error`.
//!
//! Types only; both sides are of the same version, and what one does not know it refuses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::backup::Snapshot;
pub use crate::store::inspect::{Listed, Selection, Shown, Tally};

/// Longest request line, in bytes: a `push` names its paths in it.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// What a subcommand asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// One `Status`.
    Status,
    /// One `Watched`.
    Watch,
    /// Compares receipts with the destinations: one `Lost` per path that is missing, one `Verified` per destination.
    Verify {
        /// Only of this destination.
        destination: Option<String>,
        /// Only of these paths; empty means all.
        paths: Vec<String>,
        /// Queue nothing again.
        dry_run: bool,
    },
    /// One `Listed` per delivery.
    List {
        /// Which.
        selection: Selection,
        /// At most so many; 0 means all.
        limit: u64,
    },
    /// One `Shown` per destination of the path.
    Show {
        /// The store path.
        path: String,
    },
    /// Queues paths.
    Push {
        /// What to queue.
        what: PushWhat,
        /// Where to; empty means the defaults.
        destinations: Vec<String>,
        /// A name to wait for.
        tag: Option<String>,
        /// Higher goes first.
        priority: i32,
    },
    /// Waits until nothing of the selection is owed any more.
    Wait {
        /// Which; the states in it are ignored.
        selection: Selection,
        /// At most so long, in milliseconds; absent means for ever.
        timeout_ms: Option<u64>,
    },
    /// Asks again for waiting, dead and gone deliveries.
    Retry {
        /// Which.
        selection: Selection,
    },
    /// Forgets deliveries that no attempt holds.
    Drop {
        /// Which.
        selection: Selection,
    },
    /// Pauses one destination, or all.
    Pause {
        /// Its id.
        destination: Option<String>,
    },
    /// Resumes one destination, or all.
    Resume {
        /// Its id.
        destination: Option<String>,
    },
    /// One `Snapshot`, and after its line the bytes of the database.
    Backup,
    /// Somebody keeps the backup that was taken then.
    BackedUp {
        /// When it was taken, in milliseconds since 1970.
        taken_ms: i64,
    },
    /// One `Audited` per row of the audit log.
    Audit {
        /// Only of this time or later, in milliseconds since 1970.
        since_ms: Option<i64>,
        /// Only of this act.
        act: Option<String>,
        /// At most so many, the newest; 0 means all.
        limit: u64,
    },
    /// Looks whether the audit log is as it was written: one `AuditVerdict`.
    VerifyAudit {
        /// A head that was noted elsewhere, and that the log has to hold.
        head: Option<String>,
    },
    /// Closes the intake, finishes what is owed, then ends the daemon.
    Drain {
        /// At most so long, in milliseconds; absent means for ever.
        timeout_ms: Option<u64>,
    },
}

/// What `push` queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PushWhat {
    /// These paths; with `closure`, everything they need as well.
    Paths {
        /// Store paths.
        paths: Vec<String>,
        /// Each member of the closure as a delivery of its own.
        closure: bool,
    },
    /// What the store has.
    AllValid {
        /// Only what was built here.
        ultimate: bool,
        /// Only what was registered at this time or later, in milliseconds since 1970.
        since_ms: Option<i64>,
    },
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The state of the daemon.
    Status(Box<Status>),
    /// What is under way.
    Watched(Box<Watched>),
    /// A path that is not where its receipt says.
    Lost(Box<Lost>),
    /// What verifying a destination came to.
    Verified(Box<Verified>),
    /// One delivery.
    Listed(Box<Listed>),
    /// One delivery in full.
    Shown(Box<Shown>),
    /// A copy of the database; so many bytes as it says follow its line.
    Snapshot(Snapshot),
    /// A row of the audit log.
    Audited(Box<Audited>),
    /// What looking at the audit log came to.
    AuditVerdict(Verdict),
    /// A thing to know while it goes on.
    Note(String),
    /// The last line: it was done.
    End(End),
    /// The last line: it was not done.
    Error(Failure),
}

/// How it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// Deliveries that were touched, listed or accepted; for `verify`, found missing.
    pub count: u64,
    /// Things that were refused; for `verify`, destinations that could not be asked to the end.
    pub refused: u64,
    /// For `wait` and `drain`: what became of the selection.
    pub tally: Option<Tally>,
    /// For `wait` and `drain`: the time was over first.
    pub timed_out: bool,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// One sentence, with the remedy.
    pub message: String,
}

/// Kinds of failure, each with an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// There is no such thing.
    NotFound,
    /// The request makes no sense.
    BadRequest,
    /// The daemon cannot do it now.
    Unavailable,
}

/// The state of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// By destination.
    pub destinations: BTreeMap<String, DestinationStatus>,
    /// Age of the oldest delivery still owed, in seconds.
    pub oldest_queued_seconds: Option<u64>,
    /// NAR bytes delivered, all destinations together.
    pub bytes_pushed: u64,
    /// Files in the spool.
    pub spool_files: u64,
    /// GC roots the queue holds; absent until they have been counted, soon after the start.
    pub gc_roots: Option<u64>,
    /// True while it takes nothing in and finishes.
    pub draining: bool,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// The daemon's version.
    pub version: String,
}

/// The state of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Deliveries by state, every state named.
    #[serde(flatten)]
    pub by_state: Tally,
    /// `closed`, `open`, `half-open`; absent for one that left the configuration.
    pub breaker: Option<String>,
    /// An operator has paused it.
    pub paused: bool,
    /// False for one that left the configuration and still has deliveries.
    pub configured: bool,
    /// Age of its oldest delivery still owed, in seconds.
    pub oldest_queued_seconds: Option<u64>,
    /// NAR bytes delivered to it.
    pub bytes_pushed: u64,
}

/// A path that is not where its receipt says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The destination's id.
    pub destination: String,
    /// The store path.
    pub path: String,
    /// What is missing of it, as one line.
    pub why: String,
    /// False when it has left the local store too: it cannot be sent again.
    pub in_store: bool,
}

/// What verifying a destination came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Its id.
    pub destination: String,
    /// Receipts that hold.
    pub there: u64,
    /// Receipts that do not.
    pub missing: u64,
    /// Receipts of which nobody can say.
    pub unknown: u64,
    /// Deliveries that were queued again.
    pub requeued: u64,
    /// Why it could not be asked to the end; nothing of it was queued again then.
    pub error: Option<String>,
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Its number.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// What was done.
    pub act: String,
    /// The user, as the kernel said.
    pub uid: u32,
    /// Its name at that time; empty when nobody could tell.
    pub user: String,
    /// The process; 0 when the kernel did not say.
    pub pid: u32,
    /// The rest.
    pub detail: serde_json::Value,
    /// The head of the log with this row as its last.
    pub head: String,
}

/// What looking at the audit log came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Rows that hold.
    pub rows: u64,
    /// The head of the log that these make.
    pub head: String,
    /// The first row that does not hold.
    pub bad_row: Option<u64>,
    /// Why not.
    pub why: Option<String>,
}

/// What is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// By destination.
    pub destinations: BTreeMap<String, WatchedDestination>,
    /// Files in the spool.
    pub spool_files: u64,
    /// True while it takes nothing in and finishes.
    pub draining: bool,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// The daemon's version.
    pub version: String,
}

/// What is under way to one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedDestination {
    /// What `status` says of it.
    #[serde(flatten)]
    pub status: DestinationStatus,
    /// NAR bytes of what is owed, as far as Nix noted them.
    pub owed_nar_bytes: u64,
    /// Deliveries that are done since the daemon started.
    pub done_since_start: u64,
    /// What the NARs of these have in all, in bytes.
    pub done_nar_bytes_since_start: u64,
    /// Bytes that leave for it, over the last ten seconds; absent where they cannot be counted.
    pub bytes_per_second: Option<u64>,
    /// About how long until nothing is owed; absent when that cannot be told.
    pub eta_seconds: Option<u64>,
    /// Archives on their way, the oldest first.
    pub moving: Vec<MovingPath>,
}

/// An archive on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovingPath {
    /// The store path.
    pub path: String,
    /// The size of its NAR before compression, in bytes; 0 when Nix did not note it.
    pub nar_bytes: u64,
    /// Bytes that left, after compression; those of a repeated request count again.
    pub sent_bytes: u64,
    /// For how long it has been on its way.
    pub since_seconds: u64,
}
