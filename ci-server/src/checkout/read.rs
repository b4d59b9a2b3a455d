//! Questions about commits of a repository come in; what git's objects say comes out. Nothing of it is run or followed:
//! a link in the repository is an entry like any other, and is refused where a file is asked for.

use std::io::{BufRead, Read};

use ci_model::id::{CommitId, TreeId};

use super::error::{said, shown};
use super::git::Command;
use super::listing::{Entry, odd_path};
use super::{CheckoutError, Mirror};

/// Longest path for [`Mirror::blob`], in bytes.
const PATH_BYTES_MAX: usize = 4096;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The name of its content.
    pub id: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Mirror {
    /// A command that reads this repository.
    pub(super) fn git(&self, tried: impl Into<String>) -> Command {
        Command::of(&self.repository, tried, self.bounds.read)
    }

    /// The repository, as people know it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.repository.name
    }

    /// The commit that a text names; `None` when it names none. The text is trusted not to be an option.
    pub(super) async fn commit(&self, text: &str) -> Result<Option<CommitId>, CheckoutError> {
        let command = self.git(format!("look for {text} in {}", self.name()));
        let text = format!("{text}^{{commit}}");
        let command = command.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &text]);
        let Some(answer) = command.answer().await? else { return Ok(None) };
        // With --quiet a tree or blob is a silent no, but older releases of git repeat the option.
        let id = String::from_utf8_lossy(&answer).lines().last().unwrap_or_default().to_owned();
        id.parse().map(Some).map_err(|_| command.nonsense(&answer))
    }

    /// What a commit holds.
    ///
    /// # Errors
    /// [`CheckoutError`] when the commit is not there, or git fails.
    pub async fn tree(&self, commit: &CommitId) -> Result<TreeId, CheckoutError> {
        let text = format!("{commit}^{{tree}}");
        let command = self.git(format!("look for {commit} in {}", self.name()));
        let command = command.args(["rev-parse", "--verify", "--quiet", "--end-of-options", &text]);
        let remedy = "fetch it first";
        let absent = || CheckoutError::Absent {
            place: self.name().to_owned(),
            what: format!("commit {commit}"),
            remedy,
        };
        let answer = command.answer().await?.ok_or_else(absent)?;
        let id = String::from_utf8_lossy(&answer).lines().last().unwrap_or_default().to_owned();
        id.parse().map_err(|_| command.nonsense(&answer))
    }

    /// A file of a commit, read from git's objects; `None` when it has none there.
    ///
    /// # Errors
    /// [`CheckoutError::Entry`] for what is no file, lies below a link, or has more than `bytes_max` bytes: that is looked
    /// at before it is read.
    pub async fn blob(
        &self,
        commit: &CommitId,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<Blob>, CheckoutError> {
        let refuse = |why: String| CheckoutError::Entry {
            tree: commit.to_string(),
            path: shown(path.as_bytes()),
            why,
        };
        if let Some(why) = odd_path(path.as_bytes()) {
            return Err(refuse(why.to_owned()));
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(refuse(format!("is longer than {PATH_BYTES_MAX} bytes")));
        }
        let Some(entry) = self.entry(commit, path).await? else { return Ok(None) };
        if entry.size > bytes_max as u64 {
            return Err(refuse(format!("has {} bytes, more than the limit of {bytes_max}", entry.size)));
        }
        let command = self.git(format!("read {} of {commit} in {}", shown(path.as_bytes()), self.name()));
        let command = command.args(["cat-file", "blob", &entry.id]);
        let bytes = command.answer_within(bytes_max).await?.unwrap_or_default();
        if bytes.len() as u64 != entry.size {
            return Err(command.nonsense(&bytes));
        }
        Ok(Some(Blob { id: entry.id, bytes }))
    }

    /// The file at a path; whatever else stands there or on the way is refused.
    async fn entry(&self, commit: &CommitId, path: &str) -> Result<Option<Entry>, CheckoutError> {
        let command = self.git(format!("look for {} in {commit}", shown(path.as_bytes())));
        let command = command.env("GIT_LITERAL_PATHSPECS", "1");
        let mut command = command.args(["ls-tree", "-l", "-z", "--full-tree", commit.as_str(), "--"]);
        for (slash, _) in path.match_indices('/') {
            command = command.arg(&path[..slash]);
        }
        let command = command.arg(path);
        let answer = command.answer().await?.unwrap_or_default();
        let refuse = |at: &[u8], why: &str| {
            Err(CheckoutError::Entry { tree: commit.to_string(), path: shown(at), why: why.to_owned() })
        };
        for record in answer.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
            let tab =
                record.iter().position(|byte| *byte == b'\t').ok_or_else(|| command.nonsense(record))?;
            let (head, at) = (&record[..tab], &record[tab + 1..]);
            let head = String::from_utf8_lossy(head);
            let words: Vec<&str> = head.split_ascii_whitespace().collect();
            match words[..] {
                ["120000", ..] => {
                    return refuse(at, "is a link, and links are not followed; put the file itself there");
                }
                ["160000", ..] => {
                    return refuse(
                        at,
                        "is a submodule, and those are not fetched; put the file into the repository",
                    );
                }
                [_, "blob", id, size] if at == path.as_bytes() => {
                    let size = size.parse().map_err(|_| command.nonsense(record))?;
                    let kind = super::listing::Kind::File { executable: false };
                    return Ok(Some(Entry { path: at.to_vec(), kind, id: id.to_owned(), size }));
                }
                [_, "tree", ..] if at == path.as_bytes() => {
                    return refuse(at, "is a folder; a file is expected");
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Files that differ between two commits, sorted, from the root of the repository. A file that moved is named with
    /// both places. A name that is not UTF-8 is given as git quotes it, with octal digits in double quotes.
    ///
    /// # Errors
    /// [`CheckoutError::TooLarge`] for more names than [`Bounds::changed_bytes`](super::Bounds::changed_bytes).
    pub async fn changed_paths(
        &self,
        base: &CommitId,
        head: &CommitId,
    ) -> Result<Vec<String>, CheckoutError> {
        self.changed(self.tree(base).await?, self.tree(head).await?).await
    }

    /// The same for two trees.
    async fn changed(&self, base: TreeId, head: TreeId) -> Result<Vec<String>, CheckoutError> {
        let command = self.git(format!("compare {base} and {head} in {}", self.name())).args([
            "diff-tree",
            "-r",
            "-z",
            "--no-renames",
            "--name-only",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
            "--end-of-options",
            base.as_str(),
            head.as_str(),
        ]);
        let limit = self.bounds.changed_bytes;
        let what = format!("the change from {base} to {head}");
        let mut paths = command.stream(&self.clock, Vec::new(), move |from| names(from, limit, what)).await?;
        paths.sort();
        Ok(paths)
    }

    /// The last commit that both have in their history, if any.
    ///
    /// # Errors
    /// [`CheckoutError`] when git fails, as it does where the history was cut off.
    pub async fn merge_base(
        &self,
        one: &CommitId,
        other: &CommitId,
    ) -> Result<Option<CommitId>, CheckoutError> {
        let command = self.git(format!("find what {one} and {other} have in common in {}", self.name()));
        let command = command.args(["merge-base", one.as_str(), other.as_str()]);
        let Some(answer) = command.answer().await? else { return Ok(None) };
        let text = String::from_utf8_lossy(&answer);
        text.trim().parse().map(Some).map_err(|_| command.nonsense(&answer))
    }
}

fn names(from: &mut impl BufRead, limit: usize, what: String) -> Result<Vec<String>, CheckoutError> {
    let (mut paths, mut left) = (Vec::new(), limit);
    loop {
        let mut path = Vec::new();
        let failed =
            |source| CheckoutError::Disk { tried: "read", path: "a list of files from git".into(), source };
        from.by_ref().take(left as u64 + 1).read_until(0, &mut path).map_err(failed)?;
        if path.is_empty() {
            return Ok(paths);
        }
        if path.len() > left {
            let remedy = "compare commits that lie closer together";
            return Err(CheckoutError::TooLarge {
                what,
                limit: limit as u64,
                unit: "bytes of names",
                remedy,
            });
        }
        left -= path.len();
        if path.pop() != Some(0) {
            return Err(CheckoutError::Answer { tried: format!("list {what}"), answer: said(&path) });
        }
        paths.push(as_text(path));
    }
}

/// As it is, or quoted when it is not UTF-8.
pub(super) fn as_text(path: Vec<u8>) -> String {
    String::from_utf8(path).unwrap_or_else(|error| {
        let quote = |byte: &u8| match byte {
            b'"' | b'\\' => format!("\\{}", char::from(*byte)),
            0x20..=0x7e => char::from(*byte).to_string(),
            _ => format!("\\{byte:03o}"),
        };
        format!("\"{}\"", error.as_bytes().iter().map(quote).collect::<String>())
    })
}
