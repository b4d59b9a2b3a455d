//! The door where a frame becomes a request.
//!
//! In flows the payload of a frame and who sent it; out flows a `Request`, with the texts that are no store paths
//! set aside: one bad path costs the others nothing.

use std::time::Duration;

use hook_wire::{Claim as ClaimFrame, Enqueue, Unclaim as UnclaimFrame};
use nix_types::{DrvPath, StorePath};
use service_kit::clock::Time;

use crate::model::{DestinationId, Origin, Request, Via};
use crate::store::intake::NewClaim;

/// Longest life of a claim that is not repeated.
pub(crate) const CLAIM_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Characters of a bad text that are shown.
const SHOWN_MAX: usize = 120;

/// A request, and the paths of it that are none.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) request: Request,
    /// One sentence per path that was set aside.
    pub(crate) refused: Vec<String>,
}

/// Reads an enqueue.
///
/// # Errors
/// One sentence, when nothing of it can be used.
pub(crate) fn enqueue(payload: &[u8], uid: u32, via: Via) -> Result<Parsed, String> {
    let frame = Enqueue::parse(payload).map_err(|error| format!("the request cannot be read: {error}"))?;
    let mut refused = Vec::new();
    let mut paths = Vec::with_capacity(frame.path_count());
    for bytes in frame.paths() {
        match StorePath::parse(bytes) {
            Ok(path) => paths.push(path),
            Err(error) => refused.push(format!("{}: {error}", shown(bytes))),
        }
    }
    let drv = match frame.drv.map(|bytes| (bytes, DrvPath::parse(bytes))) {
        None => None,
        Some((_, Ok(drv))) => Some(drv),
        Some((bytes, Err(error))) => {
            refused.push(format!("{}: {error}", shown(bytes)));
            None
        }
    };
    if paths.is_empty() && drv.is_none() {
        return Err(format!("no usable path: {}", refused.join("; ")));
    }
    let destinations = frame.destinations().map(DestinationId::parse).collect::<Result<_, _>>();
    let request = Request {
        key: frame.key,
        source: frame.source,
        uid,
        via,
        tag: frame.tag.map(str::to_owned),
        drv,
        paths,
        destinations: destinations.map_err(|bad| bad.to_string())?,
        origin: origin(frame.repository, frame.branch, frame.commit),
        trust: frame.trust,
        priority: frame.priority.unwrap_or(0),
        made: i64::try_from(frame.made_ms).ok().map(Time::from_ms),
    };
    Ok(Parsed { request, refused })
}

/// Reads a claim; `now` begins its life.
///
/// # Errors
/// One sentence: a claim is taken whole or not at all.
pub(crate) fn claim(payload: &[u8], uid: u32, now: Time) -> Result<NewClaim, String> {
    let frame = ClaimFrame::parse(payload).map_err(|error| format!("the claim cannot be read: {error}"))?;
    let destinations = frame.destinations().map(DestinationId::parse).collect::<Result<_, _>>();
    let ttl = Duration::from_secs(frame.ttl_seconds).min(CLAIM_TTL_MAX);
    Ok(NewClaim {
        key: frame.key,
        drvs: drvs(frame.drvs())?,
        destinations: destinations.map_err(|bad| bad.to_string())?,
        origin: origin(frame.repository, frame.branch, frame.commit),
        trust: Some(frame.trust),
        uid,
        until: now + ttl,
    })
}

/// Reads the end of a claim: its key and the derivations to let go, none meaning all.
///
/// # Errors
/// One sentence.
pub(crate) fn unclaim(payload: &[u8]) -> Result<([u8; 16], Vec<DrvPath>), String> {
    let frame =
        UnclaimFrame::parse(payload).map_err(|error| format!("the unclaim cannot be read: {error}"))?;
    Ok((frame.key, drvs(frame.drvs())?))
}

fn drvs<'a>(found: impl Iterator<Item = &'a [u8]>) -> Result<Vec<DrvPath>, String> {
    found.map(|bytes| DrvPath::parse(bytes).map_err(|error| format!("{}: {error}", shown(bytes)))).collect()
}

fn origin(repository: Option<&str>, branch: Option<&str>, commit: Option<&str>) -> Origin {
    let own = |text: Option<&str>| text.map(str::to_owned);
    Origin { repository: own(repository), branch: own(branch), commit: own(commit) }
}

/// Outside bytes as they may be shown.
pub(crate) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}
