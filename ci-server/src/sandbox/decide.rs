//! Is a child confined? In: how far its code is trusted, what the operator wishes, what the machine can do. Out: yes, no, or
//! that it is not started at all. Pure.

use ci_model::flow::Trust;

/// What the operator, or the person at the terminal, wishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Code of outsiders is confined, a person's own is not.
    #[default]
    AsTrusted,
    /// Everything is confined: `--sandbox`.
    Always,
    /// Nothing is; then code of outsiders is not run at all.
    Never,
}

/// What becomes of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is started inside.
    Confined,
    /// It is started as it is, with what we may do.
    Unconfined,
    /// It is not started: it would have to be confined, and this machine cannot do that.
    NoSandbox,
    /// It is not started: it would have to be confined, and the operator does not want that.
    NotWished,
}

/// Decides for one child. Approved code was read by somebody at this very commit, and may still be wrong: it is confined
/// where nothing else is wished, but an operator may choose to do without.
#[must_use]
pub fn decide(trust: Trust, wish: Wish, available: bool) -> Decision {
    let confined = if available { Decision::Confined } else { Decision::NoSandbox };
    match (trust, wish) {
        (Trust::TrustedPush, Wish::AsTrusted | Wish::Never) | (Trust::ApprovedPr, Wish::Never) => {
            Decision::Unconfined
        }
        (Trust::UntrustedPr, Wish::Never) => Decision::NotWished,
        (Trust::TrustedPush, Wish::Always)
        | (Trust::ApprovedPr | Trust::UntrustedPr, Wish::AsTrusted | Wish::Always) => confined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_answer() {
        use Decision::{Confined, NoSandbox, NotWished, Unconfined};
        use Trust::{ApprovedPr, TrustedPush, UntrustedPr};
        use Wish::{Always, AsTrusted, Never};
        // trust, wish, where there is a sandbox, where there is none
        let table = [
            (TrustedPush, AsTrusted, Unconfined, Unconfined),
            (TrustedPush, Always, Confined, NoSandbox),
            (TrustedPush, Never, Unconfined, Unconfined),
            (ApprovedPr, AsTrusted, Confined, NoSandbox),
            (ApprovedPr, Always, Confined, NoSandbox),
            (ApprovedPr, Never, Unconfined, Unconfined),
            (UntrustedPr, AsTrusted, Confined, NoSandbox),
            (UntrustedPr, Always, Confined, NoSandbox),
            (UntrustedPr, Never, NotWished, NotWished),
        ];
        for (trust, wish, with, without) in table {
            assert_eq!(decide(trust, wish, true), with, "{trust:?} {wish:?}");
            assert_eq!(decide(trust, wish, false), without, "{trust:?} {wish:?}");
        }
    }

    #[test]
    fn code_of_outsiders_is_never_run_unconfined() {
        for wish in [Wish::AsTrusted, Wish::Always, Wish::Never] {
            for available in [true, false] {
                assert_ne!(decide(Trust::UntrustedPr, wish, available), Decision::Unconfined);
            }
        }
    }
}
