//! The way in: frames from the enqueue socket, files of the spool, pushes from the control socket.
//!
//! In flow bytes from outside; out flow committed requests and one answer each. `parse` is the door where bytes
//! become types, `admit` the only way to deliveries (`prepare` asks the store, `commit` writes), `socket` and `spool`
//! the two ways to it.

pub(crate) mod admit;
mod commit;
pub(crate) mod parse;
mod prepare;
pub(crate) mod socket;
pub(crate) mod spool;
