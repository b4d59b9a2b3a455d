//! Takes requests in: routes them, keeps their paths from the garbage collector, checks that they are valid,
//! applies the destinations' filters, and commits.
//!
//! In flow parsed requests, over a bounded channel; out flows one answer each, after the commit. One thread asks
//! the store and makes the links, so that the next batch is prepared while the last is being flushed. Requests too
//! large for one transaction go in as chunks; the request counts as known only once the last chunk is in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use hook_wire::Source;
use nix_store::{PathInfo, Store};
use nix_types::StorePath;
use service_kit::clock::Time;
use service_kit::telemetry::chain;
use sqlite_kit::{CallError, Lane as DbLane};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::parse::{Parsed, Refusals};
use crate::delivery::StateName;
use crate::lane::facts;
use crate::model::{Answer, Claim, DestinationId, Request, Via};
use crate::queue::Queue;
use crate::roots::release_all;
use crate::route::route;
use crate::store::RowError;
use crate::store::intake::{self, Known, NewDelivery};

/// Requests that wait to be prepared; further ones are told `busy`.
pub(crate) const WAITING_MAX: usize = 4_096;
/// Deliveries that one transaction takes in.
const CHUNK: usize = 500;

/// Tells lanes that there may be something to do.
pub(crate) type WakeLanes = Arc<dyn Fn(&[DestinationId]) + Send + Sync>;

/// Hands requests to the admission thread.
#[derive(Clone)]
pub(crate) struct Admission {
    sender: mpsc::Sender<Job>,
}

struct Job {
    parsed: Parsed,
    reply: oneshot::Sender<Answer>,
}

impl Admission {
    /// Starts the thread `name`. It ends when the last handle is gone.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(
        name: &str,
        queue: Arc<Queue>,
        store: Arc<dyn Store>,
        wake_lanes: WakeLanes,
    ) -> std::io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel::<Job>(WAITING_MAX);
        let runtime = Handle::current();
        let lane = if name == "admit-bulk" { DbLane::Normal } else { DbLane::Urgent };
        let worker = Worker { queue, store, wake_lanes, lane };
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(job) = receiver.blocking_recv() {
                worker.take(job, &runtime);
            }
        })?;
        Ok(Self { sender })
    }

    /// Takes a request in and waits for the answer.
    pub(crate) async fn admit(&self, parsed: Parsed) -> Answer {
        let (reply, answer) = oneshot::channel();
        let job = Job { parsed, reply };
        if self.sender.try_send(job).is_err() {
            return Answer::Busy { why: format!("{WAITING_MAX} requests are waiting already") };
        }
        answer.await.unwrap_or_else(|_| Answer::Busy { why: "the daemon is stopping".into() })
    }
}

struct Worker {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    wake_lanes: WakeLanes,
    lane: DbLane,
}

/// A request whose paths are held and whose deliveries are known.
struct Prepared {
    request: Request,
    deliveries: Vec<NewDelivery>,
    destinations: Vec<DestinationId>,
    held: Vec<StorePath>,
    refused: Refusals,
}

