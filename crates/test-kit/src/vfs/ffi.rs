//! The C side of the layer: a `sqlite3_vfs` whose functions look at the layer's state and then call the
//! system's own VFS. All unsafe code of the fault tools is in this file.
//!
//! What every function relies on: SQLite calls them with pointers to a VFS made by [`register`] and to files
//! opened by [`open`], and not after `close`; both are laid out here and nowhere else.
#![expect(unsafe_code, reason = "SQLite's VFS interface is made of C function pointers")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use libsqlite3_sys as sys;
use sys::{sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::log::{FileId, Op};
use super::{Fault, Kind, State};

/// Files whose first flush also flushes their folder, when opened with CREATE.
const FLUSHES_FOLDER: c_int =
    sys::SQLITE_OPEN_WAL | sys::SQLITE_OPEN_MAIN_JOURNAL | sys::SQLITE_OPEN_SUPER_JOURNAL;

/// What `sqlite3_vfs.pAppData` points to; lives as long as the process.
struct App {
    real: *mut sqlite3_vfs,
    state: &'static State,
}

/// What SQLite allocates for each open file; the real VFS's file follows it in memory.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// From `Box::into_raw`, given back in `close`.
    info: *mut Info,
}

struct Info {
    state: &'static State,
    /// None for temporary files and while nothing is recorded.
    id: Option<FileId>,
    flush_folder: bool,
}

