//! The crate through its public doors, with real files, processes, signals and sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test, as the tests themselves do")]

mod children;
mod config_documents;
mod config_sections;
mod locking;
mod service_manager;
mod signals;
