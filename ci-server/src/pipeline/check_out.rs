//! The code of both sides of a person's own repository. In: where it is and what is to be compared; out: two folders that
//! nothing changes any more, and which files differ. They are there for as long as what is given lives.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ci_model::flow::Checkout;
use ci_model::id::NAME_BYTES_MAX;
use ci_model::{NotAName, RepositoryName};
use service_kit::shutdown::Stop;
use tokio::task::spawn_blocking;

use super::{Request, RunError};
use crate::checkout::{Bounds, CheckoutError, DefaultBase, Mirrors, Placed, Places, Rev, Worktree};

/// How much of two files is compared at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Which code wants a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// The files as they lie there.
    Worktree,
    /// A commit, as git is asked for it.
    Revision(String),
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Where the head left the default branch.
    WhereItBegan,
    /// A commit, as git is asked for it.
    Revision(String),
    /// Nothing: everything is new.
    Nothing,
}

/// The code of a change.
pub(super) struct Code {
    pub(super) repository: RepositoryName,
    pub(super) checkout: Checkout,
    pub(super) warnings: Vec<String>,
    /// Keep the folders.
    _held: Vec<Placed>,
}

/// Checks both sides out.
pub(super) async fn both_sides(request: &Request, stop: &Stop) -> Result<Code, RunError> {
    tokio::select! {
        code = check_out(request) => code,
        () = stop.requested() => Err(RunError::Cancelled),
    }
}

async fn check_out(request: &Request) -> Result<Code, RunError> {
    let clock = &request.clock;
    let mirrors = Mirrors::open(&request.checkouts.join("mirrors"), Bounds::default(), clock.clone())?;
    let places = Places::open(&request.checkouts.join("trees"), Bounds::default(), clock.clone())?;
    let work = Worktree::open(&request.path, &mirrors).await?;
    let (head, mut warnings) = match &request.head {
        Head::Worktree => {
            let snapshot = work.snapshot(&places).await?;
            (snapshot.placed, snapshot.left_out)
        }
        Head::Revision(text) => {
            let commit = work.resolve(&text.parse::<Rev>()?).await?;
            (work.mirror().materialise(&commit, &places).await?, Vec::new())
        }
    };
    let chosen = base_commit(request, &work, &head).await?;
    warnings.extend(chosen.warning);
    let base = match chosen.commit {
        Some(commit) => Some(work.mirror().materialise(&commit, &places).await?),
        None => None,
    };
    let changed = match &base {
        Some(base) => changed(&work, base, &head).await?,
        None => Vec::new(),
    };
    let repository = name_of(work.root()).map_err(RunError::Name)?;
    let sources = (head.source.clone(), base.as_ref().map(|base| base.source.clone()));
    Ok(Code {
        repository,
        checkout: Checkout { head: sources.0, base: sources.1, changed },
        warnings,
        _held: [Some(head), base].into_iter().flatten().collect(),
    })
}

/// A local repository's name: its path, without control characters; of one that is too long, the end that fits, from
/// the beginning of a folder's name where there is one.
fn name_of(root: &Path) -> Result<RepositoryName, NotAName> {
    let path: String = root.to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    if path.len() <= NAME_BYTES_MAX {
        return path.parse();
    }
    let from = (path.len() - NAME_BYTES_MAX..path.len()).find(|at| path.is_char_boundary(*at));
    let end = &path[from.unwrap_or_default()..];
    end.find('/').map_or(end.trim_start_matches('-'), |at| &end[at..]).parse()
}

async fn base_commit(
    request: &Request,
    work: &Worktree,
    head: &Placed,
) -> Result<DefaultBase, CheckoutError> {
    match &request.base {
        Base::Nothing => Ok(DefaultBase::default()),
        Base::Revision(text) => {
            let commit = work.resolve(&text.parse::<Rev>()?).await?;
            Ok(DefaultBase { commit: Some(commit), warning: None })
        }
        Base::WhereItBegan => work.default_base(head.source.commit.as_ref(), &head.source.tree).await,
    }
}

