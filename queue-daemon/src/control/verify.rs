//! `verify`: receipts compared with the destinations themselves.
//!
//! In flow destinations and paths; out flow the paths that are not there any more, a sum for each destination, and
//! deliveries that are queued again. A destination is asked to the end before anything of it is queued: one that
//! fails in the middle, or a client that hangs up, changes nothing. Pushes go on meanwhile.

use std::sync::Arc;

use nix_types::StorePath;
use serde_json::json;
use service_kit::clock::Time;
use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;
use tokio::io::AsyncWrite;

use super::protocol::{End, FailureKind, Lost, Reply, Selection, Verified};
use super::server::{Control, Trouble, no_destination, say};
use crate::audit::{self, Act};
use crate::delivery::StateName;
use crate::lane::Lane;
use crate::peer::Peer;
use crate::push::{Check, Checked, Fault, Whole};
use crate::store::audit::append;
use crate::store::verify::{self as rows, Receipt};
use crate::store::{RowError, admin, cache, inspect};

/// Receipts compared at a time.
const PAGE: u32 = 500;
/// What one run finds of one destination at most; then it says so, and another run finds the rest.
const LOST_MAX: usize = 100_000;

/// What is to be compared.
pub(super) struct Wish {
    pub(super) destination: Option<String>,
    pub(super) paths: Vec<String>,
    pub(super) dry_run: bool,
}

/// Compares; a destination that cannot be asked holds no other.
pub(super) async fn verify(
    control: &Arc<Control>,
    wish: Wish,
    peer: Peer,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let Ok(_one) = control.verify.try_lock() else {
        let message = "another verify is under way; wait for it, or end it (Ctrl-C)";
        return Err(Trouble::said(FailureKind::Unavailable, message));
    };
    let lanes = lanes_of(control, wish.destination.as_deref()).await?;
    must_have_receipts(control, &wish).await?;
    let mut end = End::default();
    for lane in lanes {
        let verified = verify_lane(control, &lane, &wish, peer, writer).await?;
        end.count += verified.missing;
        end.refused += u64::from(verified.error.is_some());
        say(writer, &Reply::Verified(Box::new(verified))).await?;
    }
    Ok(end)
}

async fn lanes_of(control: &Arc<Control>, name: Option<&str>) -> Result<Vec<Arc<Lane>>, Trouble> {
    let Some(name) = name else { return Ok(control.lanes.clone()) };
    if let Some(lane) = control.lanes.iter().find(|lane| lane.config.id.as_str() == name) {
        return Ok(vec![Arc::clone(lane)]);
    }
    let named = name.to_owned();
    let message = if control.ask(move |conn| admin::destination_exists(conn, &named)).await? {
        format!("the destination `{name}` is not in the configuration any more: it cannot be asked")
    } else {
        no_destination(name)
    };
    Err(Trouble::said(FailureKind::NotFound, message))
}

/// To say of a path that was never delivered that nothing of it is missing would mislead.
async fn must_have_receipts(control: &Arc<Control>, wish: &Wish) -> Result<(), Trouble> {
    for path in &wish.paths {
        let selection = Selection {
            states: vec![StateName::Done.as_str().to_owned()],
            destination: wish.destination.clone(),
            paths: vec![path.clone()],
            ..Selection::default()
        };
        if control.ask(move |conn| inspect::tally(conn, &selection)).await?.total() == 0 {
            let message = format!("{path} has no receipt here; `eka-queue show` tells what became of it");
            return Err(Trouble::said(FailureKind::NotFound, message));
        }
    }
    Ok(())
}

