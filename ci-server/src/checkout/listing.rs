//! What git lists of a tree comes in, as it says it; entries that may be written come out. All is counted here, before
//! anything is written: entries, bytes, depth and length of paths; a name that means something to a file system or to
//! git is refused.

use std::io::{BufRead, Read};

use super::error::shown;
use super::{Bounds, CheckoutError};

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file.
    File {
        /// May it be executed?
        executable: bool,
    },
    /// A symbolic link: its content is where it leads.
    Link,
    /// A commit of another repository: an empty folder.
    Submodule,
}

/// One file, link or submodule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// From the root of the repository.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Its object's name.
    pub(super) id: String,
    /// Its size in bytes.
    pub(super) size: u64,
}

impl Kind {
    /// As git writes it in trees.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::File { executable: false } => "100644",
            Self::File { executable: true } => "100755",
            Self::Link => "120000",
            Self::Submodule => "160000",
        }
    }
}

/// Longest record of a listing, in bytes, without its path.
const RECORD_BYTES_MAX: usize = 128;
/// Longest target of a link, in bytes.
pub(super) const LINK_BYTES_MAX: u64 = 4095;

/// Reads what `git ls-tree -r -l -z` says, up to the first entry that is refused.
pub(super) fn read(
    from: &mut impl BufRead,
    tree: &str,
    bounds: &Bounds,
) -> Result<Vec<Entry>, CheckoutError> {
    let mut count = Count::new(tree, bounds);
    let mut entries = Vec::new();
    let mut record = Vec::new();
    let longest = RECORD_BYTES_MAX + bounds.path_bytes + 1;
    loop {
        record.clear();
        let failed = |source| CheckoutError::Disk { tried: "read the listing of", path: tree.into(), source };
        let size = from.by_ref().take(longest as u64).read_until(0, &mut record).map_err(failed)?;
        if size == 0 {
            return Ok(entries);
        }
        if record.pop() != Some(0) {
            let why = format!("is longer than {} bytes, or git broke off", bounds.path_bytes);
            return Err(refused(tree, &record, why));
        }
        if let Some(id) = missing(&record) {
            return Err(CheckoutError::Absent {
                place: tree.to_owned(),
                what: format!("object {id}, which it needs"),
                remedy: PARTIAL,
            });
        }
        let entry =
            parse(&record).ok_or_else(|| refused(tree, &record, "is of a kind that is not known".into()))?;
        count.add(&entry)?;
        entries.push(entry);
    }
}

/// What to do about a repository without all of its objects.
const PARTIAL: &str = "the repository is a partial or damaged clone: have all objects there, for example by `git fetch --refetch`";

/// The object of which git does not know the size.
fn missing(record: &[u8]) -> Option<&str> {
    let head = str::from_utf8(record.split(|byte| *byte == b'\t').next()?).ok()?;
    match head.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [_, "blob", id, "BAD"] => Some(id),
        _ => None,
    }
}

/// `MODE TYPE ID SIZE\tPATH`
fn parse(record: &[u8]) -> Option<Entry> {
    let tab = record.iter().position(|byte| *byte == b'\t')?;
    let head = str::from_utf8(&record[..tab]).ok()?;
    let mut words = head.split_ascii_whitespace();
    let (mode, kind, id, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let kind = match (mode, kind) {
        ("100644" | "100664", "blob") => Kind::File { executable: false },
        ("100755", "blob") => Kind::File { executable: true },
        ("120000", "blob") => Kind::Link,
        ("160000", "commit") => Kind::Submodule,
        _ => return None,
    };
    let size = if kind == Kind::Submodule { 0 } else { size.parse().ok()? };
    Some(Entry { path: record[tab + 1..].to_vec(), kind, id: id.to_owned(), size })
}

/// Counts what is to be written against its bounds.
pub(super) struct Count<'a> {
    tree: &'a str,
    bounds: &'a Bounds,
    entries: usize,
    bytes: u64,
    last: Vec<u8>,
}

impl<'a> Count<'a> {
    pub(super) fn new(tree: &'a str, bounds: &'a Bounds) -> Self {
        Self { tree, bounds, entries: 0, bytes: 0, last: Vec::new() }
    }

    /// Adds one; entries come in the order of git.
    pub(super) fn add(&mut self, entry: &Entry) -> Result<(), CheckoutError> {
        let refuse = |why| Err(refused(self.tree, &entry.path, why));
        if entry.path.len() > self.bounds.path_bytes {
            return refuse(format!("is longer than {} bytes", self.bounds.path_bytes));
        }
        if let Some(why) = odd_path(&entry.path) {
            return refuse(why.to_owned());
        }
        if entry.path.iter().filter(|byte| **byte == b'/').count() > self.bounds.depth {
            return refuse(format!("lies more than {} folders deep", self.bounds.depth));
        }
        if entry.kind == Kind::Link && entry.size > LINK_BYTES_MAX {
            return refuse(format!("is a link with a target of more than {LINK_BYTES_MAX} bytes"));
        }
        if entry.size > self.bounds.file_bytes {
            return refuse(format!(
                "has {}, more than the limit of {}; have git ignore it (.gitignore), or take it out of the repository",
                size(entry.size),
                size(self.bounds.file_bytes)
            ));
        }
        self.entries += 1 + new_folders(&self.last, &entry.path);
        self.bytes = self.bytes.saturating_add(entry.size);
        self.last.clone_from(&entry.path);
        self.judge()
    }

