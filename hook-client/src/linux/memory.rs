//! The six functions on memory that compilers call without being asked, and that a C library would bring.
//! Each is written so that the compiler cannot recognise it and make it call itself: by an instruction of the
//! processor, or by reads and writes it may not gather.
#![expect(unsafe_code, reason = "they work on bare pointers, by contract with the compiler")]

/// # Safety
/// As C's `memcpy`: `len` bytes may be read at `from` and written at `to`, and the two do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { copy_up(to, from, len) };
    to
}

/// # Safety
/// As C's `memmove`: `len` bytes may be read at `from` and written at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: `to` begins before `from`, or behind its end, so going up reads each byte before it is
        // overwritten.
        unsafe { copy_up(to, from, len) };
    } else {
        for index in (0..len).rev() {
            // SAFETY: within the caller's `len` bytes; going down reads each byte before it is overwritten.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
        }
    }
    to
}

/// # Safety
/// As C's `memset`: `len` bytes may be written at `to`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let [byte, ..] = byte.to_le_bytes();
    // SAFETY: the caller's promise.
    unsafe { fill(to, byte, len) };
    to
}

/// # Safety
/// As C's `memcmp`: `len` bytes may be read at both.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    for index in 0..len {
        // SAFETY: within the caller's `len` bytes.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As [`memcmp`].
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(left, right, len) }
}

/// # Safety
/// As C's `strlen`: the bytes at `string` may be read up to the first zero.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: no byte behind the first zero is read.
    while unsafe { string.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// # Safety
/// `len` bytes may be read at `from` and written at `to`, and `to` is not inside of the bytes at `from`.
#[cfg(target_arch = "x86_64")]
unsafe fn copy_up(to: *mut u8, from: *const u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear, as the calling convention wants it.
    unsafe {
        core::arch::asm!(
            "rep movsb",
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// `len` bytes may be written at `to`.
#[cfg(target_arch = "x86_64")]
unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear, as the calling convention wants it.
    unsafe {
        core::arch::asm!(
            "rep stosb",
            inout("rcx") len => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// `len` bytes may be read at `from` and written at `to`, and `to` is not inside of the bytes at `from`.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn copy_up(to: *mut u8, from: *const u8, len: usize) {
    for index in 0..len {
        // SAFETY: within the caller's `len` bytes.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
}

/// # Safety
/// `len` bytes may be written at `to`.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    for index in 0..len {
        // SAFETY: within the caller's `len` bytes.
        unsafe { to.add(index).write_volatile(byte) };
    }
}
