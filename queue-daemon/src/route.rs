//! Where a request may go: the destinations it asks for, the sources each accepts, whose builds each lets in, and what the
//! CI has claimed.
//!
//! In flow the request's source, what a CI says of it and its wishes, and the configured doors; out flow the destinations,
//! and those that keep it out with their reasons. Pure, and fails closed: what a door asks for and nobody says is a no.

use ci_model::{CachePolicy, Refusal, Situation, may_push};
use hook_wire::Source;

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
    /// Whose builds it lets in, where a CI says whose they are.
    pub rights: CachePolicy,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routed {
    /// Here, as far as claims allow. May be empty: then it is accepted and there is nothing to do.
    pub to: Vec<DestinationId>,
    /// Not here, where it would have gone, and why.
    pub kept_out: Vec<(DestinationId, Refusal)>,
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

/// Chooses the destinations of a request. `work` is what is known of the build when a CI speaks of it: other requests
/// are not asked whose build it is.
///
/// # Errors
/// When a named destination is unknown or does not accept the source.
pub fn route(
    source: Source,
    work: Option<Situation<'_>>,
    asked: &[DestinationId],
    doors: &[Door],
) -> Result<Routed, RouteError> {
    let mut routed = Routed::default();
    for door in wanted(source, asked, doors)? {
        match work.map_or(Ok(()), |situation| may_push(&door.rights, &situation)) {
            Ok(()) => routed.to.push(door.id.clone()),
            Err(refusal) => routed.kept_out.push((door.id.clone(), refusal)),
        }
    }
    Ok(routed)
}

/// What the claims on a path leave of where it would go: each has to name the destination, and the build it speaks of
/// has to be one that the destination lets in.
#[must_use]
pub fn narrowed(to: &[DestinationId], claims: &[Claim], doors: &[Door]) -> Vec<DestinationId> {
    let lets_in = |id: &DestinationId, claim: &Claim| {
        let door = doors.iter().find(|door| door.id == *id);
        claim.destinations.contains(id)
            && door.is_some_and(|door| may_push(&door.rights, &claim.origin.situation(claim.trust)).is_ok())
    };
    to.iter().filter(|id| claims.iter().all(|claim| lets_in(id, claim))).cloned().collect()
}

fn wanted<'a>(
    source: Source,
    asked: &[DestinationId],
    doors: &'a [Door],
) -> Result<Vec<&'a Door>, RouteError> {
    let open = |door: &Door| match source {
        Source::Hook | Source::Hydra => door.accepts_hook,
        Source::Ci => door.accepts_ci,
        // The operator, over the control socket.
        Source::Cli => true,
    };
    if asked.is_empty() {
        return Ok(doors.iter().filter(|door| door.is_default && open(door)).collect());
    }
    let mut chosen: Vec<&Door> = Vec::new();
    for id in asked {
        let Some(door) = doors.iter().find(|door| door.id == *id) else {
            let known = doors.iter().map(|door| door.id.as_str()).collect::<Vec<_>>().join(", ");
            return Err(RouteError::Unknown { asked: id.clone(), known });
        };
        if !open(door) {
            return Err(RouteError::NotAccepted { asked: id.clone(), from: source_word(source) });
        }
        if !chosen.iter().any(|other| other.id == *id) {
            chosen.push(door);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use ci_model::{Permissions, TrustClass};
    use hook_wire::Trust;

    use super::*;
    use crate::model::Origin;

    fn id(text: &str) -> DestinationId {
        DestinationId::parse(text).unwrap()
    }

    fn doors() -> Vec<Door> {
        let door = |name, accepts_hook, accepts_ci, is_default| Door {
            id: id(name),
            accepts_hook,
            accepts_ci,
            is_default,
            rights: CachePolicy::default(),
        };
        vec![
            door("main", true, true, true),
            door("ci-only", false, true, true),
            door("extra", true, true, false),
        ]
    }

    fn pushed() -> Option<Situation<'static>> {
        Some(Situation { trust: Some(TrustClass::TrustedPush), ..Situation::default() })
    }

    fn claim(destinations: &[&str], trust: Trust) -> Claim {
        Claim {
            destinations: destinations.iter().map(|name| id(name)).collect(),
            origin: Origin::default(),
            trust: Some(trust),
        }
    }

    fn names(routed: &[DestinationId]) -> Vec<&str> {
        routed.iter().map(DestinationId::as_str).collect()
    }

    #[test]
    fn defaults_depend_on_the_source() {
        let to = |source, work| route(source, work, &[], &doors()).unwrap().to;
        assert_eq!(names(&to(Source::Hook, None)), ["main"]);
        assert_eq!(names(&to(Source::Hydra, None)), ["main"]);
        assert_eq!(names(&to(Source::Ci, pushed())), ["main", "ci-only"]);
        assert_eq!(names(&to(Source::Cli, None)), ["main", "ci-only"]);
    }

    #[test]
    fn a_named_destination_must_exist_and_accept_the_source() {
        let to = |source, names: &[&str]| {
            let asked: Vec<DestinationId> = names.iter().map(|name| id(name)).collect();
            route(source, None, &asked, &doors())
        };
        assert_eq!(names(&to(Source::Hook, &["extra", "main", "extra"]).unwrap().to), ["extra", "main"]);
        assert!(matches!(to(Source::Hook, &["ci-only"]), Err(RouteError::NotAccepted { .. })));
        let unknown = to(Source::Hook, &["typo"]).unwrap_err().to_string();
        assert!(unknown.contains("`typo`") && unknown.contains("main, ci-only, extra"), "{unknown}");
    }

    #[test]
    fn a_path_goes_where_every_claim_allows() {
        let to = [id("main"), id("extra")];
        let left = |claims: &[Claim]| narrowed(&to, claims, &doors());
        let (extra, both) =
            (claim(&["extra"], Trust::TrustedPush), claim(&["extra", "main"], Trust::TrustedPush));
        assert_eq!(names(&left(&[])), ["main", "extra"]);
        assert_eq!(names(&left(std::slice::from_ref(&both))), ["main", "extra"]);
        assert_eq!(names(&left(&[both.clone(), extra])), ["extra"]);
        assert!(left(&[both, claim(&[], Trust::TrustedPush)]).is_empty());
    }

    #[test]
    fn a_claim_for_a_build_that_a_door_keeps_out_does_not_open_it() {
        let mut doors = doors();
        doors[0].rights.allow_untrusted = true;
        let to = [id("main"), id("extra")];
        let untrusted = claim(&["main", "extra"], Trust::UntrustedPr);
        assert_eq!(names(&narrowed(&to, &[untrusted], &doors)), ["main"]);
        // An approval without its commit is none.
        let approved = claim(&["main", "extra"], Trust::ApprovedPr);
        assert_eq!(names(&narrowed(&to, std::slice::from_ref(&approved), &doors)), ["main"]);
        let commit = Origin { commit: Some("c".into()), ..Origin::default() };
        let named = Claim { origin: commit, ..approved };
        assert_eq!(names(&narrowed(&to, &[named], &doors)), ["main", "extra"]);
    }

    #[test]
    fn a_door_that_keeps_a_build_out_is_named_and_the_others_take_it() {
        let mut doors = doors();
        doors[1].rights.permissions = Permissions::Nothing;
        let routed = route(Source::Ci, pushed(), &[id("main"), id("ci-only")], &doors).unwrap();
        assert_eq!(names(&routed.to), ["main"]);
        assert_eq!(routed.kept_out, [(id("ci-only"), Refusal::Nothing)]);
        // What no CI speaks of is nobody's build in particular.
        assert_eq!(names(&route(Source::Cli, None, &[], &doors).unwrap().to), ["main", "ci-only"]);
    }

    #[test]
    fn an_untrusted_pull_request_goes_nowhere_whoever_brings_it() {
        for source in [Source::Hook, Source::Cli, Source::Ci, Source::Hydra] {
            for trust in [Some(TrustClass::UntrustedPr), None] {
                let work = Some(Situation { trust, ..Situation::default() });
                assert!(route(source, work, &[id("main")], &doors()).unwrap().to.is_empty());
            }
        }
    }
}
