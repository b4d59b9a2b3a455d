//! What can go wrong with a database: while it is opened ([`Error`]), and while a job is carried out
//! ([`CallError`], [`StoreError`]). Each says what was tried, on which file, and the remedy; the cause is
//! left to `source()`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::queue::{BACKLOG_MAX, Lane};

/// A database could not be opened, migrated, read or copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The linked SQLite has a known way to corrupt a database in WAL mode.
    #[error(
        "SQLite {} is linked, but at least {} is needed: older ones can corrupt a database when its log is \
         reset; build with the bundled SQLite or install a newer one",
        Version(*have), Version(*need)
    )]
    SqliteTooOld {
        /// `sqlite3_libversion_number()` of the library in this process.
        have: i32,
        /// The lowest number accepted.
        need: i32,
    },
    /// The file cannot be opened or created.
    #[error(
        "open database {}; check that its folder exists, that its disk is not full, that this user may write \
         there, and that no other program holds it", path.display()
    )]
    Open {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// There is no file, and none can be made.
    #[error(
        "make database {}; check that its folder exists, that its disk is not full, and that this user may write \
         there", path.display()
    )]
    Create {
        /// The database.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is something else than an SQLite database, or its first page is damaged.
    #[error(
        "{} is not an SQLite database; move it away or correct the configured path", path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database belongs to another program.
    #[error(
        "database {} belongs to another program (application id {found:#010x}, ours is {ours:#010x}); it was \
         left untouched, correct the configured path", path.display()
    )]
    Foreign {
        /// The database.
        path: PathBuf,
        /// The id in the file; 0 with tables present means that it never had one.
        found: u32,
        /// The id asked for in [`crate::Options`].
        ours: u32,
    },
    /// A newer version of this program has already changed the schema.
    #[error(
        "database {} has schema {found}, this program knows schemas up to {ours}; start the newer version \
         again, or restore a backup made before the upgrade", path.display()
    )]
    SchemaNewer {
        /// The database.
        path: PathBuf,
        /// Version found in the file.
        found: u32,
        /// Highest version known to this program.
        ours: u32,
    },
    /// A reader came before the writer had migrated.
    #[error(
        "database {} has schema {found}, this program reads schema {ours}; start the daemon of this version \
         once, it migrates", path.display()
    )]
    SchemaOlder {
        /// The database.
        path: PathBuf,
        /// Version found in the file.
        found: u32,
        /// The version the reader needs.
        ours: u32,
    },
    /// A migration failed and was rolled back as a whole.
    #[error(
        "migrate database {} to schema {version} ({name}); the schema before it is intact{}",
        path.display(), disk_remedy(source)
    )]
    Migrate {
        /// The database.
        path: PathBuf,
        /// Version that could not be reached.
        version: u32,
        /// The migration's name.
        name: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// SQLite refused a setting.
    #[error("set {setting} on database {}{}", path.display(), disk_remedy(source))]
    Configure {
        /// The database.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// SQLite accepted a setting without error, but it is not in force.
    #[error(
        "database {} has {setting} = {got} although {wanted} was set; its file system may lack shared memory \
         or locks, use a local disk", path.display()
    )]
    NotInForce {
        /// The database.
        path: PathBuf,
        /// The setting.
        setting: &'static str,
        /// What was asked for.
        wanted: String,
        /// What SQLite says is in force.
        got: String,
    },
    /// SQLite has read the database and found it damaged.
    #[error("database {} is damaged ({found}); restore a backup", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first thing that is wrong with it.
        found: String,
    },
    /// The writer thread could not be started.
    #[error("start the writer thread of database {}", path.display())]
    Thread {
        /// The database.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A snapshot for reading could not be had.
    #[error("begin reading database {}", path.display())]
    Read {
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// A copy of the database could not be made; the target's name does not exist or still has its old content.
    #[error("copy database {} to {}: {doing}", path.display(), target.display())]
    Backup {
        /// The database.
        path: PathBuf,
        /// Where the copy should go.
        target: PathBuf,
        /// The step that failed.
        doing: &'static str,
        /// The answer of SQLite or of the system.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a job was not carried out, or not kept. In every case none of the job's rows were acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The job itself said no. Its rows were rolled back, those of other jobs were not.
    #[error(transparent)]
    Job(E),
    /// The group's transaction failed; asking again later is right when [`StoreError::kind`] may pass.
    #[error(transparent)]
    Store(StoreError),
    /// The lane is full. Nothing was queued; tell the client to come back.
    #[error("the database writer's {lane} lane already holds {max} jobs; try again shortly", max = BACKLOG_MAX)]
    Backlog {
        /// The full lane.
        lane: Lane,
    },
    /// The writer is stopping or gone; only a restart helps.
    #[error("the database writer has stopped")]
    Stopped,
}

/// The transaction that held a group of jobs failed. Nothing of it was acknowledged. After an I/O error in
/// the flush a power cut can still make it appear, so every job must bear being done twice.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// What kind of failure it was.
    pub kind: StoreKind,
    /// The database.
    pub path: Arc<Path>,
    /// The step that failed, such as `commit`.
    pub doing: &'static str,
    pub(crate) source: Option<Arc<rusqlite::Error>>,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in database {}: {}", self.doing, self.path.display(), self.kind.remedy())
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// The kinds of failure a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// No space left. Passes when there is space again.
    Full,
    /// The disk did not read or write.
    Io,
    /// SQLite rolled the group back under one of its jobs, as it does when the disk is full or fails; the
    /// job swallowed or took along the cause.
    RolledBack,
    /// Somebody else held the database longer than the busy timeout.
    Busy,
    /// The file is damaged.
    Corrupt,
    /// Anything else, mostly a mistake of ours.
    Other,
}

impl StoreKind {
    /// The kind of an error that a job got from SQLite itself.
    pub fn of(error: &rusqlite::Error) -> StoreKind {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreKind::Full,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => StoreKind::Io,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreKind::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreKind::Corrupt,
            _ => StoreKind::Other,
        }
    }

    /// Whether asking again later can succeed without anybody repairing the database.
    pub fn may_pass(self) -> bool {
        match self {
            StoreKind::Full | StoreKind::Io | StoreKind::RolledBack | StoreKind::Busy => true,
            StoreKind::Corrupt | StoreKind::Other => false,
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            StoreKind::Full => "no space left; free some, the writer goes on by itself",
            StoreKind::Io => "the disk did not read or write; check it, the writer goes on when it answers",
            StoreKind::RolledBack => "the disk is full or failing; the writer goes on when it answers",
            StoreKind::Busy => "another program holds the database; end it, the writer goes on by itself",
            StoreKind::Corrupt => "the file is damaged; stop the daemon and restore a backup",
            StoreKind::Other => "the transaction failed; this is a mistake in the program, please report it",
        }
    }
}

/// What to do about a database that cannot be opened because of its disk.
fn disk_remedy(source: &rusqlite::Error) -> &'static str {
    match StoreKind::of(source) {
        StoreKind::Full | StoreKind::Io => "; make room on its disk, or see to it",
        StoreKind::RolledBack | StoreKind::Busy | StoreKind::Corrupt | StoreKind::Other => "",
    }
}

struct Version(i32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 / 1_000_000, self.0 / 1000 % 1000, self.0 % 1000)
    }
}

/// The whole chain of an error on one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
