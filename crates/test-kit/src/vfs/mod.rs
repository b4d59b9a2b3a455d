//! A layer between SQLite and the system's files, in this process. In flow SQLite's file operations; they flow
//! on to the real file system after the layer has slowed, refused, counted or recorded them as the test asked.
//!
//! The `-shm` file and locks are passed through: the index in `-shm` is rebuilt after a crash. Reads are
//! passed through as well.

mod ffi;
mod log;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::Recording;
pub use log::{FileId, Log, Op, Recorder};

/// An installed layer. Clones steer the same one. It stays installed until the process ends.
#[derive(Clone, Copy)]
pub struct Shim {
    name: &'static str,
    state: &'static State,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Writes say that the disk is full.
    Full,
    /// Writes say that the disk did not write.
    WriteError,
    /// Flushes say that the disk did not flush; nothing was flushed.
    SyncError,
    /// The process ends at once, as by `kill -9`, before it writes, truncates, flushes or deletes.
    Die,
}

impl Shim {
    /// Registers a layer under a name that no other test of the process uses; give the name to SQLite as its
    /// VFS.
    ///
    /// # Panics
    /// When the name is taken or holds a NUL.
    pub fn install(name: &str) -> Shim {
        let state: &'static State = Box::leak(Box::default());
        Shim { name: ffi::register(name, state), state }
    }

    /// The name it is registered under.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Makes every flush take this much longer; zero ends it.
    pub fn slow_flush(self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).expect("a delay shorter than 500 years");
        self.state.flush_delay_nanos.store(nanos, Relaxed);
    }

    /// Flushes of files asked for so far, failed ones included.
    pub fn flushes(self) -> u64 {
        self.state.flushes.load(Relaxed)
    }

    /// Writes asked for so far, failed ones included.
    pub fn writes(self) -> u64 {
        self.state.writes.load(Relaxed)
    }

    /// Lets `after` more operations of the fault's kind through, then each one fails until [`Shim::heal`].
    /// Replaces an earlier fault.
    pub fn fail(self, fault: Fault, after: u64) {
        *self.state.plan() = Some(FaultPlan { fault, left: after, hits: 0 });
    }

    /// Ends the fault; gives how often it struck.
    pub fn heal(self) -> u64 {
        self.state.plan().take().map_or(0, |plan| plan.hits)
    }

    /// Records from now on; databases are to be opened afterwards.
    pub fn record(self) -> Recorder {
        *self.state.recording() = Some(Recording::default());
        Recorder::new(self)
    }
}

#[derive(Default)]
pub(crate) struct State {
    flush_delay_nanos: AtomicU64,
    flushes: AtomicU64,
    writes: AtomicU64,
    plan: Mutex<Option<FaultPlan>>,
    recording: Mutex<Option<Recording>>,
}

struct FaultPlan {
    fault: Fault,
    left: u64,
    hits: u64,
}

/// The operations a fault can strike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Sync,
    Other,
}

impl State {
    /// Counts and delays an operation, and says whether and how it fails.
    fn before(&self, kind: Kind) -> Option<Fault> {
        match kind {
            Kind::Write => drop(self.writes.fetch_add(1, Relaxed)),
            Kind::Sync => {
                self.flushes.fetch_add(1, Relaxed);
                self.delay();
            }
            Kind::Other => {}
        }
        let mut plan = self.plan();
        let plan = plan.as_mut()?;
        let strikes = match plan.fault {
            Fault::Full | Fault::WriteError => kind == Kind::Write,
            Fault::SyncError => kind == Kind::Sync,
            Fault::Die => true,
        };
        if !strikes {
            return None;
        }
        if plan.left > 0 {
            plan.left -= 1;
            return None;
        }
        plan.hits += 1;
        Some(plan.fault)
    }

    fn delay(&self) {
        let nanos = self.flush_delay_nanos.load(Relaxed);
        if nanos > 0 {
            #[expect(clippy::disallowed_methods, reason = "stands in for a slow disk")]
            std::thread::sleep(Duration::from_nanos(nanos));
        }
    }

    fn plan(&self) -> MutexGuard<'_, Option<FaultPlan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
