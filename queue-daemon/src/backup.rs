//! A snapshot of `queue.db`, to be handed to whoever keeps it.
//!
//! In flows the database, in use or at rest; out flows an open file without a name, whole, checked and stamped, and what
//! is to be said of it. The snapshot is made on the disk of the state folder, by a read that is as short as that disk
//! allows: a slow or full target, or a client that stands still, never keeps the log from being reset. Leaves out where
//! it goes: `control::backup` and `commands::backup` bring it there.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use service_kit::clock::Time;
use service_kit::lock::{LockError, StateLock};
use sha2::{Digest, Sha256};
use sqlite_kit::{Options, Reader};

use crate::store::schema::MIGRATIONS;

/// The database in the state folder.
pub(crate) const DATABASE: &str = "queue.db";
/// The snapshot, for the moment in which it has a name.
const SNAPSHOT: &str = "backup.snapshot";
/// A snapshot leaves so many bytes of the disk free for the queue itself.
const KEPT_FREE_BYTES: u64 = 16 << 20;
/// How long before its delivery is known a path may have been built: a hook that is under way.
const UNDER_WAY: Duration = Duration::from_secs(10 * 60);
/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 16;

/// Keys of `meta` in a snapshot: when it was taken, from when on `push` finds what it does not have, and by which
/// version. A database that is no snapshot has none of them.
const TAKEN: &str = "backup_taken_ms";
const PUSH_SINCE: &str = "backup_push_since_ms";
const VERSION: &str = "backup_version";
/// Key of `meta` in any database: when the last backup was taken that somebody keeps.
const KEPT: &str = "backup_kept_ms";

/// What is said of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// The version of its schema.
    pub schema: u32,
    /// The version of eka-queue that made it.
    pub version: String,
    /// Everything acknowledged before is in it, in milliseconds since 1970.
    pub taken_ms: i64,
    /// What is queued later was built after this, unless an operator pushed it; in milliseconds since 1970.
    pub push_since_ms: i64,
}

/// What a database says of the backup it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) taken: Option<Time>,
    pub(crate) push_since: Option<Time>,
    pub(crate) version: Option<String>,
}

/// A database to take a snapshot of.
pub(crate) enum Source<'a> {
    /// Of the daemon itself.
    InUse(&'a Reader),
    /// Of a state folder that the caller has locked.
    AtRest(&'a Options),
}

/// Why there is no snapshot. The queue is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The queue would have no room left.
    #[error(
        "a backup is made in the state folder {} first, and its disk has {free} bytes free where {needed} are needed; free some",
        folder.display()
    )]
    NoRoom { folder: PathBuf, free: u64, needed: u64 },
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlite_kit::Error),
    /// The file system.
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Takes a snapshot; gives it open at its first byte. Blocks, for about as long as its disk needs to write it.
pub(crate) fn take(
    source: &Source<'_>,
    state_dir: &Path,
    spool_dir: &Path,
    now: Time,
) -> Result<(File, Snapshot), SnapshotError> {
    remove_left(state_dir)?;
    has_room(state_dir)?;
    let oldest = oldest_spool_file(spool_dir).map_or(now, |oldest| oldest.min(now));
    let (push_since, version) = (oldest.minus(UNDER_WAY), env!("CARGO_PKG_VERSION"));
    let path = state_dir.join(SNAPSHOT);
    let stamp = |conn: &Connection| {
        note(conn, TAKEN, &now.as_ms().to_string())?;
        note_taken(conn, now.as_ms())?;
        note(conn, PUSH_SINCE, &push_since.as_ms().to_string())?;
        note(conn, VERSION, version)
    };
    let copied = match source {
        Source::InUse(reader) => reader.backup(&path, stamp)?,
        Source::AtRest(options) => sqlite_kit::copy(options, MIGRATIONS, &path, stamp)?,
    };
    let failed = |what| {
        let path = path.clone();
        move |source| SnapshotError::Io { what, path, source }
    };
    let mut file = File::open(&path).map_err(failed("open the snapshot"))?;
    // From here on it goes with whoever has it open.
    fs::remove_file(&path).map_err(failed("unlink the snapshot"))?;
    let sha256 = hash(&mut file).map_err(failed("read the snapshot"))?;
    let snapshot = Snapshot {
        bytes: copied.bytes,
        sha256,
        schema: copied.schema,
        version: version.to_owned(),
        taken_ms: now.as_ms(),
        push_since_ms: push_since.as_ms(),
    };
    Ok((file, snapshot))
}

