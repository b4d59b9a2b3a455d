//! The second half of an admission: a prepared request becomes rows, and then an answer.
//!
//! In flow requests whose paths are held; out flows one answer each, after the commit, and wake-ups for the lanes.
//! Requests too large for one transaction go in as chunks; a request counts as known only once the last chunk is in.
//! Claims of the CI come through here as well: they touch no path.

use std::collections::BTreeMap;
use std::sync::Arc;

use hook_wire::Trust;
use nix_types::{DrvPath, StorePath};
use serde_json::json;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane};
use tokio::sync::oneshot;

use super::admit::WakeLanes;
use super::parse::Refusals;
use super::prepare::Prepared;
use crate::audit::{self, Act, Recorded, Who};
use crate::delivery::StateName;
use crate::model::{Answer, DestinationId, Request, Via};
use crate::peer::Peer;
use crate::queue::Queue;
use crate::roots::release_all;
use crate::store::intake::{self, Known, NewDelivery};
use crate::store::{self, RowError};

/// Deliveries that one transaction takes in.
const CHUNK: usize = 500;

/// Commits a prepared request, lets its paths go, answers, and wakes the lanes.
pub(super) async fn commit(
    queue: &Arc<Queue>,
    prepared: Prepared,
    lane: DbLane,
    wake_lanes: &WakeLanes,
    reply: oneshot::Sender<Answer>,
) {
    let Prepared { request, deliveries, destinations, held, refused } = prepared;
    let request = Arc::new(request);
    let written = write(queue, &request, deliveries, lane).await;
    let taken = matches!(written, Ok(Written::Taken { .. }));
    let ends = match &written {
        // These are owed now: the table keeps their roots.
        Ok(Written::Taken { owed, .. }) if *owed == held.len() => Ends::Owed,
        _ => Ends::Unsure,
    };
    let_go(queue, held, ends).await;
    let answer = answer(written, &refused);
    queue.metrics.answered(&answer);
    let _ = reply.send(answer); // the client hung up; what was committed stays
    if taken {
        // A build waits for the answer; the lanes can wait until it is on its way.
        tokio::task::yield_now().await;
        wake_lanes(&destinations);
        queue.say_changed();
    }
}

fn answer(written: Result<Written, CallError<RowError>>, refused: &Refusals) -> Answer {
    match written {
        Ok(Written::Quota(why)) => Answer::Busy { why },
        Ok(Written::Taken { accepted, .. }) if refused.count() == 0 => Answer::Queued { accepted },
        Ok(Written::Taken { accepted: 0, .. }) => Answer::Refused { why: refused.to_string() },
        Ok(Written::Taken { accepted, .. }) => Answer::Partly {
            accepted,
            refused: u32::try_from(refused.count()).unwrap_or(u32::MAX),
            why: refused.to_string(),
        },
        Err(error) => Answer::Busy { why: format!("the queue cannot be written: {}", chain(&error)) },
    }
}

/// What the table said.
enum Written {
    /// It is in; `owed` counts the paths (each once) that have a live delivery now.
    Taken { accepted: u32, owed: usize },
    /// The user has too many deliveries already.
    Quota(String),
}

enum Ends {
    Owed,
    Unsure,
}

async fn write(
    queue: &Arc<Queue>,
    request: &Arc<Request>,
    deliveries: Vec<NewDelivery>,
    lane: DbLane,
) -> Result<Written, CallError<RowError>> {
    let mut rest = deliveries;
    let mut owed: BTreeMap<StorePath, bool> = BTreeMap::new();
    loop {
        let later = rest.split_off(rest.len().min(CHUNK));
        let last = later.is_empty();
        let chunk = std::mem::replace(&mut rest, later);
        match write_chunk(queue, request, chunk, last, lane).await? {
            Chunk::Quota(why) => return Ok(Written::Quota(why)),
            Chunk::Known { accepted } => return Ok(Written::Taken { accepted, owed: 0 }),
            Chunk::In { accepted, states, recorded } => {
                if let Some(recorded) = recorded {
                    recorded.say();
                }
                for (path, state) in states {
                    *owed.entry(path).or_default() |= state.is_live();
                }
                if last {
                    return Ok(Written::Taken {
                        accepted,
                        owed: owed.values().filter(|live| **live).count(),
                    });
                }
            }
        }
    }
}

enum Chunk {
    Known { accepted: u32 },
    Quota(String),
    In { accepted: u32, states: Vec<(StorePath, StateName)>, recorded: Option<Recorded> },
}

