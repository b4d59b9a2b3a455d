//! What programs say to `eka-queue`, as bytes. In flow borrowed bytes from a socket or a spool file, out flow
//! typed views of them ([`Enqueue`], [`Claim`], [`Unclaim`], [`Ack`]); and the other way round, fields flow
//! into a caller's buffer and a finished frame flows out ([`FrameWriter`]). No allocation, no IO, no clock,
//! and no opinion on which store paths exist: [`shape`] knows only how one looks.
//!
//! ```text
//! frame   = "EKAQ" version:u16 kind:u16 payload_len:u32 payload        (numbers little endian)
//! payload = field*          field = tag:u8 len:u32 value
//! ```
//!
//! A socket carries frames of at most [`FRAME_MAX`] bytes, one request and one [`Ack`] per connection. A
//! spool file is exactly one [`Kind::Enqueue`] frame of at most [`SPOOL_FILE_MAX`] bytes. The format only
//! ever grows by a new version number: a reader refuses what it does not know.
#![no_std]
#![forbid(unsafe_code)]

mod ack;
mod error;
mod field;
mod frame;
mod request;
pub mod shape;
mod text;
mod vocabulary;

pub use ack::{ACK_MAX, Ack};
pub use error::{Full, WireError};
pub use field::{Fields, Values};
pub use frame::{
    FIELD_HEADER_LEN, FrameWriter, HEADER_LEN, Header, MAGIC, VERSION, field_header, split_frame,
};
pub use request::{Claim, Enqueue, Unclaim};
pub use shape::split_out_paths;
pub use text::{check_destination, check_origin, check_tag, is_printable};
pub use vocabulary::{FieldTag, Kind, Source, Status, Trust};

/// Most bytes of one frame on a socket, header included.
pub const FRAME_MAX: usize = 65_536;
/// Most bytes of one spool file (one frame, header included).
pub const SPOOL_FILE_MAX: usize = 64 << 20;
/// Most store paths in one request.
pub const PATHS_MAX: usize = 1_000_000;
/// Most derivations in one claim.
pub const DRVS_MAX: usize = 1_000_000;
/// Most destinations in one request.
pub const DESTINATIONS_MAX: usize = 64;
/// Most bytes of one store path or derivation path.
pub const PATH_MAX: usize = 4096;
/// Most bytes of a tag.
pub const TAG_MAX: usize = 256;
/// Most bytes of a destination id.
pub const DESTINATION_MAX: usize = 128;
/// Most bytes of a repository, a branch or a commit.
pub const ORIGIN_MAX: usize = 1024;
/// Most bytes of the text in an acknowledgement.
pub const TEXT_MAX: usize = 4096;
/// Bytes of an idempotency key.
pub const KEY_LEN: usize = 16;
