//! Why bytes are not a message. Every way to be wrong is a variant of its own, so that a daemon can count
//! them and a test can name them; nothing here is about the world behind the bytes.

use core::fmt;

use crate::{FRAME_MAX, FieldTag, Kind, SPOOL_FILE_MAX, VERSION};

/// The bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes do not begin with `EKAQ`.
    Magic,
    /// Another version than ours.
    Version(u16),
    /// A kind nobody defined.
    Kind(u16),
    /// A known kind that is not expected here.
    UnexpectedKind(Kind),
    /// The frame is longer than its carrier allows.
    TooLong {
        /// Length of the whole frame in bytes.
        frame: u64,
        /// What the carrier takes.
        max: usize,
    },
    /// Fewer bytes than the header or a field announces.
    Truncated,
    /// More bytes than the header announces.
    Trailing(usize),
    /// A field nobody defined.
    UnknownField(u8),
    /// A known field that this kind of message does not have.
    Misplaced(FieldTag),
    /// A field that may be there once is there twice.
    Repeated(FieldTag),
    /// A field that must be there is not.
    Missing(FieldTag),
    /// A value has a length its field cannot have.
    Length {
        /// The field.
        field: FieldTag,
        /// Bytes it has.
        len: usize,
    },
    /// A number outside of its field's set.
    Number {
        /// The field.
        field: FieldTag,
        /// The number.
        number: u8,
    },
    /// A value is not UTF-8, or has characters its field does not allow.
    Characters(FieldTag),
    /// More repeated fields than allowed.
    TooMany {
        /// The field.
        field: FieldTag,
        /// The bound.
        max: usize,
    },
    /// An enqueue that names neither a path nor a derivation, or a claim without a derivation.
    Nothing,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic => f.write_str("not a message for eka-queue: the first four bytes are not EKAQ"),
            Self::Version(version) => write!(
                f,
                "protocol version {version}, but this side speaks version {VERSION}: \
                 install eka-hook and eka-queue from the same release"
            ),
            Self::Kind(kind) => write!(f, "unknown message kind {kind}"),
            Self::UnexpectedKind(kind) => write!(f, "a message of kind {kind:?} is not expected here"),
            Self::TooLong { frame, max } => write!(
                f,
                "a message of {frame} bytes, where {max} is the most \
                 (socket {FRAME_MAX}, spool file {SPOOL_FILE_MAX})"
            ),
            Self::Truncated => f.write_str("the message ends too early"),
            Self::Trailing(bytes) => write!(f, "{bytes} bytes follow the end of the message"),
            Self::UnknownField(tag) => write!(f, "unknown field {tag}"),
            Self::Misplaced(field) => write!(f, "this kind of message has no field {field:?}"),
            Self::Repeated(field) => write!(f, "field {field:?} is given twice"),
            Self::Missing(field) => write!(f, "field {field:?} is missing"),
            Self::Length { field, len } => write!(f, "field {field:?} cannot have {len} bytes"),
            Self::Number { field, number } => write!(f, "field {field:?} cannot be {number}"),
            Self::Characters(field) => write!(f, "field {field:?} has characters that are not allowed in it"),
            Self::TooMany { field, max } => write!(f, "more than {max} fields {field:?}"),
            Self::Nothing => f.write_str("the message names no store path and no derivation"),
        }
    }
}

impl core::error::Error for WireError {}

/// The buffer under a [`crate::FrameWriter`] has no room for the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not fit its buffer")
    }
}

impl core::error::Error for Full {}
