//! The system calls std has no safe form of; the only unsafe code of this crate. A prepared command, a child or a
//! group comes in; the kernel's answer comes out. No policy here.
#![expect(unsafe_code, reason = "system calls that std does not offer; each block says why it is sound")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Usage;

/// What a group can be told.
#[derive(Clone, Copy)]
pub(super) enum Signal {
    /// Please end.
    Term,
    /// End.
    Kill,
}

/// Makes the child that `command` will start a group of its own, lets the kernel kill it when the thread that starts
/// it ends, and closes every file it should not inherit when it executes its program. Linux 5.11 or newer.
pub(super) fn arm(command: &mut Command) {
    let parent = std::process::id();
    command.process_group(0);
    let prepare = move || {
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are bare system calls with
        // plain numbers, and `from_raw_os_error` and `last_os_error` do not allocate.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have ended before the kernel knew whose end to watch.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing, takes no lock and touches no memory of other threads.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Becomes readable when the process ends. `pid` must be a child of ours that was not waited for yet. Needs a tokio
/// runtime with IO.
pub(super) fn end_of(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: a system call with plain numbers; it touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::other("the system gave no file number"))?;
    // SAFETY: the kernel just gave us this file and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an `OwnedFd` is open, always the same, and closed only when it is dropped together with the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Waits for a child that has ended, without blocking; `None` when it has not. `pid` must be a child of ours that was not
/// waited for yet, and is not its number any more afterwards.
pub(super) fn reap(pid: u32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one status and one usage, both of which are ours and large enough.
    let found = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match found {
        0 => return Ok(None),
        found if found < 0 => return Err(io::Error::last_os_error()),
        _ => {}
    }
    // SAFETY: it is made of numbers alone, for which zeros, or what the kernel wrote, are good values.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    let usage = Usage {
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        memory_peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
    };
    Ok(Some((ExitStatus::from_raw(status), usage)))
}

/// Tells a whole group; a group without members is no error. `leader` must not have been waited for yet, else its
/// number may belong to somebody else.
pub(super) fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    let signal = match signal {
        Signal::Term => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    let group = libc::pid_t::try_from(leader).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: a system call with plain numbers; it touches no memory of ours.
    if unsafe { libc::kill(-group, signal) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}
