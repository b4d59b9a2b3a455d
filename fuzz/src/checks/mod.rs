//! What must hold for any bytes whatever, one file per crate or subject and one function per parser. Each function takes the
//! bytes through the door they come by in the programs and panics when the outcome is wrong, not only when the parser
//! falls over. The fuzz targets and the crates' own tests run the same functions.

pub mod answers;
pub mod ci_model;
pub mod eka_hook;
pub mod eka_queue;
pub mod hook_wire;
pub mod nix_caches;
pub mod nix_store;
pub mod nix_types;
pub mod object_kit;
pub mod secrets;
