//! The door where a frame becomes a request.
//!
//! In flows the payload of a frame and who sent it; out flows a `Request`, with the texts that are no store paths
//! set aside: one bad path costs the others nothing.

use std::fmt;
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
/// Sentences about refused paths that are kept; the others are counted. A spool file may name a million.
const REASONS_MAX: usize = 5;

/// A request, and the paths of it that are none.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) request: Request,
    pub(crate) refused: Refusals,
}

/// The paths of a request that were set aside, shown as the first reasons and the number of the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals {
    reasons: Vec<String>,
    /// How many the reasons are about.
    told: usize,
    count: usize,
}

impl Refusals {
    /// One path more; `reason` is one sentence.
    pub(crate) fn add(&mut self, reason: impl FnOnce() -> String) {
        self.add_all(1, reason);
    }

    /// So many paths more, for one reason.
    pub(crate) fn add_all(&mut self, paths: usize, reason: impl FnOnce() -> String) {
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason());
            self.told += paths;
        }
        self.count += paths;
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))?;
        match self.count - self.told {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Reads an enqueue.
///
/// # Errors
/// One sentence, when nothing of it can be used.
pub(crate) fn enqueue(payload: &[u8], uid: u32, via: Via) -> Result<Parsed, String> {
    let frame = Enqueue::parse(payload).map_err(|error| format!("the request cannot be read: {error}"))?;
    let mut refused = Refusals::default();
    let mut paths = Vec::with_capacity(frame.path_count());
    for bytes in frame.paths() {
        match StorePath::parse(bytes) {
            Ok(path) => paths.push(path),
            Err(error) => refused.add(|| format!("{}: {error}", shown(bytes))),
        }
    }
    let drv = match frame.drv.map(|bytes| (bytes, DrvPath::parse(bytes))) {
        None => None,
        Some((_, Ok(drv))) => Some(drv),
        Some((bytes, Err(error))) => {
            refused.add(|| format!("{}: {error}", shown(bytes)));
            None
        }
    };
    if paths.is_empty() && drv.is_none() {
        return Err(format!("no usable path: {refused}"));
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
        operator: None,
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

#[cfg(test)]
mod tests {
    use hook_wire::{FieldTag, Source, field_header};

    use super::*;

    fn payload(paths: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |tag, value: &[u8]| {
            bytes.extend(field_header(tag, u32::try_from(value.len()).unwrap()));
            bytes.extend(value);
        };
        field(FieldTag::Key, &[7; 16]);
        field(FieldTag::Source, &[Source::Hook.number()]);
        field(FieldTag::MadeMs, &[0; 8]);
        paths.for_each(|path| field(FieldTag::Path, &path));
        bytes
    }

    #[test]
    fn any_number_of_bad_paths_is_told_in_few_words() {
        let bad = || (0..50_000).map(|n| format!("\u{1}{n}").into_bytes());
        let why = enqueue(&payload(bad()), 0, Via::Spool).unwrap_err();
        assert!(why.ends_with("; and 49995 more") && why.len() < 1000, "{} bytes", why.len());
        let good = b"/nix/store/00000000000000000000000000000000-a".to_vec();
        let parsed = enqueue(&payload(bad().chain([good])), 0, Via::Spool).unwrap();
        assert_eq!((parsed.request.paths.len(), parsed.refused.count()), (1, 50_000));
        assert_eq!(parsed.refused.reasons.len(), REASONS_MAX);
    }
}
