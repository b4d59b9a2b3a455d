//! `eka-queue push`: queues what the hook never fired for.
//!
//! In flow paths by name, their closure, or all the store has; out flow ordinary requests to `admit`, in chunks, each
//! with a key of its own: a push that is cut off is simply pushed again.

use std::sync::Arc;

use hook_wire::Source;
use nix_store::{Filter, Store, StoreError};
use nix_types::StorePath;
use service_kit::clock::Time;
use service_kit::telemetry::chain;
use tokio::io::AsyncWrite;

use super::protocol::{End, FailureKind, PushWhat, Reply};
use super::server::{Control, Trouble, say};
use crate::audit::Who;
use crate::intake::parse::{Parsed, Refusals};
use crate::model::{Answer, DestinationId, Origin, Request, Via};

/// Paths of one request.
const CHUNK: usize = 500;

/// A push as it was asked for.
pub(super) struct Asked {
    pub(super) what: PushWhat,
    pub(super) destinations: Vec<String>,
    pub(super) tag: Option<String>,
    pub(super) priority: i32,
}

/// What all chunks of a push have in common.
struct Wish {
    destinations: Vec<DestinationId>,
    tag: Option<String>,
    priority: i32,
    who: Who,
    /// Nobody has looked at each path: what a claim once said of it counts, however long ago.
    is_backfill: bool,
}

/// Where what the hook never fired for goes: where the hook's would.
fn for_backfill(control: &Control) -> Result<Vec<DestinationId>, Trouble> {
    let config = &control.queue.config;
    let is_default = |id: &DestinationId| {
        config.queue.default_destinations.as_ref().is_none_or(|defaults| defaults.contains(id))
    };
    let open = config.caches.iter().filter(|cache| cache.accept.hook && is_default(&cache.id));
    let ids: Vec<DestinationId> = open.map(|cache| cache.id.clone()).collect();
    if ids.is_empty() {
        let why = "no default destination takes what a hook brings; name one with --to";
        return Err(Trouble::said(FailureKind::BadRequest, why));
    }
    Ok(ids)
}

pub(super) async fn push(
    control: &Control,
    asked: Asked,
    who: Who,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    if control.queue.intake_is_closed() {
        return Err(Trouble::said(FailureKind::Unavailable, "the daemon is draining or stopping"));
    }
    let Asked { what, destinations, tag, priority } = asked;
    let wish = checked(&destinations, tag, priority, who);
    let mut wish = wish.map_err(|why| Trouble::said(FailureKind::BadRequest, why))?;
    if let PushWhat::AllValid { .. } = what {
        wish.is_backfill = true;
        if wish.destinations.is_empty() {
            wish.destinations = for_backfill(control)?;
        }
    }
    let mut end = End::default();
    let paths = select(control, what, &mut end, writer).await?;
    for chunk in paths.chunks(CHUNK) {
        let parsed = Parsed { request: request(control, &wish, chunk), refused: Refusals::default() };
        match control.admission.admit(parsed).await {
            Answer::Queued { accepted } => end.count += u64::from(accepted),
            Answer::Partly { accepted, refused, why } => {
                end.count += u64::from(accepted);
                end.refused += u64::from(refused);
                say(writer, &Reply::Note(why)).await?;
            }
            Answer::Refused { why } => {
                end.refused += chunk.len() as u64;
                say(writer, &Reply::Note(why)).await?;
            }
            Answer::Busy { why } => return Err(Trouble::said(FailureKind::Unavailable, why)),
        }
    }
    Ok(end)
}

fn checked(destinations: &[String], tag: Option<String>, priority: i32, who: Who) -> Result<Wish, String> {
    let parsed: Result<_, _> = destinations.iter().map(|text| DestinationId::parse(text)).collect();
    let destinations = parsed.map_err(|bad| bad.to_string())?;
    if let Some(tag) = &tag {
        hook_wire::check_tag(tag.as_bytes()).map_err(|error| format!("--tag: {error}"))?;
    }
    Ok(Wish { destinations, tag, priority, who, is_backfill: false })
}

