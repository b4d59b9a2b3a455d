//! Where credentials come from. In: `credentials = { … }` of the configuration, as a checked [`Source`]. Out: names and
//! secret values, read afresh by a [`Reader`] after a short time, or an error that names source, place and remedy and
//! never a secret. Knows ten sources; leaves out who uses what they give, and for what.

mod aws;
mod check;
mod error;
mod file;
mod github_app;
mod local;
mod metadata;
mod parse;
mod reader;
mod source;
mod take;
mod values;
mod vault;

pub use check::Finding;
pub use error::{Class, SecretError};
pub use file::CONTENT_MAX;
pub use github_app::AppKey;
pub use object_kit::aws::{Lookup, Runner};
pub use parse::{NAMES_MAX, ParseError, parse, parse_or_raw};
pub use reader::{KEPT, Means, READ_MAX, Reader};
pub use service_kit::redact::{PATTERN_MIN, Redactor};
pub use service_kit::secret::Secret;
pub use source::{Cloud, ManagedSecret, Source, VaultSecret, VaultToken};
pub use take::{Owner, take};
pub use values::Values;
