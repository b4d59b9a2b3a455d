//! Bodies that come chunk by chunk. In: a source of chunks. Out: the same chunks, counted against what was promised.
//! Leaves out where they come from.

use std::collections::VecDeque;
use std::error::Error;

use bytes::Bytes;

use crate::Work;
use crate::error::{Class, Fault};

/// Why a body cannot go on. It comes back unchanged as the source of the write's error.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// A source of bytes.
pub trait Body: Send {
    /// The next chunk, of any size; `None` at the end. After an error or the end it is not asked again.
    fn next<'a>(&'a mut self) -> Work<'a, Option<Result<Bytes, BodyError>>>;
}

/// How long a body will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodySize {
    /// Exactly so many bytes.
    pub exact: Option<u64>,
    /// No more than so many.
    pub at_most: u64,
}

impl BodySize {
    /// Exactly so many bytes.
    #[must_use]
    pub fn exact(bytes: u64) -> Self {
        Self { exact: Some(bytes), at_most: bytes }
    }

    /// Unknown, but no more than so many bytes.
    #[must_use]
    pub fn at_most(bytes: u64) -> Self {
        Self { exact: None, at_most: bytes }
    }

    fn max(self) -> u64 {
        self.exact.map_or(self.at_most, |exact| exact.min(self.at_most))
    }
}

/// Chunks that are at hand.
#[derive(Debug, Clone, Default)]
pub struct Chunks(VecDeque<Bytes>);

impl Chunks {
    /// In that order.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        Self(chunks.into_iter().collect())
    }
}

impl Body for Chunks {
    fn next<'a>(&'a mut self) -> Work<'a, Option<Result<Bytes, BodyError>>> {
        Box::pin(std::future::ready(self.0.pop_front().map(Ok)))
    }
}

/// A body that gave more or fewer bytes than was said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("the body has more than the {0} bytes it may have")]
    Long(u64),
    #[error("the body ended after {got} of {wanted} bytes")]
    Short { got: u64, wanted: u64 },
}

/// A body under watch: too many bytes, or too few at its end, are an error.
pub(crate) struct Counted<'a> {
    body: &'a mut dyn Body,
    size: BodySize,
    got: u64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(body: &'a mut dyn Body, size: BodySize) -> Self {
        Self { body, size, got: 0 }
    }

    /// Bytes so far.
    pub(crate) fn got(&self) -> u64 {
        self.got
    }

    /// The next chunk, never an empty one.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Some(next) = self.body.next().await else {
                return self.ended().map(|()| None);
            };
            let chunk = next.map_err(|source| Fault::new(Class::Body, source))?;
            if chunk.is_empty() {
                continue;
            }
            self.got = self.got.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if self.got > self.size.max() {
                return Err(Fault::new(Class::Body, SizeError::Long(self.size.max())));
            }
            return Ok(Some(chunk));
        }
    }

    fn ended(&self) -> Result<(), Fault> {
        match self.size.exact {
            Some(wanted) if wanted != self.got => {
                Err(Fault::new(Class::Body, SizeError::Short { got: self.got, wanted }))
            }
            Some(_) | None => Ok(()),
        }
    }
}
