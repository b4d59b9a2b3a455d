//! The door to the local Nix. Questions about store paths, wishes for garbage collector roots and commands to run come
//! in; path infos, roots that Nix honours and outcomes go out. Nothing here decides what is pushed where or when.

pub mod collector;
pub mod copy;
pub mod daemon;
pub mod dirs;
pub mod fake;
pub mod gcroots;
pub mod process;
pub mod sqlite;
pub mod store;

pub use dirs::StoreDirs;
pub use fake::FakeStore;
pub use sqlite::SqliteStore;
pub use store::{Filter, PathInfo, Store, StoreError};
