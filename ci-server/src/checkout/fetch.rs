//! A repository's address and the commits that are wanted come in; a mirror that has them comes out. Exactly these are
//! fetched, without what was before them; only where a server gives no commit by its hash, a reference with its history
//! is. Repositories on this machine are not fetched: they are read where they are.

use std::time::Duration;

use ci_model::id::CommitId;
use nix_store::process::Exit;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use super::git::Command;
use super::hash::{Format, hex};
use super::local::Layout;
use super::mirror::{Writing, size};
use super::{CheckoutError, Credential, Mirror, Mirrors, RefName, Remote};

/// Between two looks at how large a mirror has become.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What git takes for no limit of depth.
const EVERY_DEPTH: &str = "--depth=2147483647";
/// Most commits for one fetch.
const WANTED_MAX: usize = 64;

/// A commit to fetch.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// This one.
    Commit {
        /// Its hash.
        id: CommitId,
        /// A reference it was seen on, for servers that give no commit by its hash.
        seen_on: Option<RefName>,
    },
    /// The one that this reference names now.
    Ref(RefName),
}

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where it can be read.
    pub mirror: Mirror,
    /// The commits, in the order in which they were asked for.
    pub commits: Vec<CommitId>,
}

impl Mirrors {
    /// Has a mirror with these commits. Two that fetch from the same repository do so one after the other. Whoever drops
    /// the future ends git and all that git started; the next fetch mends what that leaves.
    ///
    /// # Errors
    /// [`CheckoutError`]: a commit or reference that is not there, a server that cannot be reached or says no, a bound.
    pub async fn fetch(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
        wanted: &[Wanted],
    ) -> Result<Fetched, CheckoutError> {
        if wanted.len() > WANTED_MAX {
            let what = format!("a fetch from {remote}");
            let remedy = "fetch fewer at once";
            return Err(CheckoutError::TooLarge { what, limit: WANTED_MAX as u64, unit: "commits", remedy });
        }
        let mirror = match remote.path() {
            Some(path) => self.look(&Layout::at(path)?).await?.0,
            None => self.fetched(remote, credential, wanted).await?,
        };
        let mut commits = Vec::new();
        for wanted in wanted {
            commits.push(mirror.wanted(wanted, remote).await?);
        }
        Ok(Fetched { mirror, commits })
    }

    async fn fetched(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
        wanted: &[Wanted],
    ) -> Result<Mirror, CheckoutError> {
        let is_long =
            |wanted: &Wanted| matches!(wanted, Wanted::Commit { id, .. } if id.as_str().len() == 64);
        let format = if wanted.iter().any(is_long) { Format::Sha256 } else { Format::Sha1 };
        let mut writing = self.write(remote, format).await?;
        let mut fetch = Fetch { mirrors: self, remote, credential };
        let result = fetch.all(&writing, wanted).await;
        match result {
            Err(error) if !writing.is_new && may_be_ours(&error) => {
                writing.anew().await?;
                fetch.all(&writing, wanted).await?;
            }
            other => other?,
        }
        writing.done().await
    }
}

/// Could an empty mirror do better?
fn may_be_ours(error: &CheckoutError) -> bool {
    match error {
        CheckoutError::TooLarge { .. } => true,
        CheckoutError::Git { said, .. } => {
            let marks = [
                "bad object",
                "corrupt",
                "missing",
                "unable to read",
                "all necessary objects",
                "invalid sha1",
                "broken",
                "a git repository",
                "bad pack",
                "packfile",
            ];
            marks.iter().any(|mark| said.contains(mark))
        }
        _ => false,
    }
}

struct Fetch<'a> {
    mirrors: &'a Mirrors,
    remote: &'a Remote,
    credential: Option<&'a Credential>,
}

