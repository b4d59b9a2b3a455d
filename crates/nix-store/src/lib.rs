//! The door to the local Nix. Questions about store paths, wishes for garbage collector roots and commands to run come
//! in; path infos, roots that Nix honours and outcomes go out. Nothing here decides what is pushed where or when.

pub mod collector;
pub mod copy;
pub mod daemon;
pub mod dirs;
mod drv_file;
pub mod fake;
pub mod gcroots;
pub mod local;
pub mod log;
pub mod nar;
mod order;
pub mod process;
pub mod remote;
pub mod sqlite;
pub mod store;
mod wire;
pub mod worker;

pub use dirs::StoreDirs;
pub use fake::FakeStore;
pub use local::LocalStore;
pub use sqlite::SqliteStore;
pub use store::{Filter, PathInfo, Realisation, Store, StoreError};
pub use worker::WorkerStore;
