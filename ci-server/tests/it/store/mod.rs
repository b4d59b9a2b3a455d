//! The store: one suite that every engine has to pass, and what is SQLite's alone.

mod conformance;
mod crash;
mod full;
mod import;
mod lost;
mod migrate;
mod rows;

use ci_server::store::{SqlitePlace, SqliteStore, Store};
use service_kit::clock::{Clock, ManualClock, Time};
use tempfile::TempDir;

/// 2026-01-31T10:00:00Z
pub(crate) const START_MS: i64 = 1_769_853_600_000;

/// A database of its own, in a folder of its own, by a clock of its own.
pub(crate) struct Sqlite {
    pub(crate) dir: TempDir,
    clock: Clock,
    hand: ManualClock,
}

impl Sqlite {
    pub(crate) fn new() -> Self {
        let (clock, hand) = Clock::manual(Time::from_ms(START_MS));
        Self { dir: tempfile::tempdir().unwrap(), clock, hand }
    }

    pub(crate) fn place(&self) -> SqlitePlace {
        SqlitePlace { path: self.dir.path().join("ci.db"), clock: self.clock.clone(), vfs: None }
    }

    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.place()).unwrap()
    }
}

impl conformance::Engine for Sqlite {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.store())
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn pass(&self, length: std::time::Duration) {
        self.hand.step(length);
    }
}

conformance::suite!(sqlite, crate::store::Sqlite);
