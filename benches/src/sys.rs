//! Starting and ending processes as cheaply as the system can, and the memory they really had. A prepared program
//! comes in; what its one run took goes out. All unsafe code of `eka-bench` is here.
//!
//! The time is that of `posix_spawn` to `wait4`: nothing is allocated in between, and input, output and errors go to
//! the null device.
#![expect(unsafe_code, reason = "posix_spawn, wait4 and ptrace have no safe form in std")]

use std::ffi::{CString, OsStr, c_char, c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::ptr;
use std::time::{Duration, Instant};

/// A program with its arguments and its whole environment, ready to be started.
pub(crate) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    null: File,
}

/// How one run went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// From the call of `posix_spawn` to the return of `wait4`.
    pub(crate) took: Duration,
    /// Processor time of user and system.
    pub(crate) cpu: Duration,
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
}

impl Program {
    /// `variables` are the whole environment, each `NAME=value`.
    pub(crate) fn new(path: &Path, arguments: &[&str], variables: &[String]) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
        let mut argv = vec![text(path.as_os_str())?];
        for argument in arguments {
            argv.push(text(OsStr::new(argument))?);
        }
        let environment =
            variables.iter().map(|variable| text(OsStr::new(variable))).collect::<io::Result<_>>()?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self { path: text(path.as_os_str())?, arguments: argv, environment, null })
    }

    /// Runs it once.
    pub(crate) fn run(&self) -> io::Result<Ended> {
        let actions = Actions::all_to(self.null.as_raw_fd())?;
        let argv = pointers(&self.arguments);
        let envp = pointers(&self.environment);
        let mut pid = 0;
        let started = Instant::now();
        // SAFETY: the path and all strings end with a zero byte and live in `self`; both lists end with a null and
        // live until the end of this function; `actions` was initialised, and attributes are not given.
        let failed = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.path.as_ptr(),
                &raw const actions.0,
                ptr::null(),
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        let (status, usage) = wait(pid)?;
        let took = started.elapsed();
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        Ok(Ended { took, cpu: cpu(&usage), code })
    }
}

/// Whose time on processors.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    /// All threads of this process.
    Own,
    /// All children that were waited for, with theirs.
    Children,
}

/// Time on processors of user and system so far.
pub(crate) fn computed(whose: Whose) -> io::Result<Duration> {
    let who = match whose {
        Whose::Own => libc::RUSAGE_SELF,
        Whose::Children => libc::RUSAGE_CHILDREN,
    };
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the place is ours and as large as the kernel's struct.
    if unsafe { libc::getrusage(who, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed numbers, or what the kernel wrote over them.
    Ok(cpu(unsafe { usage.assume_init_ref() }))
}

fn cpu(usage: &libc::rusage) -> Duration {
    let time = |time: libc::timeval| {
        let part = |part: i64, unit: u64| u64::try_from(part).unwrap_or(0) * unit;
        Duration::from_micros(part(time.tv_sec, 1_000_000) + part(time.tv_usec, 1))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The list the kernel wants, ended by a null.
fn pointers(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    /// Standard input, output and errors become copies of `file`.
    fn all_to(file: c_int) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        let check = |failed: c_int| match failed {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
        // SAFETY: init writes all of `actions` when it gives 0; only then is it taken as initialised.
        let mut actions = unsafe {
            check(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            Self(actions.assume_init())
        };
        for stream in 0..=2 {
            // SAFETY: `actions` is initialised; the numbers are only noted.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, file, stream) })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised, and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

fn wait(pid: libc::pid_t) -> io::Result<(c_int, libc::rusage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both places are ours and as large as the kernel's structs.
        if unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) } == pid {
            // SAFETY: zeroed numbers, or what the kernel wrote over them.
            return Ok((status, unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The most memory that a run of `command` held at once, in bytes.
///
/// `ru_maxrss` would be ours: until it executes its program a child counts as its parent. So the child is stopped at
/// its exit, and asked while its memory is still there.
pub(crate) fn peak_memory_bytes(command: &mut Command) -> io::Result<u64> {
    let trace_me = || {
        // SAFETY: a bare system call with plain numbers, allowed between fork and exec.
        match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null::<c_void>(), ptr::null::<c_void>()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    let child = unsafe { command.pre_exec(trace_me) }.spawn()?;
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    wait(pid)?; // stopped behind its exec
    let options = c_long::from(libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_EXITKILL);
    trace(libc::PTRACE_SETOPTIONS, pid, options)?;
    let mut peak = None;
    let mut signal = 0;
    loop {
        trace(libc::PTRACE_CONT, pid, c_long::from(signal))?;
        let (status, _) = wait(pid)?;
        if !libc::WIFSTOPPED(status) {
            return peak.ok_or_else(|| io::Error::other("the process was gone before it could be asked"));
        }
        let exits = status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_EXIT << 8);
        if exits {
            peak = Some(memory_of(child.id())?.peak_bytes);
        }
        signal = if exits { 0 } else { libc::WSTOPSIG(status) };
    }
}

fn trace(request: libc::c_uint, pid: libc::pid_t, data: c_long) -> io::Result<()> {
    // SAFETY: `pid` is a stopped child that this thread traces; both requests take numbers alone.
    match unsafe { libc::ptrace(request, pid, ptr::null::<c_void>(), data) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a running process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now_bytes: u64,
    /// At most so far.
    pub(crate) peak_bytes: u64,
}

/// Asks the kernel.
pub(crate) fn memory_of(pid: u32) -> io::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    let missing = || io::Error::other(format!("/proc/{pid}/status has no memory in it"));
    let now_bytes = field("VmRSS:").ok_or_else(missing)?;
    Ok(Memory { now_bytes, peak_bytes: field("VmHWM:").ok_or_else(missing)? })
}

/// Bytes that this process has from its allocator, as the main thread sees it; where the allocator does not say, what the
/// kernel counts.
pub(crate) fn allocated_bytes() -> io::Result<u64> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes nothing and only reads the allocator's own counts, under its lock.
        let counts = unsafe { libc::mallinfo2() };
        u64::try_from(counts.uordblks + counts.hblkhd).map_err(io::Error::other)
    }
    #[cfg(not(target_env = "gnu"))]
    memory_of(std::process::id()).map(|memory| memory.now_bytes)
}

/// Processor time of a running process and of those of its children that have ended, user and system together. The
/// process' own is exact, its children's to a hundredth of a second.
pub(crate) fn cpu_of(pid: u32) -> io::Result<Duration> {
    let id = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: the place is ours; the number may be any.
    let failed = unsafe { libc::clock_getcpuclockid(id, &raw mut clock) };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is ours and as large as the kernel's struct.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let own =
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything: `cutime` and `cstime` are the 14th and 15th fields from there.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(own + Duration::from_millis(ticks * 10))
}
