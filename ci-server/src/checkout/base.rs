//! What a head is compared with where nobody says it. In: the head, a commit or a work tree; out: the commit where it left
//! the default branch, or the next best, with a sentence on why it is another one.

use ci_model::id::{CommitId, TreeId};

use super::{CheckoutError, Worktree};

/// Where the default branch is looked for, in this order.
const DEFAULT_BRANCHES: [&str; 5] = [
    "refs/remotes/origin/HEAD",
    "refs/remotes/origin/main",
    "refs/remotes/origin/master",
    "refs/heads/main",
    "refs/heads/master",
];

/// What a head is compared with unless a person says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultBase {
    /// Which commit; `None` when there is nothing before.
    pub commit: Option<CommitId>,
    /// Why it is not where the head left the default branch, and what to do about it: a sentence.
    pub warning: Option<String>,
}

impl Worktree {
    /// What a person most likely wants `head` (`None`: the work tree, which holds `tree`) compared with: the last commit
    /// that it shares with the default branch, which is the first there is of `origin/HEAD`, `origin/main`, `origin/master`,
    /// `main` and `master`. Where `head` is that commit itself, or there is none, it is the commit before it; for a work tree
    /// that differs from its `HEAD`, `HEAD` itself.
    ///
    /// # Errors
    /// [`CheckoutError`] when git fails.
    pub async fn default_base(
        &self,
        head: Option<&CommitId>,
        tree: &TreeId,
    ) -> Result<DefaultBase, CheckoutError> {
        let mirror = self.mirror();
        let at = match head {
            Some(commit) => Some(commit.clone()),
            None => mirror.commit("HEAD").await?,
        };
        let Some(at) = at else { return Ok(DefaultBase::default()) };
        let tip = self.default_branch().await?;
        let shared = match &tip {
            Some(tip) => mirror.merge_base(&at, tip).await?,
            None => None,
        };
        let (commit, called) = match &shared {
            Some(shared) if *shared != at => (Some(shared.clone()), ""),
            _ if head.is_none() && mirror.tree(&at).await? != *tree => (Some(at), "HEAD"),
            _ => {
                let called = if head.is_none() { "HEAD~1" } else { "the commit before the head" };
                (mirror.commit(&format!("{at}^")).await?, called)
            }
        };
        let warning = match (&commit, shared) {
            (None, _) => self.nothing_before(),
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some(self.stand_in(tip.is_some(), called)),
        };
        Ok(DefaultBase { commit, warning })
    }

    async fn default_branch(&self) -> Result<Option<CommitId>, CheckoutError> {
        for branch in DEFAULT_BRANCHES {
            if let Some(tip) = self.mirror().commit(branch).await? {
                return Ok(Some(tip));
            }
        }
        Ok(None)
    }

    /// Of a first commit there is nothing to say.
    fn nothing_before(&self) -> Option<String> {
        self.is_shallow().then(|| {
            "This clone is shallow and holds no commit before, so it is compared with nothing; run `git fetch \
             --unshallow`, or name one with --base."
                .to_owned()
        })
    }

    /// Why something else stands in for the commit where the head left the default branch.
    fn stand_in(&self, has_default_branch: bool, called: &str) -> String {
        match (has_default_branch, self.is_shallow()) {
            (false, _) => {
                format!("There is no main branch to compare with, so {called} is; name one with --base.")
            }
            (true, true) => format!(
                "This clone is shallow and does not hold where the head left the main branch, so {called} is compared \
                 with; run `git fetch --unshallow`, or name one with --base."
            ),
            (true, false) => format!(
                "The head shares no commit with the main branch, so {called} is compared with; name one with --base."
            ),
        }
    }
}
