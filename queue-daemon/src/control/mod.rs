//! Inspection and steering over the control socket.
//!
//! In flows one JSON request per connection; out flow JSON lines, the last of which says how it ended. `protocol`
//! has the types both sides share, `server` answers them inside the daemon, `client` is what the subcommands use.

mod audit;
mod backup;
pub mod client;
pub(crate) mod metrics_port;
pub mod protocol;
mod push;
pub(crate) mod server;
mod status;
mod verify;
mod wait;
mod watch;
