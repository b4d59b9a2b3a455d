//! The kernel's calls, each as a safe function over Rust's types. Slices and numbers come in, a number or an
//! [`Errno`] goes out; nothing is retried and nothing is decided here.
#![expect(unsafe_code, reason = "system calls are instructions, and the kernel takes bare pointers")]

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;

/// The kernel's number for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(pub(super) i32);

const ENAMETOOLONG: Errno = Errno(36);
/// What a path with a zero byte gives; no number of the kernel's.
pub(super) const ZERO_BYTE: Errno = Errno(-1);
const ENOMEM: Errno = Errno(12);

/// Most bytes of a path, its zero byte included.
const PATH_LEN: usize = 4096;
/// Most bytes of a unix socket's path.
const SOCKET_PATH_LEN: usize = 108;
const AT_FDCWD: usize = (-100_isize).cast_unsigned();

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const READ: usize = 0;
    pub(super) const WRITE: usize = 1;
    pub(super) const CLOSE: usize = 3;
    pub(super) const MMAP: usize = 9;
    pub(super) const MUNMAP: usize = 11;
    pub(super) const RT_SIGACTION: usize = 13;
    pub(super) const MREMAP: usize = 25;
    pub(super) const GETPID: usize = 39;
    pub(super) const SOCKET: usize = 41;
    pub(super) const CONNECT: usize = 42;
    pub(super) const SENDTO: usize = 44;
    pub(super) const RECVFROM: usize = 45;
    pub(super) const SETSOCKOPT: usize = 54;
    pub(super) const FCNTL: usize = 72;
    pub(super) const FSYNC: usize = 74;
    pub(super) const FCHOWN: usize = 93;
    pub(super) const CLOCK_GETTIME: usize = 228;
    pub(super) const EXIT_GROUP: usize = 231;
    pub(super) const OPENAT: usize = 257;
    pub(super) const MKDIRAT: usize = 258;
    pub(super) const UNLINKAT: usize = 263;
    pub(super) const RENAMEAT: usize = 264;
    pub(super) const GETRANDOM: usize = 318;
    pub(super) const STATX: usize = 332;
    pub(super) const O_DIRECTORY: usize = 0o200_000;
    pub(super) const O_NOFOLLOW: usize = 0o400_000;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const FCNTL: usize = 25;
    pub(super) const MKDIRAT: usize = 34;
    pub(super) const UNLINKAT: usize = 35;
    pub(super) const RENAMEAT: usize = 38;
    pub(super) const FCHOWN: usize = 55;
    pub(super) const OPENAT: usize = 56;
    pub(super) const CLOSE: usize = 57;
    pub(super) const READ: usize = 63;
    pub(super) const WRITE: usize = 64;
    pub(super) const FSYNC: usize = 82;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const CLOCK_GETTIME: usize = 113;
    pub(super) const RT_SIGACTION: usize = 134;
    pub(super) const GETPID: usize = 172;
    pub(super) const SOCKET: usize = 198;
    pub(super) const CONNECT: usize = 203;
    pub(super) const SENDTO: usize = 206;
    pub(super) const RECVFROM: usize = 207;
    pub(super) const SETSOCKOPT: usize = 208;
    pub(super) const MUNMAP: usize = 215;
    pub(super) const MREMAP: usize = 216;
    pub(super) const MMAP: usize = 222;
    pub(super) const GETRANDOM: usize = 278;
    pub(super) const STATX: usize = 291;
    pub(super) const O_DIRECTORY: usize = 0o40_000;
    pub(super) const O_NOFOLLOW: usize = 0o100_000;
}

/// How a file is opened.
pub(super) const READ_ONLY: usize = 0o2_000_000;
/// For reading, and it has to be a folder.
pub(super) const FOLDER: usize = READ_ONLY | number::O_DIRECTORY;
/// For writing, and it has to be new.
pub(super) const NEW: usize = 0o2_000_000 | 0o1 | 0o100 | 0o200 | number::O_NOFOLLOW;

/// Which time of a socket is bounded: the kernel's SO_SNDTIMEO and SO_RCVTIMEO.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    Send = 21,
    Receive = 20,
}

