//! What every long-running program of this workspace needs and none should write twice: the clock, the
//! configuration reader, supervised tasks with a shutdown, the service manager's protocol, log start-up, the
//! lock of a state folder, the type that keeps a secret from being printed, what takes secrets out of text, the chain
//! of an audit log, whose an IP address is, (feature `command-line`) completions and man pages, and (feature `http`) the builder of HTTP
//! clients. Knows nothing of queues,
//! caches or forges, and of our crates it needs only the one that says which key a mistyped one may be.

pub mod address;
pub mod audit;
pub mod backoff;
pub mod clock;
pub mod config;
#[cfg(feature = "command-line")]
pub mod describe;
#[cfg(feature = "http")]
pub mod http;
pub mod lock;
pub mod notify;
pub mod redact;
pub mod secret;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod text;