/// Removes what a daemon that was killed in the middle has left.
pub(crate) fn remove_left(state_dir: &Path) -> Result<(), SnapshotError> {
    for name in ["", ".partial", ".partial-journal"] {
        let path = state_dir.join(format!("{SNAPSHOT}{name}"));
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(SnapshotError::Io {
                    what: "remove what an earlier backup left at",
                    path,
                    source,
                });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Locks the state folder of a daemon that does not run. What root makes in it belongs to the daemon's user.
pub(crate) fn lock(state_dir: &Path) -> Result<StateLock, LockError> {
    let lock = StateLock::take(state_dir)?;
    let unusable = |source| LockError::Unusable { dir: state_dir.to_owned(), source };
    give_to_owner(&state_dir.join("lock"), state_dir).map_err(unusable)?;
    Ok(lock)
}

/// Gives a file to the owner of the folder, where we may.
pub(crate) fn give_to_owner(path: &Path, folder: &Path) -> io::Result<()> {
    let (file, folder) = (fs::metadata(path)?, fs::metadata(folder)?);
    if nix::unistd::geteuid().is_root() && (file.uid(), file.gid()) != (folder.uid(), folder.gid()) {
        chown(path, Some(folder.uid()), Some(folder.gid()))?;
    }
    Ok(())
}

/// Notes when the last backup was taken that somebody keeps.
pub(crate) fn note_taken(conn: &Connection, taken_ms: i64) -> rusqlite::Result<()> {
    note(conn, KEPT, &taken_ms.to_string())
}

/// When the last backup was taken that somebody keeps.
pub(crate) fn last_taken(conn: &Connection) -> rusqlite::Result<Option<Time>> {
    time(conn, KEPT)
}

/// Makes a database of a snapshot.
pub(crate) fn unstamp(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute("DELETE FROM meta WHERE key IN (?1, ?2, ?3)", [TAKEN, PUSH_SINCE, VERSION]).map(drop)
}

/// What a database says of the backup it is.
pub(crate) fn stamp_of(conn: &Connection) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        taken: time(conn, TAKEN)?,
        push_since: time(conn, PUSH_SINCE)?,
        version: value(conn, VERSION)?,
    })
}

fn time(conn: &Connection, key: &str) -> rusqlite::Result<Option<Time>> {
    Ok(value(conn, key)?.and_then(|ms| ms.parse().ok()).map(Time::from_ms))
}

fn value(conn: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// `2026-01-31T10:00:00.000Z` as part of a file's name.
pub(crate) fn time_in_name(time: Time) -> String {
    time.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

fn note(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
    conn.execute(sql, [key, value]).map(drop)
}

/// A copy has at most the size of what it is a copy of.
fn has_room(state_dir: &Path) -> Result<(), SnapshotError> {
    let failed = |source: rustix::io::Errno| SnapshotError::Io {
        what: "ask for the free space of",
        path: state_dir.to_owned(),
        source: source.into(),
    };
    let free = free_bytes(state_dir).map_err(failed)?;
    let needed = database_bytes(state_dir) + KEPT_FREE_BYTES;
    if free < needed {
        return Err(SnapshotError::NoRoom { folder: state_dir.to_owned(), free, needed });
    }
    Ok(())
}

/// What others than root may still write on the disk of a folder.
pub(crate) fn free_bytes(folder: &Path) -> rustix::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The database with its log; 0 where there is none.
pub(crate) fn database_bytes(state_dir: &Path) -> u64 {
    let bytes =
        |suffix: &str| fs::metadata(state_dir.join(format!("{DATABASE}{suffix}"))).map_or(0, |m| m.len());
    bytes("") + bytes("-wal")
}

/// When the request was made that has waited in the spool for longest, as its name says.
fn oldest_spool_file(spool_dir: &Path) -> Option<Time> {
    let names = fs::read_dir(spool_dir).ok()?.filter_map(Result::ok).map(|entry| entry.file_name());
    let made = names.filter_map(|name| {
        let name = name.to_str()?.strip_suffix(".req")?;
        name.split('-').next()?.parse().ok()
    });
    made.min().map(Time::from_ms)
}

fn hash(file: &mut File) -> io::Result<String> {
    let (mut hash, mut chunk) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            n => hash.update(&chunk[..n]),
        }
    }
    file.rewind()?;
    Ok(hex(&hash.finalize()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_names_have_no_sign_that_needs_a_quote() {
        assert_eq!(time_in_name(Time::from_ms(1_769_853_600_123)), "20260131T100000.123Z");
    }

    #[test]
    fn the_oldest_request_of_the_spool_is_told_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(oldest_spool_file(&folder.path().join("none")), None);
        for name in [
            "0001700000000000-0000012345-9f86d081.req",
            "0001600000000000-1-a.req",
            ".0000000000000001-1-a.req.tmp",
            "notes.req",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(oldest_spool_file(folder.path()), Some(Time::from_ms(1_600_000_000_000)));
    }

    #[test]
    fn a_snapshot_that_would_fill_the_disk_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let sparse = File::create(folder.path().join(DATABASE)).unwrap();
        sparse.set_len(1 << 43).unwrap();
        let error = has_room(folder.path()).unwrap_err();
        let needed = (1_u64 << 43) + KEPT_FREE_BYTES;
        assert!(matches!(error, SnapshotError::NoRoom { needed: n, .. } if n == needed), "{error}");
    }
}
