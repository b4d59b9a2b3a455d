//! Bad days of a whole `ekaci run`: the real program over a real git and a real Nix, in a place of its own. It is killed,
//! interrupted, run several times at once, and its disks, folders and programs fail it. Whatever happens, nothing of it
//! goes on or grows, and the next run says what a run on a good day says.

mod broken;
mod full;
mod killed;
mod signals;
mod together;
mod world;
