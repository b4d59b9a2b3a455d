//! A person's own checkout comes in; what lies in it now, as a checkout that no editor changes any more, comes out,
//! under the tree that git would make of it. The repository's index, objects, references and configuration stay
//! untouched and its configuration unread: the index is copied, and git looks at the copy. Files that git ignores are
//! left out, as are those that are no files; what is left out and may surprise is told.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, BufRead as _, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ci_model::id::{CommitId, TreeId};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::error::shown;
use super::git::Command;
use super::hash::{Folder, Format, unhex};
use super::links::{self, Links};
use super::listing::{Count, Entry, Kind, LINK_BYTES_MAX, refused};
use super::local::Layout;
use super::odd::{self, Odd, Searching};
use super::places::{Draft, disk_bytes};
use super::write::{self, Descent};
use super::{Bounds, CheckoutError, Mirror, Mirrors, Placed, Places, Rev};

/// How often a file that changes while it is read is read anew.
const READ_AGAIN_MAX: u32 = 5;
/// Largest index that is copied, in bytes.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// What a snapshot is called in messages before its tree is known.
const WORK_TREE: &str = "the work tree";
/// A person's own checkout.
#[derive(Clone, Debug)]
pub struct Worktree {
    root: PathBuf,
    layout: Layout,
    format: Format,
    mirror: Mirror,
}

/// A work tree as it was at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is, and where; without a commit.
    pub placed: Placed,
    /// What was left out and may surprise: submodules, links that lead elsewhere, other repositories, devices.
    pub left_out: Vec<String>,
}

impl Worktree {
    /// The work tree that a path lies in. Also one of several of a repository, a submodule's, and one that belongs to
    /// another user: nothing it configures is read.
    ///
    /// # Errors
    /// [`CheckoutError::NoRepository`] when the path lies in none.
    pub async fn open(path: &Path, mirrors: &Mirrors) -> Result<Self, CheckoutError> {
        let layout = Layout::around(path)?;
        let (mirror, format) = mirrors.look(&layout).await?;
        let root = layout.root.clone().unwrap_or_else(|| layout.common.clone());
        Ok(Self { root, layout, format, mirror })
    }

    /// Its topmost folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its repository, to read commits from.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Was only the end of its history cloned?
    #[must_use]
    pub fn is_shallow(&self) -> bool {
        self.mirror.repository.shallow.is_some()
    }

    /// The commit that a person means.
    ///
    /// # Errors
    /// [`CheckoutError::Absent`] when it names none.
    pub async fn resolve(&self, rev: &Rev) -> Result<CommitId, CheckoutError> {
        let place = self.root.display().to_string();
        let remedy = if self.is_shallow() {
            "this clone is shallow: run `git fetch --unshallow`, or look at `git log --oneline --all`"
        } else {
            "look at `git log --oneline --all`, or run `git fetch`"
        };
        let absent = || CheckoutError::Absent { place, what: format!("commit that is called {rev}"), remedy };
        self.mirror.commit(rev.as_str()).await?.ok_or_else(absent)
    }

    /// Writes what lies in the work tree now, tracked or not but not ignored, into a folder.
    ///
    /// # Errors
    /// [`CheckoutError`]: a bound, an entry that is not written, a file that does not hold still, git, the disk.
    pub async fn snapshot(&self, places: &Places) -> Result<Snapshot, CheckoutError> {
        let found = self.found().await?;
        let (root, format, bounds) = (self.root.clone(), self.format, self.mirror.bounds.clone());
        let mut look = Look { root, bounds, left_out: Vec::new() };
        let joined = |error| CheckoutError::disk("read", &self.root)(io::Error::other(error));
        let (mut look, mut entries, links) = spawn_blocking(move || {
            let (entries, links) = look.entries(&found)?;
            Ok::<_, CheckoutError>((look, entries, links))
        })
        .await
        .map_err(joined)??;
        let drafting = places.clone();
        let (tree, bytes, draft, left_out) = spawn_blocking(move || {
            let draft = drafting.draft()?;
            let tree = look.copy(&mut entries, &links, &draft, format)?;
            Ok::<_, CheckoutError>((tree, disk_bytes(&entries), draft, look.left_out))
        })
        .await
        .map_err(joined)??;
        Ok(Snapshot { placed: places.keep(draft, None, &tree, bytes).await?, left_out })
    }

