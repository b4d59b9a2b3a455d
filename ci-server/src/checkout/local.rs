//! A path comes in; where its repository keeps its objects, its references and its index comes out. The repository's own
//! configuration is asked for one thing, by a reader that follows no include: how its objects are named. Nothing is
//! written, and git is never started in the repository.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::CheckoutError;
use super::error::shown;
use super::git::{Command, Repository};
use super::hash::Format;
use super::odd::{self, Odd};

/// Largest of git's small files that is read, in bytes.
const SMALL_FILE_MAX: u64 = 64 * 1024;

/// Files of a repository that git reads, besides references and objects.
const READ: [&str; 5] = ["config", "packed-refs", "shallow", "info/exclude", "objects/info/alternates"];

/// References that lie beside `HEAD`: what was fetched or left last, and what is being merged or picked.
const BESIDE_HEAD: [&str; 6] =
    ["FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD"];

/// Where a repository on this machine keeps its things.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Its work tree's root; `None` for a bare one.
    pub(super) root: Option<PathBuf>,
    /// `HEAD` and the index are here.
    pub(super) git_dir: PathBuf,
    /// Objects and references are here: the same, unless it is one of several work trees.
    pub(super) common: PathBuf,
}

impl Layout {
    /// The repository at `path`, as a work tree or bare.
    pub(super) fn at(path: &Path) -> Result<Self, CheckoutError> {
        if is_git_dir(path) {
            return Self::of_git_dir(None, path);
        }
        match git_dir_of(path)? {
            Some(git_dir) => Self::of_git_dir(Some(path.to_owned()), &git_dir),
            None => {
                Err(no_repository(path, "neither .git nor HEAD, objects and refs are there; check the path"))
            }
        }
    }

    /// The work tree that `path` lies in.
    pub(super) fn around(path: &Path) -> Result<Self, CheckoutError> {
        let start = match fs::canonicalize(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(no_repository(path, "there is no such file or folder; check the path"));
            }
            start => start.map_err(CheckoutError::disk("look at", path))?,
        };
        for folder in start.ancestors() {
            if let Some(git_dir) = git_dir_of(folder)? {
                return Self::of_git_dir(Some(folder.to_owned()), &git_dir);
            }
            // `.git` is one as well; its work tree is the folder above.
            if is_git_dir(folder) && folder.file_name().is_none_or(|name| name != ".git") {
                return Err(CheckoutError::Bare { path: folder.to_owned() });
            }
        }
        Err(no_repository(
            path,
            "neither it nor a folder above it has .git; run `git init`, or name another folder",
        ))
    }

    fn of_git_dir(root: Option<PathBuf>, git_dir: &Path) -> Result<Self, CheckoutError> {
        let common = match small_file(&git_dir.join("commondir"))? {
            Some(text) => git_dir.join(text.trim_end()),
            None => git_dir.to_owned(),
        };
        let canonical = |path: &Path| fs::canonicalize(path).map_err(CheckoutError::disk("look at", path));
        let layout = Self { root, git_dir: canonical(git_dir)?, common: canonical(&common)? };
        if !layout.common.join("objects").is_dir() {
            return Err(no_repository(&layout.common, "its folder `objects` is not there; it is damaged"));
        }
        match layout.odd() {
            Some(odd) => Err(odd.unread()),
            None => Ok(layout),
        }
    }

    /// What git would open and is no file.
    fn odd(&self) -> Option<Odd> {
        let files = READ.iter().map(|name| self.common.join(name)).chain([self.git_dir.join("HEAD")]);
        let mut odd = files.filter_map(|path| Odd::at(&path));
        odd.next().or_else(|| odd::below(&self.common.join("refs")).into_iter().next())
    }

    /// How its objects are named.
    pub(super) async fn format(&self, limit: std::time::Duration) -> Result<Format, CheckoutError> {
        let config = self.common.join("config");
        if !config.is_file() {
            return Ok(Format::Sha1);
        }
        let ask = async |key: &str| {
            let tried = format!("read the format of the repository {}", self.common.display());
            let command = Command::new(tried, limit).args(["config", "--no-includes", "--file"]);
            let answer = command.arg(config.as_os_str()).args(["--get", key]).answer().await?;
            Ok::<_, CheckoutError>(answer.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_lowercase()))
        };
        if let Some(storage) = ask("extensions.refStorage").await?
            && storage != "files"
        {
            let why = format!(
                "it keeps its references as {}; migrate it by `git refs migrate --ref-format=files`",
                shown(storage.as_bytes())
            );
            return Err(no_repository(&self.common, &why));
        }
        match ask("extensions.objectFormat").await?.as_deref() {
            None | Some("sha1") => Ok(Format::Sha1),
            Some("sha256") => Ok(Format::Sha256),
            Some(other) => Err(no_repository(
                &self.common,
                &format!("its objects are named by {}; sha1 or sha256 is expected", shown(other.as_bytes())),
            )),
        }
    }

    /// Makes a folder of ours a bare repository that has this one's references and reads its objects.
    pub(super) fn shadow(&self, path: &Path, format: Format) -> Result<Repository, CheckoutError> {
        self.fill(path, format).map_err(CheckoutError::disk("write in", path))?;
        let shallow = self.common.join("shallow");
        Ok(Repository {
            git_dir: path.to_owned(),
            objects: Some(self.common.join("objects")),
            shallow: shallow.is_file().then_some(shallow),
            name: self.root.as_ref().unwrap_or(&self.common).display().to_string(),
        })
    }

    fn fill(&self, path: &Path, format: Format) -> io::Result<()> {
        bare(path, format)?;
        if let Ok(Some(head)) = small_file(&self.git_dir.join("HEAD")) {
            fs::write(path.join("HEAD"), head)?;
        }
        for name in BESIDE_HEAD {
            if let Some(commit) = commit_in(&self.git_dir.join(name), format) {
                fs::write(path.join(name), commit + "\n")?;
            }
        }
        fs::remove_dir(path.join("refs"))?;
        symlink(self.common.join("refs"), path.join("refs"))?;
        symlink(self.common.join("packed-refs"), path.join("packed-refs")) // which may not be there yet
    }
}

