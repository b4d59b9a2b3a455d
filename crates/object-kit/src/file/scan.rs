//! What lies in a folder. In: a folder. Out: a page of its keys in their order; or the removal of temporary files that
//! were left over.

use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, process};

use service_kit::clock::Time;

use crate::error::Fault;
use crate::{Entry, Page};

/// Age from which on a left-over temporary file is removed.
const LEFT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// The first `keys_max` names behind `after`. Reads the whole folder for each page, and keeps one page of it in memory.
pub(super) fn list(root: &Path, after: &str, keys_max: usize) -> io::Result<Page> {
    let empty = Page { entries: Vec::new(), next: None };
    let folder = match fs::read_dir(root) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(empty),
        Err(error) => return Err(error),
    };
    let keys_max = keys_max.max(1);
    let mut first: BinaryHeap<String> = BinaryHeap::with_capacity(keys_max.min(10_000) + 1);
    let mut more = false;
    for entry in folder {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let behind =
            name.as_str() > after && first.peek().is_none_or(|last| first.len() < keys_max || name < *last);
        if name.as_str() > after && !behind {
            more = true;
        }
        if !behind || name.starts_with('.') || !entry.file_type()?.is_file() {
            continue;
        }
        first.push(name);
        if first.len() > keys_max {
            first.pop();
            more = true;
        }
    }
    let names = first.into_sorted_vec();
    let next = names.last().filter(|_| more).cloned();
    let mut entries = Vec::with_capacity(names.len());
    for key in names {
        match fs::metadata(root.join(&key)) {
            Ok(meta) => entries.push(Entry { size: meta.len(), key }),
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Page { entries, next })
}

/// See [`super::File::sweep`].
pub(super) fn sweep(folders: &[PathBuf], now: Time) -> Result<Swept, Fault> {
    let mut swept = Swept::default();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Fault::local(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Fault::local)?;
            let Some(pid) = entry.file_name().to_str().and_then(temp_pid) else { continue };
            // Gone meanwhile, or not ours to look at: the next sweep sees.
            let Ok(meta) = entry.metadata() else { continue };
            let age = now.since(Time::from_ms(meta.mtime().saturating_mul(1000)));
            if meta.is_file() && age > LEFT_AFTER && !alive(pid) && fs::remove_file(entry.path()).is_ok() {
                swept.files += 1;
                swept.bytes += meta.len();
            }
        }
    }
    Ok(swept)
}

/// The process in a name of ours: `.NAME.PID.NUMBER.tmp`.
fn temp_pid(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplitn(3, '.');
    let number = parts.next()?;
    let pid = parts.next()?;
    parts.next().filter(|stem| !stem.is_empty())?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(number) && digits(pid)).then(|| pid.parse().ok())?
}

fn alive(pid: u32) -> bool {
    pid == process::id() || Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::temp_pid;

    #[test]
    fn only_our_own_temporary_names_are_known() {
        assert_eq!(temp_pid(".x.narinfo.123.0.tmp"), Some(123));
        for other in [
            "x.123.0.tmp",
            ".123.0.tmp",
            "..123.0.tmp",
            ".x.123.tmp",
            ".x.1a.0.tmp",
            ".x.123.0.tmpx",
            ".x.tmp",
        ] {
            assert_eq!(temp_pid(other), None, "{other}");
        }
    }
}
