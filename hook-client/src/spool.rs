//! The way without the daemon. A request goes in; out comes one file that is complete and on disk under its
//! final name, or no file at all and the reason. The daemon takes such files in order of their names and
//! removes them; this side never reads or removes any but its own.
//!
//! A file is `<ms>-<pid>-<random>.req`, 16 digits, 10 digits and 8 hexadecimal ones, so that names sort by
//! time. Until it is complete it has a dot in front and `.tmp` behind.

use core::fmt::{self, Write as _};

use hook_wire::{FieldTag, Header, Kind, field_header};

use crate::request::Request;
use crate::say::Text;
use crate::{Fault, Sys};

/// Permissions of the spool when we make it.
const SPOOL_MODE: u32 = 0o700;
/// Permissions of the folders above it when we make them.
const PARENT_MODE: u32 = 0o755;
/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 8192;

/// What could not be done with the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpoolError {
    pub(crate) step: Step,
    fault: Fault,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Make,
    Open,
    Create,
    Write,
    Sync,
    Rename,
    /// The file is there under its name, but a power cut may undo that.
    SyncFolder,
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match self.step {
            Step::Make => "make the folder",
            Step::Open => "open the folder",
            Step::Create => "create a file",
            Step::Write => "write",
            Step::Sync => "sync the file",
            Step::Rename => "rename the file",
            Step::SyncFolder => "sync the folder",
        };
        write!(f, "{step}: {}", self.fault)
    }
}

impl Step {
    const fn failed(self, fault: Fault) -> SpoolError {
        SpoolError { step: self, fault }
    }
}

/// Writes the request into the spool folder, which is made when it is missing.
pub(crate) fn store<S: Sys>(
    sys: &S,
    spool: &[u8],
    request: &Request<'_, '_, S>,
    frame_len: usize,
) -> Result<(), SpoolError> {
    let folder = open(sys, spool)?;
    let [r0, r1, r2, r3, ..] = request.key;
    let random = u32::from_be_bytes([r0, r1, r2, r3]);
    let stem = format_args!("{:016}-{:010}-{random:08x}.req", request.made_ms, sys.pid());
    let (mut name, mut temporary) = (Text::<64>::new(), Text::<64>::new());
    // 45 and 50 bytes: neither is cut, and a `Text` does not fail.
    let _ = write!(name, "{stem}");
    let _ = write!(temporary, ".{stem}.tmp");

    let file = sys.create_in(&folder, temporary.bytes()).map_err(|fault| Step::Create.failed(fault))?;
    let written = fill(sys, &file, request, frame_len)
        .map_err(|fault| Step::Write.failed(fault))
        .and_then(|()| sys.sync(&file).map_err(|fault| Step::Sync.failed(fault)))
        .and_then(|()| {
            sys.rename_in(&folder, temporary.bytes(), name.bytes())
                .map_err(|fault| Step::Rename.failed(fault))
        });
    if let Err(error) = written {
        // The error says what went wrong first; a file left behind has the temporary name, which nobody
        // reads.
        let _ = sys.remove_in(&folder, temporary.bytes());
        return Err(error);
    }
    sys.sync(&folder).map_err(|fault| Step::SyncFolder.failed(fault))
}

fn open<S: Sys>(sys: &S, spool: &[u8]) -> Result<S::File, SpoolError> {
    match sys.open_folder(spool) {
        Err(Fault::Absent) => {
            make(sys, spool, SPOOL_MODE).map_err(|fault| Step::Make.failed(fault))?;
            sys.open_folder(spool)
        }
        done => done,
    }
    .map_err(|fault| Step::Open.failed(fault))
}

/// Makes a folder and those above it, each on disk before the next. Somebody else may be at it at the same
/// time.
fn make<S: Sys>(sys: &S, path: &[u8], mode: u32) -> Result<(), Fault> {
    let path = without_slashes(path);
    let parent = match path.iter().rposition(|b| *b == b'/') {
        None => b"." as &[u8],
        Some(0) => b"/",
        Some(at) => &path[..at],
    };
    let made = match sys.make_folder(path, mode) {
        Err(Fault::Absent) if parent != b"." && parent != b"/" => {
            make(sys, parent, PARENT_MODE)?;
            sys.make_folder(path, mode)
        }
        done => done,
    };
    match made {
        Ok(()) => sys.sync(&sys.open_folder(parent)?),
        Err(Fault::Exists) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// Writes the whole frame, a buffer at a time, so that its size does not matter.
fn fill<S: Sys>(
    sys: &S,
    file: &S::File,
    request: &Request<'_, '_, S>,
    frame_len: usize,
) -> Result<(), Fault> {
    let header = Header { kind: Kind::Enqueue, payload_len: 0 };
    let payload_len = u32::try_from(frame_len - header.frame_len()).map_err(|_| Fault::TooBig)?;
    let mut buffer = sys.room(BUFFER_LEN)?;
    let mut out = Buffered { sys, file, buffer: buffer.as_mut(), used: 0 };
    out.put(&Header { payload_len, ..header }.encode())?;
    request.fields(|tag: FieldTag, value| {
        let len = u32::try_from(value.len()).map_err(|_| Fault::TooBig)?;
        out.put(&field_header(tag, len))?;
        out.put(value)
    })?;
    out.flush()
}

struct Buffered<'s, S: Sys> {
    sys: &'s S,
    file: &'s S::File,
    buffer: &'s mut [u8],
    used: usize,
}

impl<S: Sys> Buffered<'_, S> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.len() - self.used));
            self.buffer[self.used..self.used + now.len()].copy_from_slice(now);
            self.used += now.len();
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut rest = &self.buffer[..self.used];
        while !rest.is_empty() {
            match self.sys.write(self.file, rest)? {
                // A write of some bytes that writes none and gives no reason would go on for ever.
                0 => return Err(Fault::DiskFull),
                bytes => rest = rest.get(bytes..).unwrap_or_default(),
            }
        }
        self.used = 0;
        Ok(())
    }
}
