//! The door [`Sys`] on bare system calls. Calls come in, the kernel's answers go out in the hook's words.
//! Nothing here is unsafe.

use core::num::NonZeroU32;

use eka_hook::{Fault, Stream, Sys};

use super::call::{self, Bound, Clock, Errno, Fd, Memory};
use super::start::Strings;

/// Bytes read at first from something whose length is not known.
const FIRST_READ: usize = 16 << 10;

/// The process as the kernel started it.
pub(super) struct Linux {
    pub(super) args: Strings,
    pub(super) env: Strings,
}

impl Sys for Linux {
    type File = Fd;
    type Socket = Fd;
    type Blob = Memory;

    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.args.get(index + 1)
    }

    fn env(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.value_of(name)
    }

    fn monotonic_ms(&self) -> u64 {
        call::clock_ms(Clock::Monotonic)
    }

    fn wall_ms(&self) -> u64 {
        call::clock_ms(Clock::Wall)
    }

    fn pid(&self) -> u32 {
        call::pid()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Fault> {
        if call::random(bytes) == Ok(bytes.len()) {
            return Ok(());
        }
        // Early in a boot, or without the call: this one never waits.
        let source = again(|| call::open(None, b"/dev/urandom", call::READ_ONLY, 0))?;
        let got = again(|| call::read(Some(&source), bytes))?;
        if got == bytes.len() { Ok(()) } else { Err(Fault::Gone) }
    }

    fn print(&self, stream: Stream, bytes: &[u8]) {
        let number = match stream {
            Stream::Out => 1,
            Stream::Err => 2,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match again(|| call::write(number, rest)) {
                Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                // Nobody listens: see the trait.
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn room(&self, len: usize) -> Result<Memory, Fault> {
        let mut memory = Memory::new(len).map_err(fault)?;
        memory.shorten(len);
        Ok(memory)
    }

    fn read_file(&self, path: &[u8], max: usize) -> Result<Memory, Fault> {
        let file = again(|| call::open(None, path, call::READ_ONLY, 0))?;
        read_all(Some(&file), max)
    }

    fn read_stdin(&self, max: usize) -> Result<Memory, Fault> {
        read_all(None, max)
    }

    fn connect(&self, path: &[u8], timeout_ms: NonZeroU32) -> Result<Fd, Fault> {
        let socket = call::socket().map_err(fault)?;
        call::bound(&socket, Bound::Send, timeout_ms.get()).map_err(fault)?;
        call::connect(&socket, path).map_err(fault)?;
        Ok(socket)
    }

    fn send(&self, socket: &Fd, bytes: &[u8], timeout_ms: NonZeroU32) -> Result<usize, Fault> {
        call::bound(socket, Bound::Send, timeout_ms.get()).map_err(fault)?;
        call::send(socket, bytes).map_err(fault)
    }

    fn receive(&self, socket: &Fd, buffer: &mut [u8], timeout_ms: NonZeroU32) -> Result<usize, Fault> {
        call::bound(socket, Bound::Receive, timeout_ms.get()).map_err(fault)?;
        call::receive(socket, buffer).map_err(fault)
    }

    fn make_folder(&self, path: &[u8], mode: u32) -> Result<(), Fault> {
        call::make_folder(path, mode as usize).map_err(fault)
    }

    fn open_folder(&self, path: &[u8]) -> Result<Fd, Fault> {
        again(|| call::open(None, path, call::FOLDER, 0))
    }

    fn create_in(&self, folder: &Fd, name: &[u8]) -> Result<Fd, Fault> {
        let file = again(|| call::open(Some(folder), name, call::NEW, 0o640))?;
        // Only root may; for others the file stays theirs, as it should.
        let _ = call::give_to_owner_of(folder, &file);
        Ok(file)
    }

    fn write(&self, file: &Fd, bytes: &[u8]) -> Result<usize, Fault> {
        again(|| call::write_file(file, bytes))
    }

    fn sync(&self, file: &Fd) -> Result<(), Fault> {
        again(|| call::sync(file))
    }

    fn rename_in(&self, folder: &Fd, from: &[u8], to: &[u8]) -> Result<(), Fault> {
        call::rename(folder, from, to).map_err(fault)
    }

    fn remove_in(&self, folder: &Fd, name: &[u8]) -> Result<(), Fault> {
        call::remove(folder, name).map_err(fault)
    }
}

/// Reads to the end, into memory that grows as needed.
fn read_all(file: Option<&Fd>, max: usize) -> Result<Memory, Fault> {
    let mut memory = Memory::new(FIRST_READ).map_err(fault)?;
    let mut got = 0;
    loop {
        if got > max {
            return Err(Fault::TooBig);
        }
        if got == memory.as_ref().len() {
            memory.double().map_err(fault)?;
        }
        match again(|| call::read(file, &mut memory.as_mut()[got..]))? {
            0 => break,
            bytes => got += bytes,
        }
    }
    memory.shorten(got);
    Ok(memory)
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Fault> {
    const EINTR: Errno = Errno(4);
    loop {
        match call() {
            Err(EINTR) => {}
            done => return done.map_err(fault),
        }
    }
}

/// The kernel's numbers, which are the same on both processors.
const fn fault(errno: Errno) -> Fault {
    match errno {
        call::ZERO_BYTE => Fault::ZeroByte,
        Errno(2) => Fault::Absent,
        Errno(1 | 13) => Fault::Denied,
        Errno(111) => Fault::Refused,
        Errno(11 | 110 | 115) => Fault::TimedOut,
        Errno(4) => Fault::Interrupted,
        Errno(32 | 104) => Fault::Gone,
        Errno(28 | 122) => Fault::DiskFull,
        Errno(27) => Fault::TooBig,
        Errno(30) => Fault::ReadOnly,
        Errno(20) => Fault::NotFolder,
        Errno(21) => Fault::IsFolder,
        Errno(17) => Fault::Exists,
        Errno(36) => Fault::LongName,
        Errno(12) => Fault::NoMemory,
        Errno(23 | 24) => Fault::TooManyFiles,
        Errno(other) => Fault::Other(other),
    }
}