/// Files that differ. Git is asked where it has both sides, else the folders are compared.
async fn changed(work: &Worktree, base: &Placed, head: &Placed) -> Result<Vec<String>, RunError> {
    if let (Some(base), Some(head)) = (&base.source.commit, &head.source.commit) {
        return Ok(work.mirror().changed_paths(base, head).await?);
    }
    let (before, after) = (base.source.folder.clone(), head.source.folder.clone());
    let compared = spawn_blocking(move || {
        let mut changed = Vec::new();
        let (before, after) = (before.as_path(), after.as_path());
        differing(before, after, Path::new(""), &mut changed).map(|()| changed)
    });
    let mut changed = compared.await.expect("comparing folders does not panic: it returns its errors")?;
    changed.sort_unstable();
    Ok(changed)
}

/// Adds the files below `at` that one side has and the other has not, or has otherwise. Checkouts have a depth that is
/// bounded.
fn differing(before: &Path, after: &Path, at: &Path, changed: &mut Vec<String>) -> Result<(), RunError> {
    for name in names(&before.join(at))?.union(&names(&after.join(at))?) {
        let below = at.join(name);
        let (one, other) = (before.join(&below), after.join(&below));
        let (was, is) = (fs::symlink_metadata(&one).ok(), fs::symlink_metadata(&other).ok());
        let are_folders = [&was, &is].map(|side| side.as_ref().is_some_and(fs::Metadata::is_dir));
        if are_folders[0] || are_folders[1] {
            differing(before, after, &below, changed)?;
        }
        let are_files = are_folders.map(|is_folder| !is_folder);
        let differs = match (was, is) {
            (Some(was), Some(is)) if are_files == [true, true] => {
                was.file_type() != is.file_type()
                    || was.len() != is.len()
                    || is_program(&was) != is_program(&is)
                    || !same_content(&one, &other, was.is_symlink()).map_err(|error| failed(&other, error))?
            }
            (was, is) => was.is_some() && are_files[0] || is.is_some() && are_files[1],
        };
        if differs {
            changed.push(below.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<BTreeSet<PathBuf>, RunError> {
    let listed = match fs::symlink_metadata(folder) {
        Ok(found) if found.is_dir() => fs::read_dir(folder),
        _ => return Ok(BTreeSet::new()), // that side has a file there, or nothing
    };
    let named = |entry: io::Result<fs::DirEntry>| entry.map(|entry| PathBuf::from(entry.file_name()));
    listed.and_then(|entries| entries.map(named).collect()).map_err(|error| failed(folder, error))
}

fn is_program(file: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.permissions().mode() & 0o100 != 0
}

fn same_content(one: &Path, other: &Path, is_link: bool) -> io::Result<bool> {
    if is_link {
        return Ok(fs::read_link(one)? == fs::read_link(other)?);
    }
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut left, mut right) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true); // of one size
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

fn failed(path: &Path, source: io::Error) -> RunError {
    RunError::Compare { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_after_the_end_of_its_path_that_fits() {
        let name = |path: &str| name_of(Path::new(path)).unwrap().to_string();
        assert_eq!(name("/home/a/code"), "/home/a/code");
        assert_eq!(name("/home/a\n/code"), "/home/a/code");
        let folder = "ä".repeat(50);
        let long = format!("/{}", [folder.as_str(); 5].join("/"));
        assert_eq!(name(&long), format!("/{folder}/{folder}"));
        // Exactly as much as fits, and a single folder that does not.
        let fits = "/x".repeat(127);
        assert_eq!(name(&fits), fits);
        assert_eq!(name(&format!("/x/--{}", "y".repeat(253))), "y".repeat(253));
        assert_eq!(name(&format!("/x{}", "ä".repeat(140))), "ä".repeat(127));
    }
}