/// Which clock: the kernel's CLOCK_REALTIME and CLOCK_MONOTONIC.
#[derive(Clone, Copy)]
pub(super) enum Clock {
    Wall = 0,
    Monotonic = 1,
}

/// A file, folder or socket that this process opened; closed when dropped.
pub(super) struct Fd(usize);

impl Fd {
    /// Takes over what the kernel just opened. Numbers below 3 are moved away: when the standard streams are
    /// closed the kernel gives them out again, and a line for a person would land in a file.
    fn own(raw: usize) -> Result<Self, Errno> {
        const F_DUPFD_CLOEXEC: usize = 1030;
        let fd = Self(raw);
        if raw > 2 {
            return Ok(fd);
        }
        // SAFETY: numbers only.
        unsafe { call(number::FCNTL, [fd.0, F_DUPFD_CLOEXEC, 3, 0, 0, 0]) }.map(Self)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // What was written is synced where it matters; a failed close says nothing more.
        // SAFETY: numbers only; the descriptor is ours and nobody uses it after this.
        let _ = unsafe { call(number::CLOSE, [self.0, 0, 0, 0, 0, 0]) };
    }
}

pub(super) fn exit(code: u8) -> ! {
    loop {
        // The kernel does not come back from this.
        // SAFETY: numbers only.
        let _ = unsafe { call(number::EXIT_GROUP, [usize::from(code), 0, 0, 0, 0, 0]) };
    }
}

/// A closed pipe behind standard error, and a limit on the size of files, are answers and not reasons to die.
pub(super) fn ignore_deadly_signals() {
    const SIGPIPE: usize = 13;
    const SIGXFSZ: usize = 25;
    const SIG_IGN: u64 = 1;
    // struct sigaction of the kernel: handler, flags, restorer, mask.
    let ignore: [u64; 4] = [SIG_IGN, 0, 0, 0];
    for signal in [SIGPIPE, SIGXFSZ] {
        // Cannot fail for these two signals.
        // SAFETY: the address is `ignore`'s, as long as the kernel's struct; the old action is not asked for.
        let _ =
            unsafe { call(number::RT_SIGACTION, [signal, ignore.as_ptr().expose_provenance(), 0, 8, 0, 0]) };
    }
}

pub(super) fn pid() -> u32 {
    // Cannot fail; the kernel's numbers have 22 bits.
    // SAFETY: numbers only.
    unsafe { call(number::GETPID, [0; 6]) }.ok().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
}

/// Milliseconds of this clock.
pub(super) fn clock_ms(clock: Clock) -> u64 {
    let mut time: [i64; 2] = [0; 2];
    let place = time.as_mut_ptr().expose_provenance();
    // Cannot fail for these two clocks.
    // SAFETY: the address is `time`'s, as long as the kernel's struct.
    let _ = unsafe { call(number::CLOCK_GETTIME, [clock as usize, place, 0, 0, 0, 0]) };
    let [seconds, nanos] = time.map(|part| u64::try_from(part).unwrap_or(0));
    seconds * 1000 + nanos / 1_000_000
}

/// Random bytes, without waiting for the kernel to gather them.
pub(super) fn random(bytes: &mut [u8]) -> Result<usize, Errno> {
    const GRND_NONBLOCK: usize = 1;
    let place = bytes.as_mut_ptr().expose_provenance();
    // SAFETY: address and length are those of `bytes`.
    unsafe { call(number::GETRANDOM, [place, bytes.len(), GRND_NONBLOCK, 0, 0, 0]) }
}

/// Standard input, or a file of ours.
pub(super) fn read(fd: Option<&Fd>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let fd = fd.map_or(0, |fd| fd.0);
    // SAFETY: address and length are those of `buffer`.
    unsafe { call(number::READ, [fd, buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0, 0]) }
}

/// A standard stream, by its number.
pub(super) fn write(stream: usize, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: address and length are those of `bytes`.
    unsafe { call(number::WRITE, [stream, bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0]) }
}

pub(super) fn write_file(file: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
    write(file.0, bytes)
}

pub(super) fn sync(file: &Fd) -> Result<(), Errno> {
    // SAFETY: numbers only.
    unsafe { call(number::FSYNC, [file.0, 0, 0, 0, 0, 0]) }.map(|_| ())
}