    /// What git knows of, and what it does not ignore. Git waits for a pipe that it finds for a file, so somebody else looks
    /// for those meanwhile.
    async fn found(&self) -> Result<BTreeMap<Vec<u8>, Known>, CheckoutError> {
        self.copy_index()?;
        let excludes = self.persons_excludes().await?;
        tokio::select! {
            biased;
            found = self.listed(excludes.as_deref()) => found,
            odd = self.odd(excludes.as_deref()) => Err(odd.refused(WORK_TREE, &self.root)),
        }
    }

    /// What git would wait for; nothing comes where there is none.
    async fn odd(&self, excludes: Option<&Path>) -> Odd {
        let searching = Searching::default();
        let (root, over) = (self.root.clone(), searching.over());
        // Where there is no thread for it, git's time limit is left.
        let found = spawn_blocking(move || odd::in_work_tree(&root, &over)).await.unwrap_or_default();
        for odd in found {
            let folder = odd.path.parent().unwrap_or(&self.root).strip_prefix(&self.root);
            // Behind `./` no name means anything to git.
            let folder = Path::new(".").join(folder.unwrap_or(Path::new("")));
            let asked = self.listing("ask what git ignores", excludes);
            let asked = asked.args(["check-ignore", "--quiet", "--no-index", "--"]).arg(&folder);
            // What git ignores it does not open.
            if folder == Path::new(".") || !matches!(asked.answer().await, Ok(Some(_))) {
                return odd;
            }
        }
        std::future::pending().await
    }

    async fn listed(&self, excludes: Option<&Path>) -> Result<BTreeMap<Vec<u8>, Known>, CheckoutError> {
        let tried = format!("list the files of {}", self.root.display());
        let staged = self.listing(&tried, None).args(["ls-files", "-z", "--stage", "-t", "--full-name"]);
        let limit = self.mirror.bounds.clone();
        let mut found =
            staged.stream(&self.mirror.clock, Vec::new(), move |from| known(from, &limit)).await?;
        let others = self.listing(&tried, excludes);
        let others = others.args(["ls-files", "-z", "--others", "--exclude-standard", "--full-name"]);
        let limit = self.mirror.bounds.clone();
        let others = others.stream(&self.mirror.clock, Vec::new(), move |from| records(from, &limit)).await?;
        for path in others {
            found.entry(path).or_insert(Known::Not);
        }
        Ok(found)
    }

    /// A look at the work tree; `excludes` is a file with what is ignored besides.
    fn listing(&self, tried: &str, excludes: Option<&Path>) -> Command {
        let mut command =
            self.mirror.git(tried).env("GIT_WORK_TREE", &self.root).setting("core.bare", "false");
        if let Some(path) = excludes {
            command = command.setting("core.excludesFile", path);
        }
        command.cwd(&self.root).within(self.mirror.bounds.list, STUCK)
    }

    fn copy_index(&self) -> Result<(), CheckoutError> {
        let to = &self.mirror.repository.git_dir;
        let copy = |from: &Path, name: &Path| {
            let copied = match fs::metadata(from) {
                Ok(meta) if meta.is_file() && meta.len() <= INDEX_BYTES_MAX => {
                    fs::copy(from, to.join(name)).map(drop)
                }
                Ok(_) => Err(io::Error::other("a file of at most 1 GiB was expected")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            copied.map_err(|source| match source.kind() {
                // That is about our side.
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    CheckoutError::disk("write", &to.join(name))(source)
                }
                _ => CheckoutError::disk("copy", from)(source),
            })
        };
        let index = self.layout.git_dir.join("index");
        copy(&index, Path::new("index"))?;
        let exclude = self.layout.common.join("info/exclude");
        copy(&exclude, Path::new("info/exclude"))?;
        let list =
            fs::read_dir(&self.layout.git_dir).map_err(CheckoutError::disk("list", &self.layout.git_dir))?;
        for entry in list.filter_map(Result::ok) {
            let name = entry.file_name();
            if name.as_bytes().starts_with(b"sharedindex.") {
                copy(&entry.path(), Path::new(&name))?;
            }
        }
        Ok(())
    }

    /// What the person, not the repository, wants ignored everywhere.
    async fn persons_excludes(&self) -> Result<Option<PathBuf>, CheckoutError> {
        let Some(home) = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute()) else {
            return Ok(None);
        };
        let config =
            std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|config| config.is_absolute());
        let config = config.unwrap_or_else(|| home.join(".config"));
        let tried = "read the person's own configuration of git";
        for file in [home.join(".gitconfig"), config.join("git/config")] {
            if !file.is_file() {
                continue;
            }
            let command = Command::new(tried, self.mirror.bounds.read).env("HOME", &home);
            let command = command.args(["config", "--includes", "--type=path", "--file"]).arg(&file);
            if let Some(answer) = command.args(["--get", "core.excludesFile"]).answer().await? {
                let path =
                    Path::new(std::ffi::OsStr::from_bytes(answer.strip_suffix(b"\n").unwrap_or(&answer)));
                return Odd::at(path).map_or_else(|| Ok(Some(path.to_owned())), |odd| Err(odd.unread()));
            }
        }
        let usual = config.join("git/ignore");
        Ok(usual.is_file().then_some(usual))
    }
}