impl Fetch<'_> {
    async fn all(&mut self, writing: &Writing<'_>, wanted: &[Wanted]) -> Result<(), CheckoutError> {
        let mut specs = Vec::new();
        for wanted in wanted {
            match wanted {
                Wanted::Commit { id, .. } if self.has(writing, id).await? => {}
                Wanted::Commit { id, .. } => specs.push(format!("{id}:{}", kept(id))),
                Wanted::Ref(name) => specs.push(format!("+{name}:{}", named(name))),
            }
        }
        specs.sort();
        specs.dedup();
        if specs.is_empty() {
            return Ok(());
        }
        match self.run(writing, &specs, true).await {
            Err(error) if gives_no_hashes(&error) => self.by_name(writing, wanted, error).await,
            other => other,
        }
    }

    /// A commit has its reference once all of it is here.
    async fn has(&self, writing: &Writing<'_>, id: &CommitId) -> Result<bool, CheckoutError> {
        let tried = format!("look for {id} in the mirror of {}", self.remote);
        let command = Command::of(&writing.repository, tried, self.mirrors.bounds.read);
        Ok(command.args(["show-ref", "--verify", "--quiet", &kept(id)]).answer().await?.is_some())
    }

    /// Fetches the references that commits were seen on, with their history, and looks whether the commits are there.
    async fn by_name(
        &mut self,
        writing: &Writing<'_>,
        wanted: &[Wanted],
        refused: CheckoutError,
    ) -> Result<(), CheckoutError> {
        let name = |wanted: &Wanted| match wanted {
            Wanted::Commit { seen_on, .. } => seen_on.clone(),
            Wanted::Ref(name) => Some(name.clone()),
        };
        let mut names: Vec<RefName> = wanted.iter().filter_map(name).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(refused);
        }
        let specs: Vec<String> = names.iter().map(|name| format!("+{name}:{}", named(name))).collect();
        self.run(writing, &specs, false).await?;
        for wanted in wanted {
            if let Wanted::Commit { id, seen_on: Some(name) } = wanted {
                self.keep(writing, id, name).await?;
            }
        }
        Ok(())
    }

    /// Gives a commit its reference if it came with the one that it was seen on: then all of it is here.
    async fn keep(&self, writing: &Writing<'_>, id: &CommitId, name: &RefName) -> Result<(), CheckoutError> {
        let command = |what: &str| {
            let tried = format!("{what} {id} in the mirror of {}", self.remote);
            Command::of(&writing.repository, tried, self.mirrors.bounds.read)
        };
        let looked =
            command("look for").args(["rev-list", "--max-count=1", id.as_str(), "--"]).answer().await;
        // Git makes no difference between a commit that is not here and one that it cannot read.
        if !matches!(looked, Ok(Some(_))) {
            return Ok(());
        }
        let within = ["merge-base", "--is-ancestor", id.as_str(), &named(name)];
        if command("look for").args(within).answer().await?.is_some() {
            command("keep").args(["update-ref", &kept(id), id.as_str()]).answer().await?;
        }
        Ok(())
    }

    async fn run(&self, writing: &Writing<'_>, specs: &[String], shallow: bool) -> Result<(), CheckoutError> {
        let limit = self.mirrors.bounds.mirror_bytes;
        let tried = format!("fetch from {}", self.remote);
        let command = Command::of(&writing.repository, tried, self.mirrors.bounds.fetch).args([
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--update-shallow",
        ]);
        // All of the history, also what an earlier fetch without it left out.
        let command = command.arg(if shallow { "--depth=1" } else { EVERY_DEPTH });
        let command =
            command.arg("--end-of-options").arg(self.remote.url()).args(specs.iter().map(String::as_str));
        let command = self.remote.allow(command, self.credential)?;
        writing.begin()?;
        let outcome = command.outcome(self.too_large(writing, limit)).await?;
        writing.end()?;
        if outcome.exit == Exit::Cancelled || (outcome.success() && writing.bytes() > limit) {
            let what = format!("what is fetched from {}", self.remote);
            let remedy = "raise the limit if the repository is known to be that large";
            return Err(CheckoutError::TooLarge { what, limit, unit: "bytes", remedy });
        }
        command.judge(&outcome)
    }

    /// Ends once the mirror is larger than it may be.
    async fn too_large(&self, writing: &Writing<'_>, limit: u64) {
        loop {
            self.mirrors.clock.sleep(LOOK_EVERY).await;
            let path = writing.repository.git_dir.clone();
            let looked = spawn_blocking(move || size(&path).0).await;
            if looked.is_ok_and(|bytes| bytes > limit) {
                return;
            }
        }
    }
}

fn gives_no_hashes(error: &CheckoutError) -> bool {
    let marks = ["unadvertised object", "not our ref"];
    matches!(error, CheckoutError::Git { said, .. } if marks.iter().any(|mark| said.contains(mark)))
}

/// Where a commit that was fetched by its hash is kept.
fn kept(id: &CommitId) -> String {
    format!("refs/ekaci/commit/{id}")
}

/// Where what a reference names was put at the last fetch.
fn named(name: &RefName) -> String {
    format!("refs/ekaci/name/{}", &hex(&Sha256::digest(name.as_str()))[..40])
}

impl Mirror {
    /// The commit that is wanted, now that it should be here.
    async fn wanted(&self, wanted: &Wanted, remote: &Remote) -> Result<CommitId, CheckoutError> {
        let is_local = remote.path().is_some();
        let (text, what) = match wanted {
            Wanted::Commit { id, .. } => (id.to_string(), format!("commit {id}")),
            Wanted::Ref(name) if is_local => (name.to_string(), name.to_string()),
            Wanted::Ref(name) => (named(name), name.to_string()),
        };
        let remedy = "push it there, or check whether it was force-pushed away";
        let absent = || CheckoutError::Absent { place: remote.to_string(), what, remedy };
        self.commit(&text).await?.ok_or_else(absent)
    }
}