async fn write_chunk(
    queue: &Arc<Queue>,
    request: &Arc<Request>,
    chunk: Vec<NewDelivery>,
    last: bool,
    lane: DbLane,
) -> Result<Chunk, CallError<RowError>> {
    let request = Arc::clone(request);
    let (now, mut rng, quota) = (queue.clock.now(), queue.rng(), queue.config.queue.quota_per_uid);
    queue
        .db
        .call(lane, move |tx| {
            let mut recorded = None;
            let row = match intake::known(tx, &request.key)? {
                Some(Known::Complete(row)) => {
                    return Ok(Chunk::Known { accepted: intake::deliveries_of(tx, row)? });
                }
                Some(Known::Partial(row)) => row,
                None => {
                    // One request may go past the quota, or one larger than it would wait for ever.
                    let live = intake::usage(tx, request.uid)?;
                    let limited = request.via != Via::Control;
                    if limited && live >= quota && !chunk.is_empty() {
                        let user = request.uid;
                        return Ok(Chunk::Quota(format!(
                            "user {user} has {live} deliveries queued (quota_per_uid)"
                        )));
                    }
                    if let Some(who) = &request.operator {
                        recorded =
                            Some(store::audit::append(tx, who.did(Act::Push, now, &pushed(&request)))?);
                    }
                    intake::insert_request(tx, &request, now)?
                }
            };
            let mut states = Vec::with_capacity(chunk.len());
            for new in &chunk {
                states.push((new.path.clone(), intake::want(tx, row, &request, new, now, &mut rng)?));
            }
            if !last {
                return Ok(Chunk::In { accepted: 0, states, recorded });
            }
            intake::complete_request(tx, row)?;
            Ok(Chunk::In { accepted: intake::deliveries_of(tx, row)?, states, recorded })
        })
        .await
}

/// What the audit log tells of a push.
fn pushed(request: &Request) -> serde_json::Value {
    json!({
        "paths": audit::list(request.paths.iter().map(StorePath::as_str)),
        "to": audit::list(request.destinations.iter().map(DestinationId::as_str)),
        "tag": request.tag.as_deref().map(audit::text),
        "priority": request.priority,
    })
}

/// Lets held paths go. Those that are owed need no question: their roots stay until they are settled.
async fn let_go(queue: &Arc<Queue>, held: Vec<StorePath>, ends: Ends) {
    if let Ends::Owed = ends {
        let delivered_already = queue.roots.unhold_owed(held);
        release_all(&queue.roots, delivered_already).await;
        return;
    }
    let queue = Arc::clone(queue);
    let work = move || {
        for path in held {
            if let Err(error) = queue.roots.unhold(&path) {
                tracing::warn!(store.path = %path, "GC root of {path} not removed: {}", chain(&error));
            }
        }
    };
    tokio::task::spawn_blocking(work).await.expect("letting paths go does not panic: it logs its errors");
}

fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::TrustedPush => "trusted-push",
        Trust::ApprovedPr => "approved-pr",
        Trust::UntrustedPr => "untrusted-pr",
    }
}

/// A directory service that hangs holds this answer and nobody else's.
async fn who_at(peer: Peer) -> Who {
    let looked = tokio::task::spawn_blocking(move || Who::at(peer)).await;
    looked.expect("looking a name up does not panic")
}

/// Claims and their ends go straight to the table: they touch no path.
pub(crate) async fn write_claim(queue: &Queue, claim: intake::NewClaim, peer: Peer) -> Answer {
    let accepted = u32::try_from(claim.drvs.len()).unwrap_or(u32::MAX);
    if let Some(unknown) = claim.destinations.iter().find(|id| queue.destination(id).is_none()) {
        return Answer::Refused { why: format!("destination `{unknown}` is not configured") };
    }
    let (who, now) = (who_at(peer).await, queue.clock.now());
    let detail = json!({
        "claim": hex(&claim.key),
        "trust": claim.trust.map_or("none", trust_word),
        "drvs": audit::list(claim.drvs.iter().map(DrvPath::as_str)),
        "to": audit::list(claim.destinations.iter().map(DestinationId::as_str)),
        "repository": claim.origin.repository.as_deref().map(audit::text),
        "branch": claim.origin.branch.as_deref().map(audit::text),
        "commit": claim.origin.commit.as_deref().map(audit::text),
        "until": claim.until.to_string(),
    });
    let written = queue.db.call(DbLane::Urgent, move |tx| {
        intake::put_claim(tx, &claim)?;
        store::audit::append(tx, who.did(Act::Claim, now, &detail))
    });
    after_write(written.await.map(|recorded| {
        recorded.say();
        accepted
    }))
}

/// Ends a claim.
pub(crate) async fn end_claim(queue: &Queue, key: [u8; 16], drvs: Vec<DrvPath>, peer: Peer) -> Answer {
    let (who, now) = (who_at(peer).await, queue.clock.now());
    let detail = json!({ "claim": hex(&key), "drvs": audit::list(drvs.iter().map(DrvPath::as_str)) });
    let written = queue.db.call(DbLane::Urgent, move |tx| {
        let ended = intake::end_claim(tx, &key, &drvs, now)?;
        Ok((ended, store::audit::append(tx, who.did(Act::Unclaim, now, &detail))?))
    });
    after_write(written.await.map(|(ended, recorded)| {
        recorded.say();
        u32::try_from(ended).unwrap_or(u32::MAX)
    }))
}

fn hex(key: &[u8; 16]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn after_write(written: Result<u32, CallError<RowError>>) -> Answer {
    match written {
        Ok(accepted) => Answer::Queued { accepted },
        Err(error) => Answer::Busy { why: format!("the queue cannot be written: {}", chain(&error)) },
    }
}