/// What may be the matter with a listing that takes too long.
const STUCK: &str = "the work tree is too large or its disk too slow for the limit";

/// What the index says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Nothing: it is not tracked.
    Not,
    /// It is tracked.
    File,
    /// It is tracked and was left out of this work tree on purpose.
    Sparse,
    /// A commit of another repository.
    Submodule(String),
}

/// Reads `TAG MODE ID STAGE\tPATH` records.
fn known(from: &mut impl io::BufRead, bounds: &Bounds) -> Result<BTreeMap<Vec<u8>, Known>, CheckoutError> {
    let mut found = BTreeMap::new();
    for record in records(from, bounds)? {
        let odd =
            || CheckoutError::Answer { tried: "read the index".into(), answer: super::error::said(&record) };
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(odd)?;
        let head = String::from_utf8_lossy(&record[..tab]).into_owned();
        let words: Vec<&str> = head.split_ascii_whitespace().collect();
        let known = match words[..] {
            [_, "160000", id, _] => Known::Submodule(id.to_owned()),
            ["S", _, _, _] => Known::Sparse,
            [_, _, _, _] => Known::File,
            _ => return Err(odd()),
        };
        found.insert(record[tab + 1..].to_vec(), known);
    }
    Ok(found)
}

/// Reads what ends with NULs.
fn records(from: &mut impl io::BufRead, bounds: &Bounds) -> Result<Vec<Vec<u8>>, CheckoutError> {
    let mut records = Vec::new();
    loop {
        let mut record = Vec::new();
        let longest = bounds.path_bytes as u64 + 256;
        let size = from.by_ref().take(longest).read_until(0, &mut record);
        let size = size.map_err(CheckoutError::disk("read", Path::new("a list of files from git")))?;
        if size == 0 {
            return Ok(records);
        }
        if record.pop() != Some(0) {
            return Err(refused(WORK_TREE, &record, format!("is longer than {} bytes", bounds.path_bytes)));
        }
        if records.len() >= bounds.entries {
            let what = "the work tree".to_owned();
            let remedy = "raise the limit, or have git ignore what does not belong to it";
            return Err(CheckoutError::TooLarge {
                what,
                limit: bounds.entries as u64,
                unit: "files",
                remedy,
            });
        }
        records.push(record);
    }
}

/// A look at the files themselves.
struct Look {
    root: PathBuf,
    bounds: Bounds,
    left_out: Vec<String>,
}

impl Look {
    /// What there is to copy, counted before anything is written, and where its links lead.
    fn entries(&mut self, found: &BTreeMap<Vec<u8>, Known>) -> Result<(Vec<Entry>, Links), CheckoutError> {
        let mut from = Descent::from(&self.root, false)?;
        let (mut entries, mut links) = (Vec::new(), Vec::new());
        for (path, known) in found {
            let Some(entry) = self.entry(&mut from, path, known)? else { continue };
            if entry.kind == Kind::Link {
                links.push((path.clone(), read_link(&mut from, path)?));
            }
            entries.push(entry);
        }
        self.without_leading_out(found, &mut entries, &mut links)?;
        let bounds = self.bounds.clone();
        let mut count = Count::new(WORK_TREE, &bounds);
        entries.iter().try_for_each(|entry| count.add(entry))?;
        Ok((entries, links))
    }

