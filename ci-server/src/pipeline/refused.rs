//! What may be allowed. In: what a change does, and what kept its evaluators in; out: sentences about what was refused, and
//! what allows it. They go into the outcome before it is recorded, so that what is recorded is what is told.

use ci_model::attr::ErrorKind;
use ci_model::change::Comparison;

use super::Request;

/// What a person may want to allow: of what Nix itself did not let through, then of what its sandbox did not.
pub(super) fn notes(request: &Request, comparison: &Comparison) -> Vec<String> {
    uris(comparison).into_iter().chain(request.confine.notes()).collect()
}

fn uris(comparison: &Comparison) -> Option<String> {
    let errors = comparison.errors.new.iter().map(|(_, error)| error);
    let about_uris = errors
        .filter(|error| error.kind == ErrorKind::Forbidden && error.message.starts_with("access to URI '"));
    let count = match about_uris.count() {
        0 => return None,
        1 => "One new error is".to_owned(),
        more => format!("{more} new errors are"),
    };
    Some(format!("{count} about what may not be fetched; --allow-uri names places that you trust."))
}
