//! The outer layer: a header of twelve bytes in front of a payload. Bytes come in, a checked [`Header`] goes
//! out; or fields come in, a finished frame goes out. What the fields mean is not known here.

use crate::{FieldTag, Full, Kind, SPOOL_FILE_MAX, WireError};

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"EKAQ";
/// The only version there is.
pub const VERSION: u16 = 1;
/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 12;
/// Bytes in front of a field's value: tag and length.
pub const FIELD_HEADER_LEN: usize = 5;

/// The first twelve bytes of a frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame says.
    pub kind: Kind,
    /// Bytes that follow the header.
    pub payload_len: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// Fewer than [`HEADER_LEN`] bytes, wrong magic, version or kind, or a frame above [`SPOOL_FILE_MAX`]. A
    /// socket's reader goes on with [`Header::within`]`(FRAME_MAX)`.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(WireError::Truncated)?;
        let [m0, m1, m2, m3, v0, v1, k0, k1, l0, l1, l2, l3] = *header;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(WireError::Magic);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let kind = u16::from_le_bytes([k0, k1]);
        let kind = Kind::from_number(kind).ok_or(WireError::Kind(kind))?;
        Self { kind, payload_len: u32::from_le_bytes([l0, l1, l2, l3]) }.within(SPOOL_FILE_MAX)
    }

    /// The same header, if the whole frame has at most `max` bytes.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn within(self, max: usize) -> Result<Self, WireError> {
        let frame = u64::from(self.payload_len) + HEADER_LEN as u64;
        if frame > max as u64 { Err(WireError::TooLong { frame, max }) } else { Ok(self) }
    }

    /// Bytes of the whole frame, this header included.
    #[must_use]
    pub const fn frame_len(self) -> usize {
        self.payload_len as usize + HEADER_LEN
    }

    /// The twelve bytes.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [v0, v1] = VERSION.to_le_bytes();
        let [k0, k1] = self.kind.number().to_le_bytes();
        let [l0, l1, l2, l3] = self.payload_len.to_le_bytes();
        [m0, m1, m2, m3, v0, v1, k0, k1, l0, l1, l2, l3]
    }
}

/// Takes apart bytes that should be exactly one frame (a spool file): its kind and its payload.
///
/// # Errors
/// As [`Header::parse`], and [`WireError::Truncated`] or [`WireError::Trailing`] when the length is not the
/// announced one.
pub fn split_frame(bytes: &[u8]) -> Result<(Kind, &[u8]), WireError> {
    let header = Header::parse(bytes)?;
    match bytes.get(HEADER_LEN..header.frame_len()) {
        None => Err(WireError::Truncated),
        Some(_) if bytes.len() > header.frame_len() => {
            Err(WireError::Trailing(bytes.len() - header.frame_len()))
        }
        Some(payload) => Ok((header.kind, payload)),
    }
}

/// The bytes in front of a value of `len` bytes, for those who stream a frame instead of building it in
/// memory.
#[must_use]
pub const fn field_header(tag: FieldTag, len: u32) -> [u8; FIELD_HEADER_LEN] {
    let [l0, l1, l2, l3] = len.to_le_bytes();
    [tag.number(), l0, l1, l2, l3]
}

/// Builds one frame in a caller's buffer.
///
/// ```
/// use hook_wire::{FieldTag, FrameWriter, Kind, Source};
/// let mut buffer = [0; 256];
/// let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
/// frame.field(FieldTag::Key, &[7; 16])?;
/// frame.field(FieldTag::Source, &[Source::Cli.number()])?;
/// frame.field(FieldTag::MadeMs, &1_700_000_000_000_u64.to_le_bytes())?;
/// frame.field(FieldTag::Path, b"/nix/store/00000000000000000000000000000000-hello")?;
/// assert_eq!(frame.finish().len(), 12 + 21 + 6 + 13 + 54);
/// # Ok::<(), hook_wire::Full>(())
/// ```
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buffer: &'a mut [u8],
    len: usize,
    kind: Kind,
}

impl<'a> FrameWriter<'a> {
    /// Starts a frame of this kind. Bytes already in the buffer do not matter. A buffer shorter than
    /// [`HEADER_LEN`] takes no field and finishes as no bytes at all.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], kind: Kind) -> Self {
        Self { buffer, len: HEADER_LEN, kind }
    }

    /// Adds one field.
    ///
    /// # Errors
    /// [`Full`] when the rest of the buffer is too short; the frame is then as it was before the call.
    pub fn field(&mut self, tag: FieldTag, value: &[u8]) -> Result<(), Full> {
        let value_len = u32::try_from(value.len()).map_err(|_| Full)?;
        let start = self.len + FIELD_HEADER_LEN;
        let end = start.checked_add(value.len()).ok_or(Full)?;
        let room = self.buffer.get_mut(self.len..end).ok_or(Full)?;
        if end > SPOOL_FILE_MAX {
            return Err(Full);
        }
        let (head, body) = room.split_at_mut(FIELD_HEADER_LEN);
        head.copy_from_slice(&field_header(tag, value_len));
        body.copy_from_slice(value);
        self.len = end;
        Ok(())
    }

    /// Bytes of the frame so far, header included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the frame has no field yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == HEADER_LEN
    }

    /// The finished frame.
    #[must_use]
    pub fn finish(self) -> &'a [u8] {
        // `field` keeps the frame within SPOOL_FILE_MAX, far below u32::MAX.
        let payload_len = u32::try_from(self.len - HEADER_LEN).unwrap_or(u32::MAX);
        let header = Header { kind: self.kind, payload_len }.encode();
        match self.buffer.get_mut(..self.len) {
            None => &[],
            Some(frame) => {
                frame[..HEADER_LEN].copy_from_slice(&header);
                frame
            }
        }
    }
}
