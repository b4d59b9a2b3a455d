//! The door to the system on the standard library, for every unix. Calls come in, the system's answers go out
//! in the hook's words. `rustix` does what std cannot: bound a connect in time, and work inside of an open
//! folder.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use eka_hook::{Fault, Stream, Sys};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType};

pub(crate) fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let line = format!("eka-hook: a mistake in eka-hook, please report it: {info}\n");
        // Nobody listens on standard error, then; the build goes on all the same.
        let _ = io::stderr().write_all(line.as_bytes());
        std::process::exit(i32::from(eka_hook::panic_exit_code()));
    }));
    ExitCode::from(eka_hook::run(&Portable::new()))
}

struct Portable {
    args: Vec<Vec<u8>>,
    env: Vec<(OsString, OsString)>,
    start: Instant,
}

impl Portable {
    fn new() -> Self {
        let args = std::env::args_os().skip(1).map(OsString::into_vec).collect();
        Self { args, env: std::env::vars_os().collect(), start: Instant::now() }
    }
}

impl Sys for Portable {
    type File = File;
    type Socket = OwnedFd;
    type Blob = Vec<u8>;

    fn arg(&self, index: usize) -> Option<&[u8]> {
        self.args.get(index).map(Vec::as_slice)
    }

    fn env(&self, name: &[u8]) -> Option<&[u8]> {
        self.env.iter().find(|(key, _)| key.as_bytes() == name).map(|(_, value)| value.as_bytes())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the hook's own door to the clock; it uses no kit")]
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Fault> {
        File::open("/dev/urandom").and_then(|mut source| source.read_exact(bytes)).map_err(|e| io_fault(&e))
    }

    fn print(&self, stream: Stream, bytes: &[u8]) {
        // Nobody listens, then: see the trait.
        let _ = match stream {
            Stream::Out => io::stdout().write_all(bytes),
            Stream::Err => io::stderr().write_all(bytes),
        };
    }

    fn room(&self, len: usize) -> Result<Vec<u8>, Fault> {
        let mut room = Vec::new();
        room.try_reserve_exact(len).map_err(|_| Fault::NoMemory)?;
        room.resize(len, 0);
        Ok(room)
    }

    fn read_file(&self, path: &[u8], max: usize) -> Result<Vec<u8>, Fault> {
        read_all(File::open(OsStr::from_bytes(path)).map_err(|e| io_fault(&e))?, max)
    }

    fn read_stdin(&self, max: usize) -> Result<Vec<u8>, Fault> {
        read_all(io::stdin().lock(), max)
    }

    fn connect(&self, path: &[u8], timeout_ms: NonZeroU32) -> Result<OwnedFd, Fault> {
        let address = SocketAddrUnix::new(path).map_err(fault)?;
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).map_err(fault)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).map_err(fault)?;
        bound(&socket, Timeout::Send, timeout_ms)?;
        rustix::net::connect(&socket, &address).map_err(fault)?;
        Ok(socket)
    }

    fn send(&self, socket: &OwnedFd, bytes: &[u8], timeout_ms: NonZeroU32) -> Result<usize, Fault> {
        bound(socket, Timeout::Send, timeout_ms)?;
        // std ignores SIGPIPE before `main` begins.
        rustix::net::send(socket, bytes, SendFlags::empty()).map_err(fault)
    }

    fn receive(&self, socket: &OwnedFd, buffer: &mut [u8], timeout_ms: NonZeroU32) -> Result<usize, Fault> {
        bound(socket, Timeout::Recv, timeout_ms)?;
        rustix::net::recv(socket, buffer, RecvFlags::empty()).map(|(bytes, _)| bytes).map_err(fault)
    }

    fn make_folder(&self, path: &[u8], mode: u32) -> Result<(), Fault> {
        rustix::fs::mkdir(path, mode_of(mode)).map_err(fault)
    }

    fn open_folder(&self, path: &[u8]) -> Result<File, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        again(|| rustix::fs::open(path, flags, Mode::empty())).map(File::from)
    }

    fn create_in(&self, folder: &File, name: &[u8]) -> Result<File, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(again(|| rustix::fs::openat(folder, name, flags, mode_of(0o640)))?);
        if let Ok(owner) = folder.metadata() {
            // Only root may; for others the file stays theirs, as it should.
            let _ =
                rustix::fs::fchown(&file, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid())));
        }
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> Result<usize, Fault> {
        again(|| rustix::io::write(file, bytes))
    }

    fn sync(&self, file: &File) -> Result<(), Fault> {
        again(|| rustix::fs::fsync(file))
    }

    fn rename_in(&self, folder: &File, from: &[u8], to: &[u8]) -> Result<(), Fault> {
        rustix::fs::renameat(folder, from, folder, to).map_err(fault)
    }

    fn remove_in(&self, folder: &File, name: &[u8]) -> Result<(), Fault> {
        rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(fault)
    }
}

fn read_all(source: impl Read, max: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    source.take(limit).read_to_end(&mut bytes).map_err(|e| io_fault(&e))?;
    if bytes.len() > max { Err(Fault::TooBig) } else { Ok(bytes) }
}

fn bound(socket: &OwnedFd, which: Timeout, timeout_ms: NonZeroU32) -> Result<(), Fault> {
    let timeout = Duration::from_millis(u64::from(timeout_ms.get()));
    set_socket_timeout(socket, which, Some(timeout)).map_err(fault)
}

fn mode_of(mode: u32) -> Mode {
    // The modes are ours and below 0o777, which every system's type holds.
    Mode::from_raw_mode(rustix::fs::RawMode::try_from(mode).unwrap_or(0o700))
}

fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Fault> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done.map_err(fault),
        }
    }
}

fn io_fault(error: &io::Error) -> Fault {
    Errno::from_io_error(error).map_or(Fault::Other(0), fault)
}

fn fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT => Fault::Absent,
        Errno::ACCESS | Errno::PERM => Fault::Denied,
        Errno::CONNREFUSED => Fault::Refused,
        Errno::AGAIN | Errno::TIMEDOUT | Errno::INPROGRESS => Fault::TimedOut,
        Errno::INTR => Fault::Interrupted,
        Errno::PIPE | Errno::CONNRESET => Fault::Gone,
        Errno::NOSPC | Errno::DQUOT => Fault::DiskFull,
        Errno::FBIG => Fault::TooBig,
        Errno::ROFS => Fault::ReadOnly,
        Errno::NOTDIR => Fault::NotFolder,
        Errno::ISDIR => Fault::IsFolder,
        Errno::EXIST => Fault::Exists,
        Errno::NAMETOOLONG => Fault::LongName,
        Errno::NOMEM => Fault::NoMemory,
        Errno::MFILE | Errno::NFILE => Fault::TooManyFiles,
        other => Fault::Other(other.raw_os_error()),
    }
}