/// Opens a path, inside of a folder or from where we are.
pub(super) fn open(folder: Option<&Fd>, path: &[u8], how: usize, mode: usize) -> Result<Fd, Errno> {
    let folder = folder.map_or(AT_FDCWD, |folder| folder.0);
    // SAFETY: the address is `with_path`'s.
    with_path(path, |path| unsafe { call(number::OPENAT, [folder, path, how, mode, 0, 0]) }).and_then(Fd::own)
}

pub(super) fn make_folder(path: &[u8], mode: usize) -> Result<(), Errno> {
    // SAFETY: the address is `with_path`'s.
    with_path(path, |path| unsafe { call(number::MKDIRAT, [AT_FDCWD, path, mode, 0, 0, 0]) }).map(|_| ())
}

pub(super) fn rename(folder: &Fd, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    let folder = folder.0;
    // SAFETY: both addresses are `with_path`'s.
    let call = |from, to| unsafe { call(number::RENAMEAT, [folder, from, folder, to, 0, 0]) };
    with_path(from, |from| with_path(to, |to| call(from, to))).map(|_| ())
}

pub(super) fn remove(folder: &Fd, name: &[u8]) -> Result<(), Errno> {
    // SAFETY: the address is `with_path`'s.
    with_path(name, |name| unsafe { call(number::UNLINKAT, [folder.0, name, 0, 0, 0, 0]) }).map(|_| ())
}

/// Gives a file the owner and group of a folder.
pub(super) fn give_to_owner_of(folder: &Fd, file: &Fd) -> Result<(), Errno> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const STATX_UID_AND_GID: usize = 0x8 | 0x10;
    // struct statx has 256 bytes, as 64 numbers of 32 bits: the owner is number 5, the group number 6.
    let mut facts: [u32; 64] = [0; 64];
    let empty = c"".as_ptr().expose_provenance();
    let place = facts.as_mut_ptr().expose_provenance();
    // SAFETY: the addresses are those of an empty string and of `facts`, as long as the kernel's struct.
    unsafe { call(number::STATX, [folder.0, empty, AT_EMPTY_PATH, STATX_UID_AND_GID, place, 0]) }?;
    let (owner, group) = (facts[5] as usize, facts[6] as usize);
    // SAFETY: numbers only.
    unsafe { call(number::FCHOWN, [file.0, owner, group, 0, 0, 0]) }.map(|_| ())
}

/// A new unix stream socket.
pub(super) fn socket() -> Result<Fd, Errno> {
    const AF_UNIX: usize = 1;
    const SOCK_STREAM_CLOEXEC: usize = 1 | 0o2_000_000;
    // SAFETY: numbers only.
    unsafe { call(number::SOCKET, [AF_UNIX, SOCK_STREAM_CLOEXEC, 0, 0, 0, 0]) }.and_then(Fd::own)
}

pub(super) fn bound(socket: &Fd, what: Bound, timeout_ms: u32) -> Result<(), Errno> {
    const SOL_SOCKET: usize = 1;
    let time: [u64; 2] = [u64::from(timeout_ms / 1000), u64::from(timeout_ms % 1000) * 1000];
    let place = time.as_ptr().expose_provenance();
    let arguments = [socket.0, SOL_SOCKET, what as usize, place, size_of_val(&time), 0];
    // SAFETY: address and length are those of `time`.
    unsafe { call(number::SETSOCKOPT, arguments) }.map(|_| ())
}

pub(super) fn connect(socket: &Fd, path: &[u8]) -> Result<(), Errno> {
    // struct sockaddr_un: a family of two bytes, and the path with its zero byte.
    let mut address = [0_u8; 2 + SOCKET_PATH_LEN];
    address[0] = 1;
    if path.contains(&0) {
        return Err(ZERO_BYTE);
    }
    // The last byte of the address stays the path's zero byte.
    address[2..2 + SOCKET_PATH_LEN - 1].get_mut(..path.len()).ok_or(ENAMETOOLONG)?.copy_from_slice(path);
    let place = address.as_ptr().expose_provenance();
    // SAFETY: the address is that of `address`, which the path and its zero byte were just seen to fit.
    unsafe { call(number::CONNECT, [socket.0, place, 2 + path.len() + 1, 0, 0, 0]) }.map(|_| ())
}

