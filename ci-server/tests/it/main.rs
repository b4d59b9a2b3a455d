//! The CI's stages, seen through their doors: real git, a real Nix in private stores, the real database.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

mod checkout;
mod drvs;
mod evaluate;
mod pipeline;
mod sandbox;
mod store;
