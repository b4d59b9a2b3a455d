//! Which words may stand in a message: bytes come in, checked text goes out. The daemon and its clients use
//! the same functions, so that what a client lets through is not refused at the other end.

use crate::{DESTINATION_MAX, FieldTag, ORIGIN_MAX, TAG_MAX, WireError};

/// Whether a character may be shown as it is: no control character, nothing that starts a line or turns the
/// direction of writing.
#[must_use]
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        && !matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A tag: 1 to [`TAG_MAX`] bytes of printable UTF-8.
///
/// # Errors
/// [`WireError::Length`] or [`WireError::Characters`] of [`FieldTag::Tag`].
pub fn check_tag(value: &[u8]) -> Result<&str, WireError> {
    printable(FieldTag::Tag, value, TAG_MAX)
}

/// A repository, branch or commit, whichever `field` says: 1 to [`ORIGIN_MAX`] bytes of printable UTF-8.
///
/// # Errors
/// [`WireError::Length`] or [`WireError::Characters`] of that field.
pub fn check_origin(field: FieldTag, value: &[u8]) -> Result<&str, WireError> {
    printable(field, value, ORIGIN_MAX)
}

/// A destination id: 1 to [`DESTINATION_MAX`] bytes of `A-Z a-z 0-9 . _ -`.
///
/// # Errors
/// [`WireError::Length`] or [`WireError::Characters`] of [`FieldTag::Destination`].
pub fn check_destination(value: &[u8]) -> Result<&str, WireError> {
    let field = FieldTag::Destination;
    length(field, value, DESTINATION_MAX)?;
    if !value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(WireError::Characters(field));
    }
    core::str::from_utf8(value).map_err(|_| WireError::Characters(field))
}

pub(crate) fn length(field: FieldTag, value: &[u8], max: usize) -> Result<(), WireError> {
    if value.is_empty() || value.len() > max {
        return Err(WireError::Length { field, len: value.len() });
    }
    Ok(())
}

fn printable(field: FieldTag, value: &[u8], max: usize) -> Result<&str, WireError> {
    length(field, value, max)?;
    let text = core::str::from_utf8(value).map_err(|_| WireError::Characters(field))?;
    if text.chars().all(is_printable) { Ok(text) } else { Err(WireError::Characters(field)) }
}