pub(super) fn send(socket: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let place = bytes.as_ptr().expose_provenance();
    // SAFETY: address and length are those of `bytes`.
    unsafe { call(number::SENDTO, [socket.0, place, bytes.len(), MSG_NOSIGNAL, 0, 0]) }
}

pub(super) fn receive(socket: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let place = buffer.as_mut_ptr().expose_provenance();
    // SAFETY: address and length are those of `buffer`; the sender's address is not asked for.
    unsafe { call(number::RECVFROM, [socket.0, place, buffer.len(), 0, 0, 0]) }
}

/// Memory of our own, zero at first; given back when dropped.
pub(super) struct Memory {
    start: *mut u8,
    /// Bytes in use.
    len: usize,
    /// Bytes the kernel gave.
    capacity: usize,
}

impl Memory {
    pub(super) fn new(len: usize) -> Result<Self, Errno> {
        const READ_WRITE: usize = 1 | 2;
        const PRIVATE_ANONYMOUS: usize = 2 | 0x20;
        let capacity = len.max(1);
        // SAFETY: memory of the kernel's choice, so none that is in use.
        let start =
            unsafe { call(number::MMAP, [0, capacity, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) }?;
        Ok(Self { start: ptr::with_exposed_provenance_mut(start), len, capacity })
    }

    /// Makes it twice as long.
    pub(super) fn double(&mut self) -> Result<(), Errno> {
        const MAY_MOVE: usize = 1;
        let capacity = self.capacity.checked_mul(2).ok_or(ENOMEM)?;
        let old = self.start.expose_provenance();
        // SAFETY: this memory is ours as a whole, and `self` is borrowed for writing, so nobody looks at its
        // old place.
        let start = unsafe { call(number::MREMAP, [old, self.capacity, capacity, MAY_MOVE, 0, 0]) }?;
        self.start = ptr::with_exposed_provenance_mut(start);
        (self.len, self.capacity) = (capacity, capacity);
        Ok(())
    }

    /// Forgets all but the first `len` bytes.
    pub(super) const fn shorten(&mut self, len: usize) {
        if len < self.len {
            self.len = len;
        }
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the kernel gave at least `len` bytes at `start`, set to zero, to us alone, until we are
        // dropped.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

impl AsMut<[u8]> for Memory {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // The process is about to end; memory that cannot be given back goes with it.
        // SAFETY: this memory is ours as a whole, and nobody looks at it after this.
        let _ = unsafe { call(number::MUNMAP, [self.start.expose_provenance(), self.capacity, 0, 0, 0, 0]) };
    }
}

/// Calls `then` with the address of the path and a zero byte.
fn with_path<T>(path: &[u8], then: impl FnOnce(usize) -> Result<T, Errno>) -> Result<T, Errno> {
    if path.contains(&0) {
        return Err(ZERO_BYTE);
    }
    // Not set to zero first: that alone would be a tenth of all the hook does.
    let mut place = [const { MaybeUninit::<u8>::uninit() }; PATH_LEN];
    let room = place[..PATH_LEN - 1].get_mut(..path.len()).ok_or(ENAMETOOLONG)?;
    for (to, from) in room.iter_mut().zip(path) {
        to.write(*from);
    }
    place[path.len()].write(0);
    then(place.as_ptr().expose_provenance())
}

/// Asks the kernel.
///
/// # Safety
/// An address among the arguments is that of memory which the caller holds for the time of the call, as long
/// as the call says, and writable where the kernel writes. The call takes no memory away that is in use.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the convention of the kernel on this processor; for the addresses, the caller's promise.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack)
        );
    }
    match usize::try_from(answer) {
        Ok(answer) => Ok(answer),
        Err(_) => match c_int::try_from(-answer) {
            Ok(number) if number < 4096 => Err(Errno(number)),
            // An address in the upper half of memory, which only mmap gives, and not to programs.
            _ => Err(ENOMEM),
        },
    }
}
