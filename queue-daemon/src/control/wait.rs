//! `wait` and `drain`: a verdict once nothing is owed any more, or the time is over.
//!
//! In flow a selection and a time limit; out flows what became of it. A wake-up is a hint: the table is read again, and
//! not more often than people need. A drain is a wait with a closed intake; whoever drops it opens the intake again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use service_kit::clock::Mono;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane};
use tokio::sync::MutexGuard;

use super::protocol::{End, FailureKind, Selection};
use super::server::{Control, Trouble};
use crate::audit::{Act, Who};
use crate::peer::Peer;
use crate::queue::Queue;
use crate::store::audit::append;
use crate::store::{RowError, inspect};

/// How often the table is looked at when nothing wakes the wait.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks at the table, however often it changes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A verdict.
pub(super) struct Waited {
    pub(super) end: End,
    /// True when files in the spool are not in it: they cannot be taken in now, or not in the time there was.
    pub(super) spool_left: bool,
}

/// Waits until nothing of the selection is owed, and for a selection of everything nothing lies in the spool.
pub(super) async fn wait(
    control: &Arc<Control>,
    selection: Selection,
    timeout_ms: Option<u64>,
) -> Result<Waited, Trouble> {
    let clock = &control.queue.clock;
    let until = timeout_ms.map(|ms| clock.mono() + Duration::from_millis(ms));
    let selection = Selection { states: Vec::new(), ..selection };
    // What a client has left in the spool counts as asked for. A pass that is cut short is made again later.
    let pass = control.spool.pass();
    let left_over = match until {
        None => pass.await.stuck,
        Some(until) => match clock.timeout(until.since(clock.mono()), pass).await {
            Ok(pass) => pass.stuck,
            Err(_) => {
                let end = verdict(control, &Arc::new(selection)).await?;
                return Ok(Waited { end: End { timed_out: true, ..end }, spool_left: true });
            }
        },
    };
    must_exist(control, &selection, left_over).await?;
    let names_nothing = selection.tag.is_none() && selection.paths.is_empty();
    settled(control, selection, until, left_over && names_nothing, left_over).await
}

/// Closes the intake, waits until nothing is owed, and leaves the intake closed for the end of the daemon. If that takes
/// too long, or the future is dropped, the intake is open again.
pub(super) async fn drain(
    control: &Arc<Control>,
    timeout_ms: Option<u64>,
    peer: Peer,
) -> Result<Waited, Trouble> {
    let Ok(one) = control.drain.try_lock() else {
        let message =
            "another drain is under way; end it (Ctrl-C) before you begin one with another time limit";
        return Err(Trouble::said(FailureKind::Unavailable, message));
    };
    if control.stop.is_requested() {
        return Err(Trouble::said(FailureKind::Unavailable, "the daemon is stopping"));
    }
    let clock = &control.queue.clock;
    let until = timeout_ms.map(|ms| clock.mono() + Duration::from_millis(ms));
    let who = super::audit::who(peer).await;
    // Made first: a client that hangs up now calls off what is being written down.
    let mut closed = Closed { control, settled: false, who: who.clone(), _one: one };
    let noted = note_drain(&control.queue, who, Act::Drain, json!({ "timeout_ms": timeout_ms })).await;
    if let Err(error) = noted {
        closed.settled = true;
        return Err(Trouble::unavailable(&error));
    }
    control.queue.close_intake();
    tracing::info!("draining: the intake is closed, the daemon ends when nothing is owed");
    let waited = settled(control, Selection::default(), until, false, false).await?;
    closed.settled = !waited.end.timed_out;
    Ok(waited)
}

/// Writes down that a drain began or was called off.
async fn note_drain(queue: &Queue, who: Who, act: Act, detail: Value) -> Result<(), CallError<RowError>> {
    let now = queue.clock.now();
    let noted = queue.db.call(DbLane::Normal, move |tx| append(tx, who.did(act, now, &detail)));
    noted.await?.say();
    Ok(())
}

/// An intake that a drain has closed.
struct Closed<'a> {
    control: &'a Control,
    /// There is nothing to be called off.
    settled: bool,
    who: Who,
    _one: MutexGuard<'a, ()>,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // A daemon that stops has closed it for itself.
        if !self.settled && !self.control.stop.is_requested() {
            self.control.queue.open_intake();
            let (queue, who) = (Arc::clone(&self.control.queue), self.who.clone());
            tokio::spawn(async move {
                let noted = note_drain(&queue, who, Act::CallOffDrain, json!({})).await;
                if let Err(error) = noted {
                    tracing::error!(
                        "that the drain was called off is not in the audit log: {}",
                        chain(&error)
                    );
                }
            });
            tracing::warn!(
                "the drain was called off (its time was over, or whoever asked is gone): the intake is open again"
            );
        }
    }
}

/// Looks at the table until nothing is owed (and, if so wanted, the spool is empty) or the time is over.
async fn settled(
    control: &Arc<Control>,
    selection: Selection,
    until: Option<Mono>,
    and_spool: bool,
    mut spool_left: bool,
) -> Result<Waited, Trouble> {
    let queue = &control.queue;
    let selection = Arc::new(selection);
    let mut changes = queue.changes();
    loop {
        changes.mark_unchanged();
        let looked = queue.clock.mono();
        if spool_left {
            spool_left = control.look(|control| Ok(control.spool.files() > 0)).await?;
        }
        let end = verdict(control, &selection).await?;
        let owed = end.tally.as_ref().is_some_and(|tally| tally.live() > 0) || (and_spool && spool_left);
        let over = until.is_some_and(|until| queue.clock.mono() >= until);
        if !owed || over {
            return Ok(Waited { end: End { timed_out: owed, ..end }, spool_left });
        }
        let at_latest = until.map_or(looked + POLL, |until| until.min(looked + POLL));
        tokio::select! {
            _ = changes.changed() => queue.clock.sleep_until(at_latest.min(looked + LOOK_EVERY)).await,
            () = queue.clock.sleep_until(at_latest) => {}
        }
    }
}

/// What has become of the selection so far.
async fn verdict(control: &Arc<Control>, selection: &Arc<Selection>) -> Result<End, Trouble> {
    let selection = Arc::clone(selection);
    let tally = control.ask(move |conn| inspect::tally(conn, &selection)).await?;
    Ok(End { count: tally.total(), tally: Some(tally), ..End::default() })
}

/// To wait for what nobody asked for would say "all delivered" about nothing.
async fn must_exist(control: &Arc<Control>, selection: &Selection, spool_left: bool) -> Result<(), Trouble> {
    let (tag, paths) = (selection.tag.clone(), selection.paths.clone());
    let missing = control.ask(move |conn| {
        if let Some(tag) = tag
            && !inspect::tag_exists(conn, &tag)?
        {
            return Ok(Some(format!("no request carries the tag `{tag}`")));
        }
        for path in paths {
            let of_path = Selection { paths: vec![path.clone()], ..Selection::default() };
            if inspect::tally(conn, &of_path)?.total() == 0 {
                return Ok(Some(format!("{path} was never queued here, or is no longer remembered")));
            }
        }
        Ok(None)
    });
    match missing.await? {
        None => Ok(()),
        Some(message) if spool_left => {
            let message = format!("{message}; files in the spool could not be taken in yet");
            Err(Trouble::said(FailureKind::NotFound, message))
        }
        Some(message) => Err(Trouble::said(FailureKind::NotFound, message)),
    }
}
