//! The system calls with which a process gives up what it could do. Each takes plain values and gives the kernel's
//! answer; in which order they come is for [`super`]. The only unsafe code of this crate.
#![expect(unsafe_code, reason = "system calls that std does not offer; each block says why it is sound")]

use std::io;

/// Last capability a kernel may know: the kernel counts up to this.
const CAPABILITIES_MAX: libc::c_int = 63;
/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Address space, in bytes.
    AddressSpace,
    /// Private memory that can be written, in bytes.
    Data,
    /// Processes and threads of the user.
    Processes,
    /// The highest file number.
    Files,
    /// The largest file, in bytes.
    FileSize,
    /// Seconds of CPU time.
    Cpu,
    /// Core files, in bytes.
    Core,
}

/// Sets both bounds of a limit.
pub(super) fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let resource = match resource {
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Processes => libc::RLIMIT_NPROC,
        Resource::Files => libc::RLIMIT_NOFILE,
        Resource::FileSize => libc::RLIMIT_FSIZE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Core => libc::RLIMIT_CORE,
    };
    // A limit that is lower already stays.
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid place for the answer and lives over the call.
    done(unsafe { libc::getrlimit(resource, &raw mut now) })?;
    let value = value.min(now.rlim_max);
    let wanted = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel only reads `wanted`, which lives over the call.
    done(unsafe { libc::setrlimit(resource, &raw const wanted) })
}

/// Becomes this user and group for good, with no other groups.
pub(super) fn become_user(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: plain numbers; an empty list is not read.
    done(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: plain numbers.
    done(unsafe { libc::setresgid(group, group, group) })?;
    // SAFETY: plain numbers.
    done(unsafe { libc::setresuid(user, user, user) })?;
    // After a change of user the files of /proc/self are root's, and the map of the namespace to come is one of them.
    // SAFETY: plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })
}

/// Enters a user namespace of its own.
pub(super) fn unshare_user() -> io::Result<()> {
    // SAFETY: a plain number; this process has one thread.
    done(unsafe { libc::unshare(libc::CLONE_NEWUSER) })
}

/// Gives up every capability, and that any program could give one back.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for capability in 0..=CAPABILITIES_MAX {
        // SAFETY: plain numbers.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINVAL) => break, // the kernel knows no more
                Some(libc::EPERM) => break, // we may not, because we have none; below it is seen that we have none
                _ => return Err(error),
            }
        }
    }
    // SAFETY: plain numbers.
    done(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let none: [u32; 6] = [0; 6];
    // SAFETY: version 3 reads a header of two words and two sets of three; both live over the call.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) })
}

/// From now on no program gives more rights than its caller has.
pub(super) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: plain numbers.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Has the kernel judge every call from now on by this program.
pub(super) fn filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads `len` instructions, which live over the call; `program` does too.
    done(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0_u64, 0_u64)
    })
}

fn done(answer: impl Into<i64>) -> io::Result<()> {
    if answer.into() == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
