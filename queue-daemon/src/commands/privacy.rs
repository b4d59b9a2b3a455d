//! Keeps the daemon's memory, where secrets pass through, out of files and of other processes' sight.
//!
//! In flows nothing; out flows a process that writes no core file, and that no other process of its user may read or trace.
//! What the daemon starts is as dumpable as any program once it runs, but inherits that no core file is written.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Why the memory is not private.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}; see whether the service manager forbids it (SystemCallFilter=)")]
pub(super) struct PrivacyError {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// Asks the kernel for it, for the rest of the process' life: the hard limit cannot be raised again.
pub(super) fn keep() -> Result<(), PrivacyError> {
    let failed = |what| move |source: rustix::io::Errno| PrivacyError { what, source: source.into() };
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(failed("forbid core files"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("forbid others to look into our memory"))
}