    fn judge(&self) -> Result<(), CheckoutError> {
        let too_large = |limit, unit| CheckoutError::TooLarge {
            what: format!("the checkout of {}", self.tree),
            limit,
            unit,
            remedy: "raise the limit if the repository needs it",
        };
        if self.entries > self.bounds.entries {
            return Err(too_large(self.bounds.entries as u64, "files and folders"));
        }
        if self.bytes > self.bounds.tree_bytes {
            return Err(too_large(self.bounds.tree_bytes, "bytes"));
        }
        Ok(())
    }
}

/// How many folders of `path` were not on the way to `last`.
fn new_folders(last: &[u8], path: &[u8]) -> usize {
    let shared = last.iter().zip(path).take_while(|(a, b)| a == b).count();
    path[shared.min(path.len())..].iter().filter(|byte| **byte == b'/').count()
}

/// Why a path is not written, with the remedy.
pub(super) fn odd_path(path: &[u8]) -> Option<&'static str> {
    if path.is_empty() || path.starts_with(b"/") {
        return Some("is no path within the repository; remove the entry");
    }
    if path.contains(&0) {
        return Some("has a NUL in its name; rename it");
    }
    path.split(|byte| *byte == b'/').find_map(odd_name)
}

fn odd_name(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("has an empty part; remove the entry"),
        b"." | b".." => Some("leads elsewhere by `.` or `..`; remove the entry"),
        _ if name.len() > 255 => Some("has a part of more than 255 bytes; rename it"),
        _ if is_dot_git(name) => Some("would be git's own folder; remove the entry"),
        _ => None,
    }
}

/// As any file system reads it: in any case, in its short form, with code points that some ignore.
fn is_dot_git(name: &[u8]) -> bool {
    let visible: String = String::from_utf8_lossy(name).chars().filter(|c| !is_ignored(*c)).collect();
    let plain =
        visible.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']).to_ascii_lowercase();
    matches!(plain.as_str(), ".git" | "git~1")
}

/// What HFS+ does not see in names.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Of a file, in words: what is large in units that people know as well.
pub(super) fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0..10 => format!("{bytes} bytes"),
        mib @ 10..10_240 => format!("{mib} MiB ({bytes} bytes)"),
        mib => format!("{} GiB ({bytes} bytes)", mib >> 10),
    }
}

pub(super) fn refused(tree: &str, path: &[u8], why: String) -> CheckoutError {
    CheckoutError::Entry { tree: tree.to_owned(), path: shown(path), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_units_that_people_know() {
        let said = [999, 1_153_433_600, 1 << 30, 20 << 30].map(size);
        let expected = ["999 bytes", "1100 MiB (1153433600 bytes)", "1024 MiB (1073741824 bytes)"];
        assert_eq!(said[..3], expected);
        assert_eq!(said[3], "20 GiB (21474836480 bytes)");
    }

    #[test]
    fn names_that_mean_something_are_refused() {
        for path in [
            "..",
            "a/..",
            "../a",
            "/a",
            "a//b",
            "a/",
            "",
            ".",
            "a/./b",
            ".git",
            ".GIT/hooks/x",
            "a/.Git/config",
            "git~1",
            "GIT~1/x",
            ".git ",
            ".git.",
            ".g\u{200c}it",
            ".git::$INDEX_ALLOCATION",
            "a\0b",
        ] {
            assert!(odd_path(path.as_bytes()).is_some(), "{path:?}");
        }
        for path in
            ["a", ".gitignore", ".github/x", "a/.gitattributes", "git", "a b\nc\t\"", "..a", "-x", "x/-rf"]
        {
            assert_eq!(odd_path(path.as_bytes()), None, "{path:?}");
        }
        assert_eq!(odd_path(b"a\xff\xfe"), None);
    }

    #[test]
    fn folders_count_as_well() {
        let bounds = Bounds { entries: 6, ..Bounds::default() };
        let line = |path: &str| format!("100644 blob {} 1\t{path}\0", "a".repeat(40));
        let few = ["a/b/c", "a/b/d", "a/e", "f"].map(line).concat();
        assert_eq!(read(&mut few.as_bytes(), "t", &bounds).unwrap().len(), 4);
        let many = ["a/b/c", "a/b/d", "a/e", "f", "g"].map(line).concat();
        let error = read(&mut many.as_bytes(), "t", &bounds).unwrap_err();
        assert!(matches!(error, CheckoutError::TooLarge { limit: 6, .. }), "{error}");
    }
}