/// Registers the layer above the default VFS.
pub(super) fn register(name: &str, state: &'static State) -> &'static str {
    let c_name = CString::new(name).expect("a VFS name without NUL");
    // SAFETY: the name is a C string; null asks for the default VFS, which lives as long as the process.
    let (taken, real) =
        unsafe { (sys::sqlite3_vfs_find(c_name.as_ptr()), sys::sqlite3_vfs_find(ptr::null())) };
    assert!(taken.is_null(), "a VFS named {name} is registered already");
    assert!(!real.is_null(), "SQLite has a default VFS");
    let app = Box::leak(Box::new(App { real, state }));
    // SAFETY: the default VFS is a valid, fully initialised sqlite3_vfs; copying its fields moves nothing out
    // of it, they are numbers and pointers.
    let mut vfs = unsafe { ptr::read(real) };
    vfs.iVersion = vfs.iVersion.min(2); // version 3 is the system-call table, which is not ours to offer
    vfs.szOsFile += c_int::try_from(size_of::<File>()).expect("a few words");
    vfs.pNext = ptr::null_mut();
    vfs.zName = Box::leak(Box::new(c_name)).as_ptr();
    vfs.pAppData = ptr::from_mut(app).cast();
    vfs.xOpen = Some(open);
    vfs.xDelete = Some(delete);
    vfs.xAccess = Some(access);
    vfs.xFullPathname = Some(full_pathname);
    // The functions taken over unchanged (sleep, randomness, time, dl*) of the system's VFS look neither at
    // their VFS argument's name nor at its application data.
    let vfs = Box::leak(Box::new(vfs));
    // SAFETY: the struct is complete and leaked, so it stays valid for the rest of the process.
    let rc = unsafe { sys::sqlite3_vfs_register(vfs, 0) };
    assert_eq!(rc, sys::SQLITE_OK, "SQLite registers the layer {name}");
    Box::leak(name.to_string().into_boxed_str())
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2, // without xFetch: SQLite then never maps the file, so all writes come through here
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// SAFETY: `vfs` is one made by `register`.
unsafe fn app(vfs: *mut sqlite3_vfs) -> &'static App {
    // SAFETY: register() put a leaked App there.
    unsafe { &*(*vfs).pAppData.cast::<App>() }
}

/// SAFETY: `file` was opened by `open` and is not closed.
unsafe fn info<'a>(file: *mut sqlite3_file) -> &'a mut Info {
    // SAFETY: open() put a boxed Info there; SQLite does not use one file from two threads at once.
    unsafe { &mut *(*file.cast::<File>()).info }
}

/// The system's file behind ours. SAFETY: `file` points to `szOsFile` bytes of ours.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite allocated size_of::<File>() bytes and after them the real VFS's size.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// Calls a method of the system's file. SAFETY: as `real`, and the file is open.
macro_rules! forward {
    ($file:expr, $method:ident $(, $arg:expr)*) => {{
        // SAFETY: the file is open, so the real one has its methods; the arguments are SQLite's own.
        unsafe {
            let real = real($file);
            let method = (*(*real).pMethods).$method.expect("the system's VFS has all methods of version 2");
            method(real $(, $arg)*)
        }
    }};
}

/// SAFETY: `name` is null or a C string.
unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, so a C string by the promise above.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes();
    Some(Path::new(OsStr::from_bytes(bytes)).to_path_buf())
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's arguments, see the head of this file.
    let (app, inner, path) = unsafe { (app(vfs), real(file), path_of(name)) };
    let mut recording = app.state.recording();
    // Before the file may be created: afterwards one could not tell.
    let before = match (&path, recording.as_ref()) {
        (Some(path), Some(recording)) if recording.knows(path) => path.exists().then(Vec::new),
        (Some(path), Some(_)) => std::fs::read(path).ok(),
        _ => None,
    };
    // SAFETY: the real VFS gets its own struct, the memory behind ours, and SQLite's other arguments.
    let rc = unsafe {
        (*file).pMethods = ptr::null();
        (*inner).pMethods = ptr::null();
        let xopen = (*app.real).xOpen.expect("every VFS opens files");
        xopen(app.real, name, inner, flags, out_flags)
    };
    if rc != sys::SQLITE_OK {
        // SAFETY: a failed open may leave methods behind, and then wants to be closed.
        unsafe {
            if let Some(methods) = (*inner).pMethods.as_ref() {
                (methods.xClose.expect("every file closes"))(inner);
            }
        }
        return rc;
    }
    let id = match (&path, recording.as_mut()) {
        (Some(path), Some(recording)) => Some(recording.opened(path, before)),
        _ => None,
    };
    let flush_folder = flags & sys::SQLITE_OPEN_CREATE != 0 && flags & FLUSHES_FOLDER != 0;
    let info = Box::into_raw(Box::new(Info { state: app.state, id, flush_folder }));
    // SAFETY: SQLite allocated our File; only now, complete, does it get methods.
    unsafe {
        (*file.cast::<File>()).info = info;
        (*file).pMethods = &raw const METHODS;
    }
    sys::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let rc = forward!(file, xClose);
    // SAFETY: from Box::into_raw in open(); SQLite closes a file once.
    drop(unsafe { Box::from_raw((*file.cast::<File>()).info) });
    rc
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    data: *const c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: an open file of ours.
    let info = unsafe { info(file) };
    if let Some(fault) = info.state.before(Kind::Write) {
        return fault_code(fault);
    }
    let mut recording = info.state.recording();
    let rc = forward!(file, xWrite, data, len, offset);
    if let (sys::SQLITE_OK, Some(recording), Some(file)) = (rc, recording.as_mut(), info.id) {
        let len = usize::try_from(len).expect("SQLite writes a positive number of bytes");
        // SAFETY: SQLite promises that `data` holds `len` bytes.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        let offset = u64::try_from(offset).expect("SQLite writes at a positive offset");
        recording.push(Op::Write { file, offset, data: data.into() });
    }
    rc
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    // SAFETY: an open file of ours.
    let info = unsafe { info(file) };
    if let Some(fault) = info.state.before(Kind::Other) {
        return fault_code(fault);
    }
    let mut recording = info.state.recording();
    let rc = forward!(file, xTruncate, len);
    if let (sys::SQLITE_OK, Some(recording), Some(file)) = (rc, recording.as_mut(), info.id) {
        let len = u64::try_from(len).expect("SQLite truncates to a positive length");
        recording.push(Op::Truncate { file, len });
    }
    rc
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: an open file of ours.
    let info = unsafe { info(file) };
    if let Some(fault) = info.state.before(Kind::Sync) {
        return fault_code(fault);
    }
    let mut recording = info.state.recording();
    let rc = forward!(file, xSync, flags);
    if let (sys::SQLITE_OK, Some(recording), Some(file)) = (rc, recording.as_mut(), info.id) {
        let folder = std::mem::take(&mut info.flush_folder);
        recording.push(Op::Sync { file, folder });
    }
    rc
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, flush_folder: c_int) -> c_int {
    // SAFETY: SQLite's arguments, see the head of this file.
    let (app, path) = unsafe { (app(vfs), path_of(name)) };
    if let Some(fault) = app.state.before(Kind::Other) {
        return fault_code(fault);
    }
    let mut recording = app.state.recording();
    // SAFETY: the real VFS gets its own struct and SQLite's other arguments.
    let rc = unsafe {
        let xdelete = (*app.real).xDelete.expect("every VFS deletes files");
        xdelete(app.real, name, flush_folder)
    };
    if let (sys::SQLITE_OK, Some(recording), Some(path)) = (rc, recording.as_mut(), path) {
        recording.deleted(&path, flush_folder != 0);
    }
    rc
}

fn fault_code(fault: Fault) -> c_int {
    match fault {
        Fault::Full => sys::SQLITE_FULL,
        Fault::WriteError => sys::SQLITE_IOERR_WRITE,
        Fault::SyncError => sys::SQLITE_IOERR_FSYNC,
        Fault::Die => {
            // SAFETY: both calls take and give plain numbers.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            std::process::abort() // not reached: nobody survives the signal
        }
    }
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's arguments; the real VFS gets its own struct.
    unsafe {
        let real = app(vfs).real;
        ((*real).xAccess.expect("every VFS looks for files"))(real, name, flags, out)
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's arguments; the real VFS gets its own struct.
    unsafe {
        let real = app(vfs).real;
        ((*real).xFullPathname.expect("every VFS completes paths"))(real, name, len, out)
    }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    out: *mut c_void,
    len: c_int,
    offset: sqlite3_int64,
) -> c_int {
    forward!(file, xRead, out, len, offset)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    forward!(file, xFileSize, out)
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    forward!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    forward!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    forward!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    forward!(file, xFileControl, op, arg)
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    forward!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    forward!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    forward!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    forward!(file, xShmLock, offset, n, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    forward!(file, xShmBarrier);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    forward!(file, xShmUnmap, delete)
}
