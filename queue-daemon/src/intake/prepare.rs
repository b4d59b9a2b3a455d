//! The first half of an admission: everything that needs the local store.
//!
//! In flow parsed requests; out flow requests whose paths are kept from the garbage collector, with the deliveries they
//! ask for, or the answer that says why there are none. Decides nothing about rows. Calls block: it has a thread.

use std::sync::Arc;

use hook_wire::Source;
use nix_store::store::Class;
use nix_store::{PathInfo, Store, StoreError};
use nix_types::StorePath;
use nix_types::drv_hash::HashError;
use service_kit::clock::Time;
use service_kit::telemetry::chain;

use super::parse::{Parsed, Refusals};
use crate::lane::facts;
use crate::model::{Answer, Claim, DestinationId, Request, Via};
use crate::peer;
use crate::queue::Queue;
use crate::route::{Routed, narrowed, route};
use crate::store::intake::{self, NewDelivery};

/// Prepares requests.
pub(super) struct Preparer {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
}

/// A request whose paths are held and whose deliveries are known.
pub(super) struct Prepared {
    pub(super) request: Request,
    pub(super) deliveries: Vec<NewDelivery>,
    pub(super) destinations: Vec<DestinationId>,
    pub(super) held: Vec<StorePath>,
    pub(super) refused: Refusals,
}

/// What holds for every path of a request.
struct Plan {
    /// Where they go, claims aside.
    to: Vec<DestinationId>,
    /// Whether the tag and the derivation replace what another user said.
    may_retell: bool,
}

impl Preparer {
    pub(super) fn new(queue: Arc<Queue>, store: Arc<dyn Store>) -> Self {
        Self { queue, store }
    }

    /// Whether the store may have to read all it has to answer: nothing but a derivation is named, and that is not
    /// there (any more), so only its outputs themselves can tell.
    pub(super) fn may_need_long(&self, request: &Request) -> bool {
        let unknown = |drv: &nix_types::DrvPath| match self.store.is_valid(drv.store_path()) {
            Ok(valid) => !valid,
            Err(_) => false, // said when its outputs are asked for
        };
        request.paths.is_empty() && request.drv.as_ref().is_some_and(unknown)
    }

