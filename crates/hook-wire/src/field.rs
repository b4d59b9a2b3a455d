//! The inner layer: a payload comes in, its fields come out in order. What a kind of message demands of its
//! fields is decided one level up.

use crate::{FIELD_HEADER_LEN, FieldTag, WireError};

/// The fields of a payload, in order; ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of this payload (the bytes after a frame's header).
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    fn step(&mut self) -> Result<(FieldTag, &'a [u8]), WireError> {
        let (head, body) = self.rest.split_first_chunk::<FIELD_HEADER_LEN>().ok_or(WireError::Truncated)?;
        let [tag, l0, l1, l2, l3] = *head;
        let tag = FieldTag::from_number(tag).ok_or(WireError::UnknownField(tag))?;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| WireError::Truncated)?;
        let (value, rest) = body.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok((tag, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(FieldTag, &'a [u8]), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

impl core::iter::FusedIterator for Fields<'_> {}

/// The values of one repeated field of a message that was parsed before.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    fields: Fields<'a>,
    tag: FieldTag,
}

impl<'a> Values<'a> {
    pub(crate) const fn new(payload: &'a [u8], tag: FieldTag) -> Self {
        Self { fields: Fields::new(payload), tag }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        // The payload was parsed when the view was made, so no item is an error.
        self.fields.by_ref().flatten().find(|(tag, _)| *tag == self.tag).map(|(_, value)| value)
    }
}

/// A field that may be there once.
#[derive(Clone, Copy)]
pub(crate) struct Once<T> {
    tag: FieldTag,
    value: Option<T>,
}

impl<T> Once<T> {
    pub(crate) const fn new(tag: FieldTag) -> Self {
        Self { tag, value: None }
    }

    pub(crate) fn put(&mut self, value: T) -> Result<(), WireError> {
        match self.value.replace(value) {
            None => Ok(()),
            Some(_) => Err(WireError::Repeated(self.tag)),
        }
    }

    pub(crate) fn optional(self) -> Option<T> {
        self.value
    }

    pub(crate) fn required(self) -> Result<T, WireError> {
        self.value.ok_or(WireError::Missing(self.tag))
    }
}

/// A field that may be there many times.
#[derive(Clone, Copy)]
pub(crate) struct Counted {
    tag: FieldTag,
    max: usize,
    pub(crate) count: usize,
}

impl Counted {
    pub(crate) const fn new(tag: FieldTag, max: usize) -> Self {
        Self { tag, max, count: 0 }
    }

    pub(crate) fn one_more(&mut self) -> Result<(), WireError> {
        self.count += 1;
        match (self.count <= self.max, self.max) {
            (true, _) => Ok(()),
            (false, 1) => Err(WireError::Repeated(self.tag)),
            (false, max) => Err(WireError::TooMany { field: self.tag, max }),
        }
    }
}

/// A value of exactly `N` bytes.
pub(crate) fn exactly<const N: usize>(field: FieldTag, value: &[u8]) -> Result<[u8; N], WireError> {
    value.try_into().map_err(|_| WireError::Length { field, len: value.len() })
}

/// A one-byte value out of a closed set.
pub(crate) fn one_of<T>(field: FieldTag, value: &[u8], from: fn(u8) -> Option<T>) -> Result<T, WireError> {
    let [number] = exactly::<1>(field, value)?;
    from(number).ok_or(WireError::Number { field, number })
}