/// Writes an empty bare repository into a folder.
pub(super) fn bare(path: &Path, format: Format) -> io::Result<()> {
    for folder in ["objects/pack", "objects/info", "refs", "info"] {
        fs::create_dir_all(path.join(folder))?;
    }
    let version = match format {
        Format::Sha1 => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
        Format::Sha256 => {
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n"
        }
    };
    fs::write(path.join("config"), version)?;
    fs::write(path.join("HEAD"), "ref: refs/heads/none\n")
}

/// Does git take a folder for one of its own?
pub(super) fn is_git_dir(path: &Path) -> bool {
    path.join("HEAD").symlink_metadata().is_ok()
        && path.join("objects").is_dir()
        && path.join("refs").is_dir()
}

/// What `.git` in a folder says.
fn git_dir_of(folder: &Path) -> Result<Option<PathBuf>, CheckoutError> {
    let dot_git = folder.join(".git");
    let Ok(meta) = fs::metadata(&dot_git) else { return Ok(None) };
    if meta.is_dir() {
        return Ok(is_git_dir(&dot_git).then_some(dot_git));
    }
    let text = small_file(&dot_git)?.unwrap_or_default();
    let Some(path) = text.strip_prefix("gitdir:") else {
        return Err(no_repository(folder, "its file .git does not say `gitdir: PATH`; it is damaged"));
    };
    let git_dir = folder.join(path.trim());
    if git_dir.join("HEAD").symlink_metadata().is_err() {
        return Err(no_repository(
            folder,
            "its file .git leads nowhere; run `git worktree repair` in the main one",
        ));
    }
    Ok(Some(git_dir))
}

/// A text file of git's; `None` when it is not there.
fn small_file(path: &Path) -> Result<Option<String>, CheckoutError> {
    let failed = CheckoutError::disk("read", path);
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= SMALL_FILE_MAX => {
            fs::read_to_string(path).map(Some).map_err(failed)
        }
        Ok(_) => Err(failed(io::Error::other("a small file was expected"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The commit that a file begins with, if it is one of git's: `FETCH_HEAD` says behind it where it is from, and names more.
fn commit_in(path: &Path, format: Format) -> Option<String> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut bytes = vec![0; format.hex_len() + 1];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    let behind = bytes.pop()?;
    let is_commit = behind.is_ascii_whitespace() && bytes.iter().all(u8::is_ascii_hexdigit);
    String::from_utf8(bytes).ok().filter(|_| is_commit)
}

fn no_repository(path: &Path, why: &str) -> CheckoutError {
    CheckoutError::NoRepository { path: path.to_owned(), why: why.to_owned() }
}