    /// Outputs, roots, validity, claims, filters.
    ///
    /// # Errors
    /// The answer, when nothing can be taken in.
    pub(super) fn prepare(&self, parsed: Parsed) -> Result<Prepared, Answer> {
        let Parsed { mut request, mut refused } = parsed;
        self.find_outputs(&mut request)?;
        let plan = Plan { to: self.route(&request, &mut refused)?, may_retell: self.may_retell(&request) };
        let mut prepared =
            Prepared { request, deliveries: vec![], destinations: vec![], held: vec![], refused };
        match self.fill(&plan, &mut prepared) {
            Ok(()) => Ok(prepared),
            Err(answer) => {
                self.unhold(prepared.held);
                Err(answer)
            }
        }
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
            Err(error) if is_for_good(&error) => Err(Answer::Refused { why: chain(&error) }),
            Err(error) => Err(out_of_reach(&error)),
        }
    }

    /// Where the request goes, claims aside. A destination that it names and that keeps it out is told by name, and so is
    /// any when none takes it.
    fn route(&self, request: &Request, refused: &mut Refusals) -> Result<Vec<DestinationId>, Answer> {
        let routed = route(request.source, request.work(), &request.destinations, &self.queue.doors);
        let Routed { to, kept_out } = routed.map_err(|error| Answer::Refused { why: error.to_string() })?;
        for (id, refusal) in &kept_out {
            let why = || format!("destination `{id}` does not take this: {refusal}");
            tracing::info!(destination = %id, "a request of the CI goes elsewhere: {}", why());
            if to.is_empty() || !request.destinations.is_empty() {
                refused.add_all(request.paths.len(), why);
            }
        }
        if to.is_empty() && !kept_out.is_empty() {
            return Err(Answer::Refused { why: refused.to_string() });
        }
        Ok(to)
    }

    fn fill(&self, plan: &Plan, prepared: &mut Prepared) -> Result<(), Answer> {
        // Held first and looked at then: a path that is valid now stays valid.
        self.hold(prepared)?;
        let held = std::mem::take(&mut prepared.held);
        let done = held.iter().try_for_each(|path| self.prepare_path(path, plan, prepared));
        prepared.held = held;
        done
    }

    /// Makes the roots, and tells a garbage collection that has read its roots already.
    fn hold(&self, prepared: &mut Prepared) -> Result<(), Answer> {
        let cannot = |what: &str, error: &dyn std::error::Error| Answer::Busy {
            why: format!("{what} cannot be kept from the garbage collector: {}", chain(error)),
        };
        for path in &prepared.request.paths {
            if path.store_dir() != self.store.store_dir() {
                let ours = self.store.store_dir();
                prepared.refused.add(|| format!("{path} is not in this machine's store {ours}"));
                continue;
            }
            self.queue.roots.hold(path).map_err(|error| cannot(path.as_str(), &error))?;
            prepared.held.push(path.clone());
        }
        let told = self.queue.roots.tell_collector(&prepared.held);
        told.map_err(|error| cannot("the request", &error))
    }

    fn prepare_path(&self, path: &StorePath, plan: &Plan, prepared: &mut Prepared) -> Result<(), Answer> {
        let info = match self.store.path_info(path) {
            Ok(info) => info,
            Err(error) if is_for_good(&error) => {
                prepared.refused.add(|| format!("{path}: {}", chain(&error)));
                return Ok(());
            }
            Err(error) => return Err(out_of_reach(&error)),
        };
        if info.is_none() {
            if prepared.request.via != Via::Spool {
                prepared.refused.add(|| format!("{path} is not valid in the Nix database"));
                return Ok(());
            }
            tracing::warn!(store.path = %path, "{path} vanished from the store before it was taken in");
        }
        let claims = self.claims_on(&prepared.request, info.as_ref())?;
        let to = narrowed(&plan.to, &claims, &self.queue.doors);
        for id in plan.to.iter().filter(|id| !to.contains(id)) {
            tracing::info!(destination = %id, store.path = %path, "{path} is not queued for {id}: a CI claims it for elsewhere");
        }
        for id in to {
            self.prepare_delivery(path, id, info.as_ref(), plan.may_retell, prepared);
        }
        Ok(())
    }

    /// The claims on what built this path: on the derivation that is named and on the one the store remembers. Where both
    /// are claimed, both hold: to name another derivation widens nothing.
    fn claims_on(&self, request: &Request, info: Option<&PathInfo>) -> Result<Vec<Claim>, Answer> {
        if request.source == Source::Ci {
            return Ok(Vec::new());
        }
        let named = request.drv.as_ref().map(|drv| drv.as_str().to_owned());
        let remembered = info.and_then(|info| info.deriver.as_ref()).map(|drv| drv.as_str().to_owned());
        let made = self.made(request);
        let mut claims = Vec::new();
        for drv in named.into_iter().chain(remembered) {
            match self.queue.reader.with(|conn| intake::claims_on(conn, &drv, made)) {
                Ok(more) => claims.extend(more),
                Err(error) => {
                    return Err(Answer::Busy { why: format!("claims cannot be read: {}", chain(&error)) });
                }
            }
        }
        Ok(claims)
    }

    /// Claims are looked at as they stood when the request was made: one that lay in the spool while the CI ended its
    /// claim is still bound by it, and a backfill by every claim there is. A time in the future counts as now, and one far in the past only binds more.
    fn made(&self, request: &Request) -> Time {
        let now = self.queue.clock.now();
        match request.via {
            Via::Spool | Via::Control => request.made.map_or(now, |made| made.min(now)),
            Via::Socket => now,
        }
    }

    /// Whether the tag and the derivation it names replace what another user said of the same delivery: the
    /// operator's and the CI's do.
    fn may_retell(&self, request: &Request) -> bool {
        match request.via {
            Via::Control => true,
            Via::Socket | Via::Spool => peer::may_speak_for_ci(&self.queue.config.queue, request.uid).is_ok(),
        }
    }

    fn prepare_delivery(
        &self,
        path: &StorePath,
        id: DestinationId,
        info: Option<&PathInfo>,
        may_retell: bool,
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
            may_retell,
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

/// Asking again gives the same answer, because of what was asked. A database of a Nix we do not know concerns every
/// request alike: these wait until somebody mends it.
fn is_for_good(error: &StoreError) -> bool {
    if let StoreError::DrvHash { source, .. } = error
        && let HashError::Read { source, .. } = &**source
    {
        return is_for_good(source);
    }
    error.class() == Class::GiveUp && !matches!(error, StoreError::Schema { .. })
}

fn out_of_reach(error: &StoreError) -> Answer {
    Answer::Busy { why: format!("the Nix database cannot be asked: {}", chain(error)) }
}
