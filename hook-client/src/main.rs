//! The program Nix runs. On Linux it stands on bare system calls (`linux/`), elsewhere on the standard
//! library (`portable_sys.rs`); either way all it does is to open the door [`eka_hook::Sys`] and to step
//! through it.
#![cfg_attr(raw_linux, no_std, no_main)]

#[cfg(raw_linux)]
mod linux;

#[cfg(not(raw_linux))]
mod portable_sys;

#[cfg(not(raw_linux))]
fn main() -> std::process::ExitCode {
    portable_sys::main()
}