impl Worker {
    fn take(&self, job: Job, runtime: &Handle) {
        let answer = match self.prepare(job.parsed) {
            Ok(prepared) => {
                let (queue, wake, lane) = (Arc::clone(&self.queue), Arc::clone(&self.wake_lanes), self.lane);
                let mut commit =
                    Box::pin(async move { commit(&queue, prepared, lane, &wake, job.reply).await });
                // The first step hands the rows to the writer. It is done here and now: a task that had to be woken
                // for it would cost the client as much as the rest of the intake.
                let _runtime = runtime.enter();
                if commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    runtime.spawn(commit);
                }
                return;
            }
            Err(answer) => answer,
        };
        self.queue.metrics.answered(&answer);
        let _ = job.reply.send(answer); // the client hung up; nothing was taken
    }

    /// Everything that needs the store: outputs, claims, roots, validity, filters.
    fn prepare(&self, parsed: Parsed) -> Result<Prepared, Answer> {
        let Parsed { mut request, refused } = parsed;
        self.find_outputs(&mut request)?;
        let mut prepared =
            Prepared { request, deliveries: vec![], destinations: vec![], held: vec![], refused };
        let paths = std::mem::take(&mut prepared.request.paths);
        let mut failed = None;
        for path in &paths {
            if let Err(answer) = self.prepare_path(path, &mut prepared) {
                failed = Some(answer);
                break;
            }
        }
        prepared.request.paths = paths;
        let Some(answer) = failed else { return Ok(prepared) };
        self.unhold(prepared.held);
        Err(answer)
    }

    /// Nix 2.8 calls its hook with no paths: the derivation says which were built.
    fn find_outputs(&self, request: &mut Request) -> Result<(), Answer> {
        let Some(drv) = request.drv.as_ref().filter(|_| request.paths.is_empty()) else { return Ok(()) };
        match self.store.outputs_of(drv) {
            Ok(outputs) if outputs.is_empty() => Err(Answer::Refused {
                why: format!("{drv} has no valid output in the store; nothing to queue"),
            }),
            Ok(outputs) => {
                request.paths = outputs;
                Ok(())
            }
            Err(error) => Err(store_trouble(&error)),
        }
    }

    fn prepare_path(&self, path: &StorePath, prepared: &mut Prepared) -> Result<(), Answer> {
        if path.store_dir() != self.store.store_dir() {
            prepared
                .refused
                .add(|| format!("{path} is not in this machine's store {}", self.store.store_dir()));
            return Ok(());
        }
        // Held first and looked at then: a path that is valid now stays valid.
        if let Err(error) = self.queue.roots.hold(path) {
            return Err(Answer::Busy {
                why: format!("{path} cannot be kept from the garbage collector: {}", chain(&error)),
            });
        }
        prepared.held.push(path.clone());
        let info = match self.store.path_info(path) {
            Ok(info) => info,
            Err(error) => return Err(store_trouble(&error)),
        };
        if info.is_none() {
            if prepared.request.via != Via::Spool {
                prepared.refused.add(|| format!("{path} is not valid in the Nix database"));
                return Ok(());
            }
            tracing::warn!(store.path = %path, "{path} vanished from the store before it was taken in");
        }
        let claim = self.claim_on(&prepared.request, info.as_ref())?;
        let request = &prepared.request;
        let routed =
            route(request.source, request.trust, &request.destinations, claim.as_ref(), &self.queue.doors)
                .map_err(|error| Answer::Refused { why: error.to_string() })?;
        for id in routed {
            self.prepare_delivery(path, id, info.as_ref(), prepared);
        }
        Ok(())
    }

    /// The claim on what built this path: the derivation that is named and the one the store remembers. Where both are
    /// claimed, both hold: to name another derivation widens nothing.
    fn claim_on(&self, request: &Request, info: Option<&PathInfo>) -> Result<Option<Claim>, Answer> {
        if request.source == Source::Ci {
            return Ok(None);
        }
        let named = request.drv.as_ref().map(|drv| drv.as_str().to_owned());
        let remembered = info.and_then(|info| info.deriver.as_ref()).map(|drv| drv.as_str().to_owned());
        let made = self.made(request);
        let mut held: Option<Claim> = None;
        for drv in named.into_iter().chain(remembered) {
            match self.queue.reader.with(|conn| intake::claim_on(conn, &drv, made)) {
                Ok(Some(claim)) => {
                    held = Some(match held {
                        None => claim,
                        Some(other) => other.and(&claim),
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    return Err(Answer::Busy { why: format!("claims cannot be read: {}", chain(&error)) });
                }
            }
        }
        Ok(held)
    }

    /// Claims are looked at as they stood when the request was made: one that lay in the spool while the CI ended its
    /// claim is still bound by it. A time in the future counts as now, and one far in the past only binds more.
    fn made(&self, request: &Request) -> Time {
        let now = self.queue.clock.now();
        match request.via {
            Via::Spool => request.made.map_or(now, |made| made.min(now)),
            Via::Socket | Via::Control => now,
        }
    }

    fn prepare_delivery(
        &self,
        path: &StorePath,
        id: DestinationId,
        info: Option<&PathInfo>,
        prepared: &mut Prepared,
    ) {
        let Some((config, row)) = self.queue.destination(&id) else { return };
        if let Some(why) = info.and_then(|info| config.filter.skips(&facts(info))) {
            tracing::info!(destination = %id, store.path = %path, "{path} is not queued for {id}: {why}");
            self.queue.metrics.skipped(&id);
            return;
        }
        prepared.deliveries.push(NewDelivery {
            path: path.clone(),
            destination: row,
            nar_bytes: info.map_or(0, |info| info.nar_size),
            gone: info.is_none(),
            presence_ttl: config.presence_ttl,
        });
        if !prepared.destinations.contains(&id) {
            prepared.destinations.push(id);
        }
    }

    fn unhold(&self, held: Vec<StorePath>) {
        for path in held {
            if let Err(error) = self.queue.roots.unhold(&path) {
                tracing::warn!(store.path = %path, "GC root of {path} not removed: {}", chain(&error));
            }
        }
    }
}

fn store_trouble(error: &nix_store::StoreError) -> Answer {
    Answer::Busy { why: format!("the Nix database cannot be asked: {}", chain(error)) }
}

/// Commits a prepared request, lets its paths go, answers, and wakes the lanes.
async fn commit(
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
            Chunk::In { accepted, states } => {
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
    In { accepted: u32, states: Vec<(StorePath, StateName)> },
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
                    intake::insert_request(tx, &request, now)?
                }
            };
            let mut states = Vec::with_capacity(chunk.len());
            for new in &chunk {
                states.push((new.path.clone(), intake::want(tx, row, &request, new, now, &mut rng)?));
            }
            if !last {
                return Ok(Chunk::In { accepted: 0, states });
            }
            intake::complete_request(tx, row)?;
            Ok(Chunk::In { accepted: intake::deliveries_of(tx, row)?, states })
        })
        .await
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

/// Claims and their ends go straight to the table: they touch no path.
pub(crate) async fn write_claim(queue: &Queue, claim: intake::NewClaim) -> Answer {
    let accepted = u32::try_from(claim.drvs.len()).unwrap_or(u32::MAX);
    if let Some(unknown) = claim.destinations.iter().find(|id| queue.destination(id).is_none()) {
        return Answer::Refused { why: format!("destination `{unknown}` is not configured") };
    }
    let written = queue.db.call(DbLane::Urgent, move |tx| intake::put_claim(tx, &claim)).await;
    after_write(written.map(|()| accepted))
}

/// Ends a claim.
pub(crate) async fn end_claim(queue: &Queue, key: [u8; 16], drvs: Vec<nix_types::DrvPath>) -> Answer {
    let now = queue.clock.now();
    let written = queue.db.call(DbLane::Urgent, move |tx| intake::end_claim(tx, &key, &drvs, now)).await;
    after_write(written.map(|ended| u32::try_from(ended).unwrap_or(u32::MAX)))
}

fn after_write(written: Result<u32, CallError<RowError>>) -> Answer {
    match written {
        Ok(accepted) => Answer::Queued { accepted },
        Err(error) => Answer::Busy { why: format!("the queue cannot be written: {}", chain(&error)) },
    }
}
