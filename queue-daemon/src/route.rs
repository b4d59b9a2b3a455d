//! Where a request may go: the destinations it asks for, the sources each accepts, and what the CI has claimed.
//!
//! In flow the request's source, trust and wishes and the configured doors; out flows the list of destinations or
//! a refusal that names the door. Pure, and fails closed: an untrusted pull request goes nowhere.

use hook_wire::{Source, Trust};

use crate::model::{Claim, DestinationId};

/// What routing knows of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Its id.
    pub id: DestinationId,
    /// Takes what hooks (Nix' and Hydra's) bring.
    pub accepts_hook: bool,
    /// Takes what the CI brings.
    pub accepts_ci: bool,
    /// Used when a request names no destination.
    pub is_default: bool,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A destination that is not configured.
    #[error(
        "destination `{asked}` is not configured; configured: {known}. Add a [[caches]] block or correct the name"
    )]
    Unknown {
        /// The id that was asked for.
        asked: DestinationId,
        /// The ids there are.
        known: String,
    },
    /// A destination that does not take from this source.
    #[error("destination `{asked}` does not accept requests from `{from}`; its `accept` list decides that")]
    NotAccepted {
        /// The id that was asked for.
        asked: DestinationId,
        /// The source's word.
        from: &'static str,
    },
    /// Output of an untrusted pull request.
    #[error("outputs of an untrusted pull request are pushed to no cache")]
    Untrusted,
}

/// The word of a source in configuration, logs and JSON.
#[must_use]
pub fn source_word(source: Source) -> &'static str {
    match source {
        Source::Hook => "hook",
        Source::Cli => "cli",
        Source::Ci => "ci",
        Source::Hydra => "hydra",
    }
}

/// Chooses the destinations of a request. The list may be empty: then it is accepted and there is nothing to do.
///
/// # Errors
/// When a named destination is unknown or does not accept the source, or the trust class forbids every push.
pub fn route(
    source: Source,
    trust: Option<Trust>,
    asked: &[DestinationId],
    claim: Option<&Claim>,
    doors: &[Door],
) -> Result<Vec<DestinationId>, RouteError> {
    if trust == Some(Trust::UntrustedPr) {
        return Err(RouteError::Untrusted);
    }
    let open = |door: &Door| match source {
        Source::Hook | Source::Hydra => door.accepts_hook,
        Source::Ci => door.accepts_ci,
        // The operator, over the control socket.
        Source::Cli => true,
    };
    let mut chosen = Vec::new();
    for id in asked {
        let Some(door) = doors.iter().find(|door| door.id == *id) else {
            let known = doors.iter().map(|door| door.id.as_str()).collect::<Vec<_>>().join(", ");
            return Err(RouteError::Unknown { asked: id.clone(), known });
        };
        if !open(door) {
            return Err(RouteError::NotAccepted { asked: id.clone(), from: source_word(source) });
        }
        if !chosen.contains(id) {
            chosen.push(id.clone());
        }
    }
    if asked.is_empty() {
        chosen =
            doors.iter().filter(|door| door.is_default && open(door)).map(|door| door.id.clone()).collect();
    }
    if let (Some(claim), true) = (claim, source != Source::Ci) {
        chosen.retain(|id| claim.destinations.contains(id));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DestinationId {
        DestinationId::parse(text).unwrap()
    }

    fn doors() -> Vec<Door> {
        let door = |name, accepts_hook, accepts_ci, is_default| Door {
            id: id(name),
            accepts_hook,
            accepts_ci,
            is_default,
        };
        vec![
            door("main", true, true, true),
            door("ci-only", false, true, true),
            door("extra", true, true, false),
        ]
    }

    fn names(routed: &[DestinationId]) -> Vec<&str> {
        routed.iter().map(DestinationId::as_str).collect()
    }

    #[test]
    fn defaults_depend_on_the_source() {
        let to = |source| route(source, None, &[], None, &doors()).unwrap();
        assert_eq!(names(&to(Source::Hook)), ["main"]);
        assert_eq!(names(&to(Source::Hydra)), ["main"]);
        assert_eq!(names(&to(Source::Ci)), ["main", "ci-only"]);
        assert_eq!(names(&to(Source::Cli)), ["main", "ci-only"]);
    }

    #[test]
    fn a_named_destination_must_exist_and_accept_the_source() {
        let to = |source, name| route(source, None, &[id(name)], None, &doors());
        assert_eq!(names(&to(Source::Hook, "extra").unwrap()), ["extra"]);
        assert!(matches!(to(Source::Hook, "ci-only"), Err(RouteError::NotAccepted { .. })));
        let unknown = to(Source::Hook, "typo").unwrap_err().to_string();
        assert!(unknown.contains("`typo`") && unknown.contains("main, ci-only, extra"), "{unknown}");
    }

    #[test]
    fn a_claim_narrows_everybody_but_the_ci() {
        let claim = Claim { destinations: vec![id("extra")] };
        let nothing = Claim { destinations: vec![] };
        let to = |source, claim| route(source, None, &[], Some(claim), &doors()).unwrap();
        for source in [Source::Hook, Source::Hydra, Source::Cli] {
            assert!(to(source, &claim).is_empty());
            assert!(to(source, &nothing).is_empty());
        }
        assert_eq!(to(Source::Ci, &nothing).len(), 2);
        let named = route(Source::Hook, None, &[id("extra"), id("main")], Some(&claim), &doors()).unwrap();
        assert_eq!(names(&named), ["extra"]);
    }

    #[test]
    fn an_untrusted_pull_request_goes_nowhere_whoever_brings_it() {
        for source in [Source::Hook, Source::Cli, Source::Ci, Source::Hydra] {
            let routed = route(source, Some(Trust::UntrustedPr), &[id("main")], None, &doors());
            assert_eq!(routed, Err(RouteError::Untrusted));
        }
    }
}
