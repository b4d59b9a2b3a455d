//! How much memory the C library's allocator keeps for itself. It makes a pool for each thread that asks, up to eight
//! per processor, and a pool keeps what was freed in it: with threads that come and go, archives on their way would
//! cost several times what they hold. Two pools are as fast here, for compressing asks for little.

/// Sets the bound. To be called before other threads are started.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library takes its settings by a call alone")]
pub(crate) fn bound() {
    // SAFETY: it sets a number in the C library and touches no memory of ours; no other thread exists yet.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) }; // without it more memory is used, and nothing is wrong
}

/// Other C libraries keep one pool.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn bound() {}
