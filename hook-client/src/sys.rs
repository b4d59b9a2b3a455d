//! The door to the system, in the hook's own words: what it may ask for, and what can go wrong. Each call
//! does one thing; the order of the calls, and every decision, is made behind this door's other side. Two
//! programs implement it.

use core::fmt;
use core::num::NonZeroU32;

/// The system, as far as the hook needs it. Calls that were interrupted by a signal are repeated inside, but
/// for those of the socket, whose caller has a deadline to look at first.
pub trait Sys {
    /// An open file or folder; closed when dropped.
    type File;
    /// A connected stream socket; closed when dropped.
    type Socket;
    /// Bytes of memory, zero at first; given back when dropped.
    type Blob: AsRef<[u8]> + AsMut<[u8]>;

    /// The program's argument number `index`, its own name not counted.
    fn arg(&self, index: usize) -> Option<&[u8]>;
    /// The environment variable with this name.
    fn env(&self, name: &[u8]) -> Option<&[u8]>;
    /// A clock that never goes back, milliseconds.
    fn monotonic_ms(&self) -> u64;
    /// The time of day, milliseconds since 1970; 0 before that.
    fn wall_ms(&self) -> u64;
    /// The number of this process.
    fn pid(&self) -> u32;
    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// The system has no source of them.
    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Fault>;
    /// Writes to the terminal or whatever stands in its place. Whether anyone reads it cannot change what the
    /// hook does, so there is no error.
    fn print(&self, stream: Stream, bytes: &[u8]);
    /// `len` bytes of memory.
    ///
    /// # Errors
    /// No memory.
    fn room(&self, len: usize) -> Result<Self::Blob, Fault>;
    /// A whole file.
    ///
    /// # Errors
    /// It cannot be read, or has more than `max` bytes ([`Fault::TooBig`]).
    fn read_file(&self, path: &[u8], max: usize) -> Result<Self::Blob, Fault>;
    /// All of standard input.
    ///
    /// # Errors
    /// As [`Sys::read_file`].
    fn read_stdin(&self, max: usize) -> Result<Self::Blob, Fault>;

    /// Connects to a unix stream socket, within `timeout_ms` even when its listener is asleep with a full
    /// backlog.
    ///
    /// # Errors
    /// Nobody answered there; [`Fault::Interrupted`] and [`Fault::TimedOut`] among the reasons.
    fn connect(&self, path: &[u8], timeout_ms: NonZeroU32) -> Result<Self::Socket, Fault>;
    /// Sends some of `bytes`; says how many.
    ///
    /// # Errors
    /// As [`Sys::connect`]; a peer that is gone is [`Fault::Gone`] and never a signal.
    fn send(&self, socket: &Self::Socket, bytes: &[u8], timeout_ms: NonZeroU32) -> Result<usize, Fault>;
    /// Receives some bytes; 0 says that the peer is done.
    ///
    /// # Errors
    /// As [`Sys::connect`].
    fn receive(
        &self,
        socket: &Self::Socket,
        buffer: &mut [u8],
        timeout_ms: NonZeroU32,
    ) -> Result<usize, Fault>;

    /// Makes one folder with these permissions.
    ///
    /// # Errors
    /// [`Fault::Exists`] when something with that name is there.
    fn make_folder(&self, path: &[u8], mode: u32) -> Result<(), Fault>;
    /// Opens a folder.
    ///
    /// # Errors
    /// It is absent, no folder, or may not be read.
    fn open_folder(&self, path: &[u8]) -> Result<Self::File, Fault>;
    /// Makes a new file in a folder, readable by its owner and group, and gives it to the folder's owner where we
    /// have the right to (a hook run by root feeds a daemon that is not).
    ///
    /// # Errors
    /// It exists, or cannot be made.
    fn create_in(&self, folder: &Self::File, name: &[u8]) -> Result<Self::File, Fault>;
    /// Writes some of `bytes`; says how many.
    ///
    /// # Errors
    /// The disk is full or broken.
    fn write(&self, file: &Self::File, bytes: &[u8]) -> Result<usize, Fault>;
    /// Waits until a file, or a folder's list of names, is on the disk.
    ///
    /// # Errors
    /// The disk is full or broken.
    fn sync(&self, file: &Self::File) -> Result<(), Fault>;
    /// Renames a file inside a folder.
    ///
    /// # Errors
    /// It is not there, or the folder may not be written.
    fn rename_in(&self, folder: &Self::File, from: &[u8], to: &[u8]) -> Result<(), Fault>;
    /// Removes a file from a folder.
    ///
    /// # Errors
    /// It is not there, or the folder may not be written.
    fn remove_in(&self, folder: &Self::File, name: &[u8]) -> Result<(), Fault>;
}

/// Where lines for a person go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Why the system did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is nothing with that name.
    Absent,
    /// We may not.
    Denied,
    /// A socket that nobody listens on.
    Refused,
    /// Not within the time we gave it.
    TimedOut,
    /// A signal came in between.
    Interrupted,
    /// The peer hung up.
    Gone,
    /// No space or no quota.
    DiskFull,
    /// Larger than the system or we allow.
    TooBig,
    /// The file system is read-only.
    ReadOnly,
    /// A part of the path is no folder.
    NotFolder,
    /// It is a folder.
    IsFolder,
    /// It is there already.
    Exists,
    /// The name or path is too long for its use.
    LongName,
    /// The name has a zero byte.
    ZeroByte,
    /// No memory.
    NoMemory,
    /// Too many open files.
    TooManyFiles,
    /// Any other error, by the system's number.
    Other(i32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "no such file or folder",
            Self::Denied => "permission denied",
            Self::Refused => "nobody listens there",
            Self::TimedOut => "no answer in time",
            Self::Interrupted => "interrupted by a signal",
            Self::Gone => "the other side hung up",
            Self::DiskFull => "no space left",
            Self::TooBig => "too big",
            Self::ReadOnly => "the file system is read-only",
            Self::NotFolder => "a part of the path is not a folder",
            Self::IsFolder => "it is a folder",
            Self::Exists => "it exists already",
            Self::LongName => "the path is too long",
            Self::ZeroByte => "the path has a zero byte",
            Self::NoMemory => "no memory",
            Self::TooManyFiles => "too many open files",
            Self::Other(number) => return write!(f, "system error {number}"),
        })
    }
}

impl core::error::Error for Fault {}