/// Compares the receipts of one destination, then queues again what is missing.
async fn verify_lane(
    control: &Arc<Control>,
    lane: &Lane,
    wish: &Wish,
    peer: Peer,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Verified, Trouble> {
    let until = control.queue.clock.now();
    let mut verified = Verified { destination: lane.config.id.to_string(), ..Verified::default() };
    let (mut missing, mut lost, mut whole) = (Vec::new(), Vec::new(), Whole::default());
    let mut last: Option<Receipt> = None;
    while missing.len() < LOST_MAX {
        let page = page(control, lane, wish, last.take(), until).await?;
        let Some(newest) = page.last() else { break };
        last = Some(newest.clone());
        let paths: Vec<StorePath> = page.iter().map(|receipt| receipt.path.clone()).collect();
        let checked = match lane.engine().check(&paths, &mut whole, &control.stop).await {
            Ok(checked) => checked,
            Err(fault) => {
                verified.error = Some(cannot_ask(fault)?);
                return Ok(verified);
            }
        };
        for (receipt, why) in sum_up(&mut verified, page, checked, &mut lost) {
            let said = told(control, lane, &receipt, why.clone()).await;
            say(writer, &Reply::Lost(Box::new(said))).await?;
            missing.push((receipt, why));
        }
    }
    if missing.len() >= LOST_MAX {
        let id = &lane.config.id;
        let note = format!("{id} lacks so much that the rest was not looked at: run verify again later");
        say(writer, &Reply::Note(note)).await?;
    }
    if !wish.dry_run && !missing.is_empty() {
        verified.requeued = requeue(control, lane, missing, lost, peer).await?;
    }
    Ok(verified)
}

async fn page(
    control: &Arc<Control>,
    lane: &Lane,
    wish: &Wish,
    after: Option<Receipt>,
    until: Time,
) -> Result<Vec<Receipt>, Trouble> {
    let (row, paths) = (lane.row(), wish.paths.clone());
    control.ask(move |conn| rows::receipts(conn, row, &paths, after.as_ref(), until, PAGE)).await
}

/// Counts what a page came to; gives what is missing.
fn sum_up(
    verified: &mut Verified,
    page: Vec<Receipt>,
    checked: Checked,
    lost: &mut Vec<StorePath>,
) -> Vec<(Receipt, String)> {
    let mut missing = Vec::new();
    for (receipt, check) in page.into_iter().zip(checked.checks) {
        match check {
            Check::There => verified.there += 1,
            Check::Unknown => verified.unknown += 1,
            Check::Missing(why) => {
                verified.missing += 1;
                missing.push((receipt, why));
            }
        }
    }
    lost.extend(checked.lost);
    missing
}

/// Why a destination could not be asked; an error when it is we who end.
fn cannot_ask(fault: Fault) -> Result<String, Trouble> {
    match fault {
        Fault::Failed { why, .. } => Ok(why),
        Fault::Gone(path) => Ok(format!("{path} is not in the local store")),
        Fault::Cancelled => Err(Trouble::said(FailureKind::Unavailable, "the daemon is stopping")),
    }
}

/// What the client is told of a missing path. A store that cannot be asked now is no reason to say it is gone.
async fn told(control: &Control, lane: &Lane, receipt: &Receipt, why: String) -> Lost {
    let (store, path) = (Arc::clone(&control.queue.store), receipt.path.clone());
    let valid = tokio::task::spawn_blocking(move || !matches!(store.is_valid(&path), Ok(false)));
    Lost {
        destination: lane.config.id.to_string(),
        path: receipt.path.to_string(),
        why,
        in_store: valid.await.expect("asking the store does not panic: it returns its errors"),
    }
}

/// Queues deliveries again, in chunks; each is kept from the garbage collector before the table owes it.
async fn requeue(
    control: &Arc<Control>,
    lane: &Lane,
    missing: Vec<(Receipt, String)>,
    lost: Vec<StorePath>,
    peer: Peer,
) -> Result<u64, Trouble> {
    let queue = &control.queue;
    let who = super::audit::who(peer).await;
    let (row, now) = (lane.row(), queue.clock.now());
    for chunk in lost.chunks(PAGE as usize) {
        let chunk = chunk.to_vec();
        let written =
            queue.db.call(DbLane::Normal, move |tx| cache::remember_lost(tx, row, &chunk, now)).await;
        written.map_err(|error| Trouble::unavailable(&error))?;
    }
    let mut requeued = 0;
    for chunk in missing.chunks(PAGE as usize) {
        let paths: Vec<StorePath> = chunk.iter().map(|(receipt, _)| receipt.path.clone()).collect();
        let held = hold(control, paths).await?;
        for (receipt, why) in chunk {
            let (id, path) = (&lane.config.id, &receipt.path);
            tracing::warn!(destination = %id, store.path = %path, "{id} has lost {path}, which is queued again: {why}");
        }
        let (chunk, now, mut rng) = (chunk.to_vec(), queue.clock.now(), queue.rng());
        let (who, id) = (who.clone(), lane.config.id.clone());
        let written = queue.db.call(DbLane::Normal, move |tx| {
            let moved = rows::requeue(tx, &chunk, now, &mut rng)?;
            let paths = audit::list(chunk.iter().map(|(receipt, _)| receipt.path.as_str()));
            let detail = json!({ "destination": id.as_str(), "count": moved, "missing": paths });
            let entry = || who.did(Act::Requeue, now, &detail);
            Ok((moved, (moved > 0).then(|| append(tx, entry())).transpose()?))
        });
        let written = written.await;
        unhold(control, held).await;
        let (moved, recorded) =
            written.map_err(|error: sqlite_kit::CallError<RowError>| Trouble::unavailable(&error))?;
        super::audit::said(recorded);
        requeued += moved;
        queue.say_changed();
        lane.nudge();
    }
    Ok(requeued)
}

async fn hold(control: &Control, paths: Vec<StorePath>) -> Result<Vec<StorePath>, Trouble> {
    let roots = Arc::clone(&control.queue.roots);
    let (held, told) = tokio::task::spawn_blocking(move || {
        let mut held = Vec::with_capacity(paths.len());
        for path in paths {
            if let Err(error) = roots.hold(&path) {
                return (held, Err(format!("{path}: {}", chain(&error))));
            }
            held.push(path);
        }
        let told = roots.tell_collector(&held).map_err(|error| chain(&error));
        (held, told)
    })
    .await
    .expect("making roots does not panic: it returns its errors");
    let Err(why) = told else { return Ok(held) };
    unhold(control, held).await;
    let message = format!("what is missing cannot be kept from the garbage collector: {why}");
    Err(Trouble::said(FailureKind::Unavailable, message))
}

/// From now on the table decides.
async fn unhold(control: &Control, held: Vec<StorePath>) {
    let roots = Arc::clone(&control.queue.roots);
    let work = move || {
        for path in held {
            if let Err(error) = roots.unhold(&path) {
                tracing::warn!(store.path = %path, "GC root of {path} not removed: {}", chain(&error));
            }
        }
    };
    tokio::task::spawn_blocking(work).await.expect("letting paths go does not panic: it logs its errors");
}
