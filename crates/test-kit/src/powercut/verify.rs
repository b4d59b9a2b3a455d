//! From an image to a verdict: the image is put on a disk, opened by the plain SQLite of this process, which
//! recovers it as it would after a restart, and asked for what was acknowledged.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Image;

/// What became of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Sound, and everything acknowledged is there.
    Sound,
    /// Sound, but these acknowledged numbers are gone.
    Lost(Vec<u64>),
    /// Not readable, or its integrity check complains; in SQLite's words.
    Damaged(String),
}

/// Puts `image` into `folder` (which is emptied), opens the database `name` there, checks its integrity and
/// compares what `read` finds with what was acknowledged. Rows beyond that are welcome: a commit may have
/// reached the disk without its answer. A missing file is fine as long as nothing was acknowledged.
///
/// # Panics
/// When the folder cannot be written.
pub fn verify<R>(image: &Image, folder: &Path, name: &str, read: R) -> Verdict
where
    R: FnOnce(&Connection) -> rusqlite::Result<BTreeSet<u64>>,
{
    image.materialise(folder).unwrap_or_else(|error| panic!("{image}: write {}: {error}", folder.display()));
    let found = match open(&folder.join(name)) {
        Ok(_) if image.acked().is_empty() => return Verdict::Sound,
        Ok(conn) => read(&conn),
        Err(damage) => return Verdict::Damaged(damage),
    };
    match found {
        Ok(found) => {
            let lost: Vec<u64> = image.acked().iter().filter(|n| !found.contains(n)).copied().collect();
            if lost.is_empty() { Verdict::Sound } else { Verdict::Lost(lost) }
        }
        Err(error) if error.to_string().contains("no such table") => Verdict::Lost(image.acked().to_vec()),
        Err(error) => Verdict::Damaged(error.to_string()),
    }
}

/// Is the database at `path`, which is there, readable and sound? It is opened as after a restart, so a log that was left is
/// taken in.
///
/// # Errors
/// In SQLite's words, what is wrong with it.
pub fn check(path: &Path) -> Result<(), String> {
    if !path.is_file() {
        return Err(format!("there is no file {}", path.display()));
    }
    open(path).map(drop)
}

/// A folder to put images into, in memory where the system has such a place: thousands are written.
///
/// # Panics
/// When no temporary folder can be made.
pub fn fast_dir() -> tempfile::TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder can be made")
}

/// Opens with recovery and checks the integrity. Flushing is off: the image has served after this.
fn open(path: &Path) -> Result<Connection, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    #[expect(
        clippy::disallowed_methods,
        reason = "an image is opened as plain SQLite would, without our settings"
    )]
    let conn = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
    conn.pragma_update(None, "synchronous", 0).map_err(|error| error.to_string())?;
    let check = conn.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    match check {
        Ok(answer) if answer == "ok" => Ok(conn),
        Ok(complaint) => Err(complaint),
        Err(error) => Err(error.to_string()),
    }
}
