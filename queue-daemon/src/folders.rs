//! Makes folders that are still there after a power cut.
//!
//! In flows a path; out flows the folder, each name that was new flushed to the disk. What is there already is left as
//! it is: its mode and owner are somebody's decision.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a folder and those above it, with this mode, and flushes the folder that holds each new name: what is written
/// below and flushed can otherwise be lost with the name of its folder.
///
/// # Errors
/// What the system says of the first that cannot be made or flushed.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // Somebody else made it meanwhile; a link to nowhere or a file is none.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn all_that_is_missing_is_made_and_nothing_else_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let before = mode(root.path());
        let deep = root.path().join("a/b/c");
        make(&deep, 0o700).unwrap();
        assert_eq!((mode(&deep), mode(&root.path().join("a"))), (0o700, 0o700));
        make(&deep, 0o750).unwrap();
        assert_eq!((mode(&deep), mode(root.path())), (0o700, before));
    }

    #[test]
    fn what_is_in_the_way_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("link")).unwrap();
        for name in ["file", "link", "file/below"] {
            assert!(make(&root.path().join(name), 0o700).is_err(), "{name}");
        }
    }
}
