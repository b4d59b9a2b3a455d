//! The daemon's one answer: its fields come in and a frame goes out, or a payload comes in and a view goes
//! out.

use crate::field::{Once, exactly, one_of};
use crate::{
    FIELD_HEADER_LEN, FieldTag, Fields, FrameWriter, Full, HEADER_LEN, Kind, Status, TEXT_MAX, WireError,
};

/// Most bytes of an acknowledgement's frame.
pub const ACK_MAX: usize = HEADER_LEN + 4 * FIELD_HEADER_LEN + 1 + 4 + 4 + TEXT_MAX;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The outcome.
    pub status: Status,
    /// How many paths (or derivations) were taken.
    pub accepted: u32,
    /// How many were refused.
    pub refused: u32,
    /// Words for a person, possibly empty, at most [`TEXT_MAX`] bytes. Whoever shows it makes it printable.
    pub text: &'a str,
}

impl<'a> Ack<'a> {
    /// Reads the payload of a [`Kind::Ack`] frame. `Status`, `Accepted` and `RefusedCount` are needed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut status = Once::new(FieldTag::Status);
        let mut accepted = Once::new(FieldTag::Accepted);
        let mut refused = Once::new(FieldTag::RefusedCount);
        let mut text = Once::new(FieldTag::Text);
        for field in Fields::new(payload) {
            let (tag, value) = field?;
            match tag {
                FieldTag::Status => status.put(one_of(tag, value, Status::from_number)?)?,
                FieldTag::Accepted => accepted.put(u32::from_le_bytes(exactly(tag, value)?))?,
                FieldTag::RefusedCount => refused.put(u32::from_le_bytes(exactly(tag, value)?))?,
                FieldTag::Text if value.len() > TEXT_MAX => {
                    return Err(WireError::Length { field: tag, len: value.len() });
                }
                FieldTag::Text => {
                    text.put(core::str::from_utf8(value).map_err(|_| WireError::Characters(tag))?)?;
                }
                _ => return Err(WireError::Misplaced(tag)),
            }
        }
        Ok(Self {
            status: status.required()?,
            accepted: accepted.required()?,
            refused: refused.required()?,
            text: text.optional().unwrap_or(""),
        })
    }

    /// Writes the whole frame into `buffer`; [`ACK_MAX`] bytes are always enough. A text above [`TEXT_MAX`]
    /// bytes is cut between two characters.
    ///
    /// # Errors
    /// [`Full`] when the buffer is too short.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Full> {
        let mut frame = FrameWriter::new(buffer, Kind::Ack);
        frame.field(FieldTag::Status, &[self.status.number()])?;
        frame.field(FieldTag::Accepted, &self.accepted.to_le_bytes())?;
        frame.field(FieldTag::RefusedCount, &self.refused.to_le_bytes())?;
        let text = &self.text[..self.text.floor_char_boundary(TEXT_MAX)];
        if !text.is_empty() {
            frame.field(FieldTag::Text, text.as_bytes())?;
        }
        Ok(frame.finish())
    }
}
