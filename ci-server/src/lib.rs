//! The CI as a library: `ekaci run` uses it with no server. `ci_model::flow` tells what its stages hand on; each stage
//! is a folder here, and `pipeline.rs` is the only file that knows them all.

pub mod checkout;
pub mod drvs;
pub mod evaluate;
pub mod pipeline;
pub mod sandbox;
pub mod store;
