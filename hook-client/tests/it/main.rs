//! The hook as its users meet it: both programs, started as processes, against a small server, a spool, and
//! the faults of the world; and the library alone on a scripted system, where each call can fail in turn.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod alone;
mod answers;
mod faults;
mod fuzz;
mod harness;
mod hydra;
mod inputs;
mod scripted;
mod server;
mod settings;
mod texts;

/// Makes a test for each of the two programs out of `fn name(program: Program)`.
macro_rules! on_both {
    ($($name:ident)+) => { $(
        mod $name {
            #[test]
            fn raw() {
                super::$name(crate::harness::Program::Raw);
            }

            #[test]
            fn portable() {
                super::$name(crate::harness::Program::Portable);
            }
        }
    )+ };
}
pub(crate) use on_both;
