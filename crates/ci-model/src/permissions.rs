//! Who may push to a cache. An operator's rules and the situation of a build come in; yes, or the reason why not, comes
//! out. Fails closed: what a rule asks for and the situation does not say is a no, and a build of unknown trust counts as
//! that of an untrusted pull request. Leaves out `accept` (which programs a cache takes from) and claims.

use crate::pattern::{BranchPattern, RepositoryPattern};
use crate::trust::{Change, TrustClass};

/// A `permissions` block as it was written; a key that is absent is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `allow_all`
    pub allow_all: Option<bool>,
    /// `allowed_repos`
    pub allowed_repos: Option<Vec<RepositoryPattern>>,
    /// `allowed_branches`
    pub allowed_branches: Option<Vec<BranchPattern>>,
}

/// What a `permissions` block means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Every repository and branch.
    #[default]
    Everything,
    /// What the lists name; at least one of them has an entry, and an empty one asks for nothing.
    Listed {
        /// Repositories.
        repositories: Vec<RepositoryPattern>,
        /// Branches; a pull request is on none.
        branches: Vec<BranchPattern>,
    },
    /// No repository at all.
    Nothing,
}

/// What a cache lets the CI push to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// From which repositories and branches.
    pub permissions: Permissions,
    /// Also what untrusted pull requests built.
    pub allow_untrusted: bool,
    /// Also what approved pull requests built, though the branches are listed.
    pub allow_pull_requests: bool,
}

/// What is known of a build; what is unknown is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situation<'a> {
    /// `owner/name` on the forge.
    pub repository: Option<&'a str>,
    /// The branch that was pushed. Of no account for pull requests.
    pub branch: Option<&'a str>,
    /// The commit that was built.
    pub commit: Option<&'a str>,
    /// How far its code is trusted.
    pub trust: Option<TrustClass<'a>>,
}

/// Whether a build may be pushed to a cache, or why not.
pub type Decision = Result<(), Refusal>;

/// Why a build may not be pushed to a cache. Names the key that decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An untrusted pull request.
    #[error("outputs of an untrusted pull request go only to a cache with allow_untrusted = true")]
    Untrusted,
    /// No trust class.
    #[error(
        "without a trust class (and, if approved, its commit) it counts as an untrusted pull request, \
         and the cache has no allow_untrusted = true"
    )]
    NoTrustClass,
    /// The approval was for other code.
    #[error(
        "approved was commit {approved}, not what was built: it counts as an untrusted pull request, \
         and the cache has no allow_untrusted = true"
    )]
    OtherCommit {
        /// What was approved.
        approved: String,
    },
    /// No repository is allowed.
    #[error("its permissions allow no repository")]
    Nothing,
    /// Repositories are listed, and none is named.
    #[error("allowed_repos is set, and no repository is named")]
    NoRepository,
    /// The repository is not listed.
    #[error("repository {repository} is not in allowed_repos")]
    Repository {
        /// It.
        repository: String,
    },
    /// Branches are listed, and none is named.
    #[error("allowed_branches is set, and no branch is named")]
    NoBranch,
    /// The branch is not listed.
    #[error("branch {branch} is not in allowed_branches")]
    Branch {
        /// It.
        branch: String,
    },
    /// Branches are listed, and a pull request is on none of them.
    #[error(
        "allowed_branches is set, and a pull request is on no branch of it; allow_pull_requests = true lets it in"
    )]
    PullRequest,
}

impl Written {
    /// What it means. Absent, or without lists, it allows everything; a list restricts, unless `allow_all = true` is
    /// written too. Where the lists that restrict are all empty, nothing is allowed.
    #[must_use]
    pub fn meaning(self) -> Permissions {
        let has_lists = self.allowed_repos.is_some() || self.allowed_branches.is_some();
        if self.allow_all.unwrap_or(!has_lists) {
            return Permissions::Everything;
        }
        let repositories = self.allowed_repos.unwrap_or_default();
        let branches = self.allowed_branches.unwrap_or_default();
        if repositories.is_empty() && branches.is_empty() {
            return Permissions::Nothing;
        }
        Permissions::Listed { repositories, branches }
    }
}

impl Permissions {
    /// Whether any repository or branch is kept out.
    #[must_use]
    pub fn restricts(&self) -> bool {
        *self != Self::Everything
    }

    fn repository(&self, named: Option<&str>) -> Decision {
        match self {
            Self::Everything => Ok(()),
            Self::Nothing => Err(Refusal::Nothing),
            Self::Listed { repositories, .. } if repositories.is_empty() => Ok(()),
            Self::Listed { repositories, .. } => match named {
                None => Err(Refusal::NoRepository),
                Some(name) if repositories.iter().any(|pattern| pattern.matches(name)) => Ok(()),
                Some(name) => Err(Refusal::Repository { repository: shown(name) }),
            },
        }
    }

    fn listed_branches(&self) -> &[BranchPattern] {
        match self {
            Self::Everything | Self::Nothing => &[],
            Self::Listed { branches, .. } => branches,
        }
    }
}

impl<'a> Situation<'a> {
    /// What is known of `commit`, which this change brought to `repository` (`owner/name`).
    #[must_use]
    pub fn of(repository: &'a str, commit: &'a str, change: &Change<'a>) -> Self {
        let branch = match *change {
            Change::Push { branch } => Some(branch),
            Change::PullRequest { .. } => None,
        };
        let trust = Some(TrustClass::of(repository, commit, change));
        Self { repository: Some(repository), branch, commit: Some(commit), trust }
    }

    /// The class it has here, and why it is untrusted.
    fn class(&self) -> (TrustClass<'a>, Refusal) {
        match self.trust {
            None => (TrustClass::UntrustedPr, Refusal::NoTrustClass),
            Some(TrustClass::ApprovedPr(approved)) if self.commit != Some(approved) => {
                (TrustClass::UntrustedPr, Refusal::OtherCommit { approved: shown(approved) })
            }
            Some(class) => (class, Refusal::Untrusted),
        }
    }
}

/// Whether a build in this situation may be pushed to a cache with this policy. Whatever an untrusted pull request may, an
/// approved one may as well.
///
/// # Errors
/// The reason, when it may not.
pub fn may_push(policy: &CachePolicy, situation: &Situation<'_>) -> Decision {
    let (class, why_untrusted) = situation.class();
    if class == TrustClass::UntrustedPr && !policy.allow_untrusted {
        return Err(why_untrusted);
    }
    policy.permissions.repository(situation.repository)?;
    let branches = policy.permissions.listed_branches();
    if branches.is_empty() {
        return Ok(());
    }
    match class {
        TrustClass::TrustedPush => match situation.branch {
            None => Err(Refusal::NoBranch),
            Some(name) if branches.iter().any(|pattern| pattern.matches(name)) => Ok(()),
            Some(name) => Err(Refusal::Branch { branch: shown(name) }),
        },
        TrustClass::ApprovedPr(_) | TrustClass::UntrustedPr if policy.allow_pull_requests => Ok(()),
        TrustClass::ApprovedPr(_) | TrustClass::UntrustedPr => Err(Refusal::PullRequest),
    }
}

/// Most characters of a name that a reason repeats.
const SHOWN_MAX: usize = 120;

/// A name of outsiders, fit to be shown.
fn shown(name: &str) -> String {
    let mut text = String::from("`");
    text.extend(name.chars().take(SHOWN_MAX).flat_map(char::escape_debug));
    text.push_str(if name.chars().nth(SHOWN_MAX).is_some() { "…`" } else { "`" });
    text
}
