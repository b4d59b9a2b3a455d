//! How far code is trusted. What a forge says happened (a push, a pull request, who approved what) comes in; one of three
//! classes comes out, fixed from then on. Asks no forge: whether an author may write is known before.

/// How far the code behind a build is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrustClass<'a> {
    /// A push to the repository itself.
    TrustedPush,
    /// A pull request at this commit, which somebody with the right to do so approved, or whose author has that right.
    ApprovedPr(&'a str),
    /// Any other pull request.
    UntrustedPr,
}

/// What happened to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Commits were pushed to one of its branches.
    Push {
        /// The branch, without `refs/heads/`.
        branch: &'a str,
    },
    /// A pull request into it was opened, or got other commits. The name of its head branch is the author's choice and
    /// of no account.
    PullRequest {
        /// `owner/name` of where its commits are; none when that was deleted.
        head_repository: Option<&'a str>,
        /// Whether its author may write to the repository itself.
        author_may_write: bool,
        /// The commits that were approved, by somebody who may.
        approved: &'a [&'a str],
    },
}

impl<'a> TrustClass<'a> {
    /// The class of `commit`, which this change brought to `repository` (`owner/name`). An approval holds for the very
    /// commit it was given to, and a fork's author is an outsider whatever else they may write to.
    #[must_use]
    pub fn of(repository: &str, commit: &'a str, change: &Change<'_>) -> Self {
        match change {
            Change::Push { .. } => Self::TrustedPush,
            Change::PullRequest { head_repository, author_may_write, approved } => {
                let own_branch = head_repository.is_some_and(|head| head.eq_ignore_ascii_case(repository));
                if approved.contains(&commit) || (own_branch && *author_may_write) {
                    Self::ApprovedPr(commit)
                } else {
                    Self::UntrustedPr
                }
            }
        }
    }
}
