//! What SQLite did to its files, and when the program said yes, in one order. The recorder fills it while a
//! test runs; `powercut` reads it. Nothing here touches a disk but for the content of files found at the start.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Shim;

/// A file, whatever its name is by now. A name that is deleted and created again is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// One recorded operation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file that was there, whole and on the disk, when recording met it first.
    Found {
        /// The file.
        file: FileId,
        /// Its name in the folder.
        name: OsString,
        /// All of it.
        content: Arc<[u8]>,
    },
    /// A new empty file got a name.
    Create {
        /// The file.
        file: FileId,
        /// Its name in the folder.
        name: OsString,
    },
    /// Bytes were written.
    Write {
        /// The file.
        file: FileId,
        /// Where, from the start of the file.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// The file got this length.
    Truncate {
        /// The file.
        file: FileId,
        /// In bytes.
        len: u64,
    },
    /// The file's content was flushed.
    Sync {
        /// The file.
        file: FileId,
        /// Its folder was flushed as well. SQLite does so at the first flush of a journal or a log that it
        /// opened, and at no other.
        folder: bool,
    },
    /// A name was removed.
    Delete {
        /// The name.
        name: OsString,
        /// The folder was flushed then.
        folder: bool,
    },
    /// The program under test acknowledged this number to somebody outside.
    Ack(u64),
}

/// Everything that was recorded, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The operations.
    pub ops: Vec<Op>,
}

/// Records one layer. The databases recorded together must lie in one folder.
#[derive(Clone, Copy)]
pub struct Recorder {
    shim: Shim,
}

impl Recorder {
    pub(super) fn new(shim: Shim) -> Recorder {
        Recorder { shim }
    }

    /// Installs a layer under `name` and starts to record.
    ///
    /// # Panics
    /// When the name is taken.
    pub fn install(name: &str) -> Recorder {
        Shim::install(name).record()
    }

    /// The layer, for its name and for faults.
    pub fn shim(self) -> Shim {
        self.shim
    }

    /// Notes that `number` was acknowledged: from here on every image must hold it.
    pub fn ack(self, number: u64) {
        self.note(|_| Some(Op::Ack(number)));
    }

    /// What was recorded so far.
    pub fn log(self) -> Log {
        let recording = self.shim.state.recording();
        Log { ops: recording.as_ref().map(|recording| recording.ops.clone()).unwrap_or_default() }
    }

    fn note(self, op: impl FnOnce(&mut Recording) -> Option<Op>) {
        if let Some(recording) = self.shim.state.recording().as_mut()
            && let Some(op) = op(recording)
        {
            recording.ops.push(op);
        }
    }
}

/// The recorder's side of the layer.
#[derive(Default)]
pub(super) struct Recording {
    ops: Vec<Op>,
    folder: Option<PathBuf>,
    names: BTreeMap<OsString, FileId>,
    files: u32,
}

impl Recording {
    /// A file is about to be opened. `existed` is its content, if it was there.
    pub(super) fn opened(&mut self, path: &Path, existed: Option<Vec<u8>>) -> FileId {
        let name = self.name(path);
        if let (Some(file), Some(_)) = (self.names.get(&name), &existed) {
            return *file;
        }
        let file = FileId(self.files);
        self.files += 1;
        self.names.insert(name.clone(), file);
        self.ops.push(match existed {
            Some(content) => Op::Found { file, name, content: content.into() },
            None => Op::Create { file, name },
        });
        file
    }

    /// Whether the name was met before, so that its content need not be read.
    pub(super) fn knows(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| self.names.contains_key(name))
    }

    pub(super) fn deleted(&mut self, path: &Path, folder: bool) {
        let name = self.name(path);
        self.names.remove(&name);
        self.ops.push(Op::Delete { name, folder });
    }

    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    fn name(&mut self, path: &Path) -> OsString {
        let folder = path.parent().expect("SQLite gives full paths of files");
        let first = self.folder.get_or_insert_with(|| folder.to_path_buf());
        assert_eq!(first, folder, "databases recorded together lie in one folder");
        path.file_name().expect("SQLite gives full paths of files").to_os_string()
    }
}