    /// What is at a path now; `None` for nothing that is copied.
    fn entry(
        &mut self,
        from: &mut Descent,
        path: &[u8],
        known: &Known,
    ) -> Result<Option<Entry>, CheckoutError> {
        let entry =
            |kind, id: &str, size| Ok(Some(Entry { path: path.to_vec(), kind, id: id.to_owned(), size }));
        if let Known::Submodule(id) = known {
            self.leave_out(path, "is a submodule; its files are not looked at");
            return entry(Kind::Submodule, id, 0);
        }
        if path.ends_with(b"/") {
            self.leave_out(path, "is a repository of its own");
            return Ok(None);
        }
        let failed = from.failed("look at", path);
        let looked = from
            .folder_of(path)
            .and_then(|(folder, name)| rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
        let stat = match looked {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                if *known == Known::Sparse {
                    self.leave_out(path, "is not there: this work tree is sparse");
                }
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => entry(Kind::File { executable: stat.st_mode & 0o100 != 0 }, "", size),
            FileType::Symlink => entry(Kind::Link, "", size),
            FileType::Directory => Ok(None),
            _ => {
                self.leave_out(path, "is no file");
                Ok(None)
            }
        }
    }

    /// A link of the repository that leads out is refused; one that only lies there, such as `result`, is left out.
    fn without_leading_out(
        &mut self,
        found: &BTreeMap<Vec<u8>, Known>,
        entries: &mut Vec<Entry>,
        links: &mut Links,
    ) -> Result<(), CheckoutError> {
        let mut out = HashSet::new();
        for (index, why) in links::refused(links).into_iter().rev() {
            let path = &links[index].0;
            if found.get(path) != Some(&Known::Not) {
                return Err(refused(WORK_TREE, path, why.to_owned()));
            }
            let why = why.split(';').next().unwrap_or(why);
            self.leave_out(path, &format!("{why}, and is not tracked"));
            out.insert(path.clone());
        }
        links.retain(|(path, _)| !out.contains(path));
        entries.retain(|entry| !out.contains(&entry.path));
        Ok(())
    }

    fn leave_out(&mut self, path: &[u8], why: &str) {
        self.left_out.push(format!("{} {why}", shown(path)));
    }

    /// Copies all of it, and gives the tree that git would make of that.
    fn copy(
        &mut self,
        entries: &mut [Entry],
        links: &Links,
        draft: &Draft,
        format: Format,
    ) -> Result<TreeId, CheckoutError> {
        let mut from = Descent::from(&self.root, false)?;
        let mut to = Descent::from(&draft.path, true)?;
        let (mut tree, mut links) = (Folder::default(), links.iter());
        for entry in entries {
            let id = match entry.kind {
                Kind::File { executable } => self.copy_file(&mut from, &mut to, entry, executable, format)?,
                Kind::Link => {
                    let target = links.next().map(|(_, target)| target.as_slice()).unwrap_or_default();
                    write::link(&mut to, &entry.path, target)?;
                    format.of("blob", target)
                }
                Kind::Submodule => {
                    write::submodule(&mut to, &entry.path)?;
                    unhex(&entry.id).unwrap_or_default()
                }
            };
            tree.add(&entry.path, entry.kind.mode(), id);
        }
        to.finish()?;
        tree.tree_id(format)
    }

    fn copy_file(
        &self,
        from: &mut Descent,
        to: &mut Descent,
        entry: &mut Entry,
        executable: bool,
        format: Format,
    ) -> Result<Vec<u8>, CheckoutError> {
        for _ in 0..READ_AGAIN_MAX {
            let failed = from.failed("read", &entry.path);
            let opened = from.folder_of(&entry.path).and_then(|(folder, name)| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::openat(folder, name, flags, Mode::empty())
            });
            let file = fs::File::from(opened.map_err(failed)?);
            let meta = file.metadata().map_err(CheckoutError::disk("look at", &self.root))?;
            if !meta.is_file() || meta.len() > self.bounds.file_bytes {
                let why = format!("became something else, or larger than {} bytes", self.bounds.file_bytes);
                return Err(refused(WORK_TREE, &entry.path, why));
            }
            let mut hasher = format.start("blob", meta.len());
            let mut content = file.take(meta.len() + 1);
            let bytes = write::file(to, &entry.path, executable, &mut content, |piece| hasher.update(piece))?;
            if bytes == meta.len() {
                entry.size = bytes;
                return Ok(hasher.finish());
            }
            to.remove(&entry.path)?;
        }
        let why = format!(
            "changes while it is read, {READ_AGAIN_MAX} times in a row; try again when it holds still"
        );
        Err(refused(WORK_TREE, &entry.path, why))
    }
}

fn read_link(from: &mut Descent, path: &[u8]) -> Result<Vec<u8>, CheckoutError> {
    let failed = from.failed("read the link", path);
    let buffer = Vec::with_capacity(usize::try_from(LINK_BYTES_MAX).unwrap_or_default() + 1);
    let target = from.folder_of(path).and_then(|(folder, name)| rustix::fs::readlinkat(folder, name, buffer));
    target.map(std::ffi::CString::into_bytes).map_err(failed)
}
