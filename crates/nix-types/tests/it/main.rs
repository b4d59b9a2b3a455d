//! The crate's readers on text from outside, through its public door.

mod fuzz;
