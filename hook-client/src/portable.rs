//! `eka-hook` on the standard library under a name of its own, so that the suite can compare the two.
mod portable_sys;

fn main() -> std::process::ExitCode {
    portable_sys::main()
}
