//! Confined children, with a real bubblewrap and a real Nix: what they see, what they may take, and that nothing of them
//! is left. Where bubblewrap is absent or does not work, each test says that it skips and why.

mod daemon;
mod evaluates;
mod holds;
mod hostile;
mod nix;
mod nobody;
mod prepares;
mod sees;
mod strace;
mod support;
mod way_out;
