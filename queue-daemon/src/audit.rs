//! What the audit log tells of privileged acts: which, by whom, and the little of each that is worth keeping.
//!
//! In flow acts of operators, of the CI and of the daemon itself; out flow entries for `store::audit`, which writes them in the
//! transaction of the act, and a log line each once that is on disk. No entry holds a secret: values, contents of files
//! and texts of servers are left out, and what comes from outside is escaped and cut.

pub(crate) mod start;

use nix::unistd::geteuid;
use serde_json::{Map, Value, json};
use service_kit::audit::{ACT_MAX, DETAIL_MAX, Entry, Head, USER_MAX, outside};
use service_kit::clock::Time;

use crate::control::protocol::Selection;
use crate::peer::{self, Peer};

/// Items of a list that an entry names; the others are counted.
const ITEMS_TOLD: usize = 4;
/// Bytes of one text that an entry tells.
const TEXT_MAX: usize = 256;

/// A privileged act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The daemon started.
    Start,
    /// It started with another configuration than before.
    Configure,
    /// Other keys sign than before.
    Keys,
    /// A destination came into the configuration.
    AddDestination,
    /// A destination left the configuration.
    RemoveDestination,
    /// A destination is at another place than before.
    MoveDestination,
    /// Paths were queued over the control socket.
    Push,
    /// Deliveries were asked for again.
    Retry,
    /// Deliveries were forgotten.
    Drop,
    /// Destinations were paused.
    Pause,
    /// Destinations go on.
    Resume,
    /// The intake was closed for a drain.
    Drain,
    /// A drain was called off, or its time was over.
    CallOffDrain,
    /// `verify` queued again what was missing.
    Requeue,
    /// The CI claimed derivations.
    Claim,
    /// The CI ended a claim.
    Unclaim,
}

impl Act {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Start,
        Self::Configure,
        Self::Keys,
        Self::AddDestination,
        Self::RemoveDestination,
        Self::MoveDestination,
        Self::Push,
        Self::Retry,
        Self::Drop,
        Self::Pause,
        Self::Resume,
        Self::Drain,
        Self::CallOffDrain,
        Self::Requeue,
        Self::Claim,
        Self::Unclaim,
    ];

    /// Its word in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Configure => "configure",
            Self::Keys => "keys",
            Self::AddDestination => "add-destination",
            Self::RemoveDestination => "remove-destination",
            Self::MoveDestination => "move-destination",
            Self::Push => "push",
            Self::Retry => "retry",
            Self::Drop => "drop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Drain => "drain",
            Self::CallOffDrain => "call-off-drain",
            Self::Requeue => "requeue",
            Self::Claim => "claim",
            Self::Unclaim => "unclaim",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    uid: u32,
    user: String,
    pid: u32,
}

impl Who {
    /// The process at the other end of a socket. Looks its user's name up, which may block.
    pub(crate) fn at(peer: Peer) -> Self {
        let user = peer::name_of(peer.uid).unwrap_or_default();
        Self { uid: peer.uid, user: outside(&user, USER_MAX), pid: peer.pid }
    }

    /// The daemon itself. Looks its user's name up, which may block.
    pub(crate) fn daemon() -> Self {
        let uid = geteuid().as_raw();
        Self::at(Peer { uid, gid: nix::unistd::getegid().as_raw(), pid: std::process::id() })
    }

    /// The entry of an act of theirs.
    pub(crate) fn did(&self, act: Act, now: Time, detail: &Value) -> Entry {
        let act = act.as_str().to_owned();
        debug_assert!(act.len() <= ACT_MAX);
        let Self { uid, user, pid } = self.clone();
        let mut detail = outside(&detail.to_string(), DETAIL_MAX);
        if serde_json::from_str::<Value>(&detail).is_err() {
            // It was longer than anything that is told here should be: its beginning, as one text.
            let beginning = outside(&detail, DETAIL_MAX / 4);
            detail = json!({ "cut": beginning }).to_string();
        }
        Entry { at_ms: now.as_ms(), act, uid, user, pid, detail }
    }
}

/// An entry that is on disk.
#[derive(Debug, Clone)]
#[must_use = "its head belongs into the log"]
pub(crate) struct Recorded {
    pub(crate) head: Head,
    pub(crate) entry: Entry,
}

impl Recorded {
    /// Says so in the log, after the commit: who keeps the logs elsewhere can tell later that no row was cut off.
    pub(crate) fn say(&self) {
        let Self { head, entry: Entry { act, uid, user, pid, detail, .. } } = self;
        tracing::info!(
            audit.head = %head, audit.act = act, audit.uid = uid, audit.pid = pid,
            "audit {head}: {act} by {} (user {uid}, process {pid}): {detail}", named(user)
        );
    }
}

/// A user's name, where there is one.
pub(crate) fn named(user: &str) -> &str {
    if user.is_empty() { "somebody without a name" } else { user }
}

/// A text from outside.
pub(crate) fn text(text: &str) -> Value {
    outside(text, TEXT_MAX).into()
}

/// A list from outside: its first items, and how many there are of them.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> Value {
    let (mut told, mut count) = (Vec::new(), 0_usize);
    for item in items {
        count += 1;
        if told.len() < ITEMS_TOLD {
            told.push(text(item));
        }
    }
    if count <= ITEMS_TOLD { told.into() } else { json!({ "first": told, "count": count }) }
}

/// What was selected, without what was not.
pub(crate) fn selection(selection: &Selection) -> Value {
    let Selection { states, destination, tag, paths, queued_before_ms, queued_since_ms } = selection;
    let lists = [("states", states), ("paths", paths)];
    let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
    let lists = lists.map(|(name, items)| (name, list(items.iter().map(String::as_str))));
    let texts = [("destination", destination), ("tag", tag)];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name, text(value.as_deref()?))));
    let times = [("queued_before_ms", queued_before_ms), ("queued_since_ms", queued_since_ms)];
    let times = times.into_iter().filter_map(|(name, value)| Some((name, Value::from((*value)?))));
    let all = lists.chain(texts).chain(times).map(|(name, value)| (name.to_owned(), value));
    Value::Object(all.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_acts_are_their_own_and_short() {
        let words: std::collections::BTreeSet<&str> = Act::ALL.iter().map(|act| act.as_str()).collect();
        assert_eq!(words.len(), Act::ALL.len());
        assert!(words.iter().all(|word| word.len() <= ACT_MAX));
    }

    #[test]
    fn what_comes_from_outside_is_cut_and_stays_json() {
        let who = Who { uid: 7, user: "kim".into(), pid: 9 };
        let long = "\u{1b}[2J\u{202e}\"\\".repeat(1_000);
        let wild = Selection {
            states: vec![long.clone(); 100],
            destination: Some(long.clone()),
            tag: Some(long.clone()),
            paths: vec![long.clone(); 1_000],
            ..Selection::default()
        };
        let flat = json!({ "everything": long });
        for detail in [&selection(&wild), &flat, &selection(&Selection::default())] {
            let entry = who.did(Act::Drop, Time::from_ms(1), detail);
            assert!(entry.detail.len() <= DETAIL_MAX, "{}", entry.detail.len());
            serde_json::from_str::<Value>(&entry.detail).unwrap();
            assert!(!entry.detail.contains(['\u{1b}', '\u{202e}', '\n']), "{}", entry.detail);
        }
        assert_eq!(list(["a", "b"]), json!(["a", "b"]));
        assert_eq!(list(["a"; 9]), json!({ "first": ["a", "a", "a", "a"], "count": 9 }));
    }
}