fn request(control: &Control, wish: &Wish, paths: &[StorePath]) -> Request {
    Request {
        key: fresh_key(control),
        source: Source::Cli,
        uid: 0,
        via: Via::Control,
        tag: wish.tag.clone(),
        drv: None,
        paths: paths.to_vec(),
        destinations: wish.destinations.clone(),
        origin: Origin::default(),
        trust: None,
        priority: wish.priority,
        made: Some(if wish.is_backfill { Time::from_ms(0) } else { control.queue.clock.now() }),
        operator: Some(wish.who.clone()),
    }
}

/// The paths that are meant. Those that are no store paths, or have no closure here, are noted and counted; the others
/// go on.
async fn select(
    control: &Control,
    what: PushWhat,
    end: &mut End,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<Vec<StorePath>, Trouble> {
    let store = Arc::clone(&control.queue.store);
    let listed = match what {
        PushWhat::AllValid { ultimate, since_ms } => {
            let registered_since = since_ms.map(|ms| u64::try_from(ms / 1_000).unwrap_or(0));
            let filter = Filter { ultimate_only: ultimate, registered_since };
            tokio::task::spawn_blocking(move || all_valid(&*store, &filter)).await
        }
        PushWhat::Paths { paths, closure } => {
            let mut parsed = Vec::with_capacity(paths.len());
            for text in paths {
                match StorePath::parse(text.as_bytes()) {
                    Ok(path) => parsed.push(path),
                    Err(error) => refuse(end, writer, chain(&error)).await?,
                }
            }
            if !closure {
                return Ok(parsed);
            }
            tokio::task::spawn_blocking(move || closure_of(&*store, parsed)).await
        }
    };
    let selected = listed.expect("a store query does not panic: it returns its errors");
    let selected = selected.map_err(|error| store_trouble(&error))?;
    for why in selected.refused {
        refuse(end, writer, why).await?;
    }
    Ok(selected.paths)
}

async fn refuse(end: &mut End, writer: &mut (impl AsyncWrite + Unpin), why: String) -> Result<(), Trouble> {
    end.refused += 1;
    Ok(say(writer, &Reply::Note(why)).await?)
}

/// Paths to queue, and why others are not among them.
#[derive(Default)]
struct Selected {
    paths: Vec<StorePath>,
    refused: Vec<String>,
}

fn all_valid(store: &dyn Store, filter: &Filter) -> Result<Selected, StoreError> {
    let mut paths = Vec::new();
    nix_store::store::all_valid::<StoreError>(store, filter, |page| {
        // A derivation file is no build output.
        paths.extend(page.into_iter().filter(|path| !path.is_drv()));
        Ok(())
    })?;
    Ok(Selected { paths, refused: Vec::new() })
}

/// The closure of those that have one. One bad path costs the others nothing.
fn closure_of(store: &dyn Store, named: Vec<StorePath>) -> Result<Selected, StoreError> {
    let (mut roots, mut refused) = (Vec::with_capacity(named.len()), Vec::new());
    for path in named {
        match store.is_valid(&path) {
            Ok(true) => roots.push(path),
            Ok(false) => refused.push(StoreError::NotValid { path }.to_string()),
            Err(error @ StoreError::NotInThisStore { .. }) => refused.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    loop {
        match store.closure(&roots) {
            Ok(infos) => {
                let paths = infos.into_iter().map(|info| info.path).collect();
                return Ok(Selected { paths, refused });
            }
            // Collected just now; each turn has one root less.
            Err(StoreError::NotValid { path }) if roots.contains(&path) => {
                roots.retain(|root| *root != path);
                refused.push(StoreError::NotValid { path }.to_string());
            }
            Err(error) => return Err(error),
        }
    }
}

fn store_trouble(error: &StoreError) -> Trouble {
    Trouble::said(FailureKind::Unavailable, format!("the Nix store cannot be asked: {}", chain(error)))
}

fn fresh_key(control: &Control) -> [u8; 16] {
    let mut rng = control.queue.rng();
    let mut key = [0; 16];
    key[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
    key[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
    key
}
