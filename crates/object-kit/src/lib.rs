//! A flat set of objects in a folder, behind an HTTP server, or in an S3 bucket. In: keys, bodies, where and as whom.
//! Out: objects that are there whole or not at all, and errors that say what to do about them. Knows nothing of Nix,
//! of queues, or of what is in an object.
//!
//! [`File`], [`Http`] and [`S3`] are the places; all of them are [`Objects`]. [`ask`] is for services that are none.

mod api;
pub mod ask;
mod asked;
pub mod aws;
mod body;
mod call;
mod date;
mod error;
mod file;
mod http;
mod key;
pub mod netrc;
mod retry;
mod s3;
mod throttle;
pub mod xml;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

pub use api::{Api, Call, Sending};
pub use asked::{Asked, Login, Teller};
pub use body::{Body, BodyError, BodySize, Chunks};
pub use call::Line;
pub use date::{DateError, parse_http_date};
pub use error::{Class, ObjectError, chain};
pub use file::{File, Swept, Threads};
pub use http::{Auth, Http, HttpSettings};
pub use key::KEY_MAX;
pub use retry::Waits;
pub use s3::{Addressing, MIN_PART, S3, S3Settings, SweptUploads, part_bytes};
pub use service_kit::secret::Secret;
pub use throttle::Throttle;

/// A future of a place. It may be dropped at any time: what was not finished then is not visible.
pub type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Told how many more bytes of a body have left. Bytes that leave twice, in a repeated request, are told twice.
pub type Moved = Arc<dyn Fn(u64) + Send + Sync>;

/// Of many objects so many are under way at once.
const AT_ONCE: usize = 32;

/// A set of objects. Keys are relative paths of at most [`KEY_MAX`] bytes such as `nar/x.nar`.
pub trait Objects: Send + Sync {
    /// A whole small object, read past caches; `None` when it is not there.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Server`] when it has more than `bytes_max` bytes.
    fn get<'a>(&'a self, key: &'a str, bytes_max: usize) -> Work<'a, Result<Option<Found>, ObjectError>>;

    /// Whether an object is there, asked past caches.
    ///
    /// # Errors
    /// [`ObjectError`]
    fn head<'a>(&'a self, key: &'a str) -> Work<'a, Result<Option<Head>, ObjectError>>;

    /// Writes an object whose bytes are at hand. Repeats the request where that can help.
    ///
    /// # Errors
    /// [`ObjectError`]
    fn put<'a>(&'a self, key: &'a str, body: Bytes, meta: &'a Meta) -> Work<'a, Result<Put, ObjectError>>;

    /// Writes an object whose bytes come chunk by chunk. Nothing becomes visible when the body ends in an error, is
    /// longer or shorter than it should be, or the future is dropped.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Body`] with the body's own error as its source.
    fn put_stream<'a>(
        &'a self,
        key: &'a str,
        body: &'a mut dyn Body,
        meta: &'a Meta,
        size: BodySize,
    ) -> Work<'a, Result<Put, ObjectError>>;

    /// Some of the keys without a slash, in their order. `cursor` is [`Page::next`] of the page before. `None` when
    /// the place cannot list.
    ///
    /// # Errors
    /// [`ObjectError`]
    fn list<'a>(
        &'a self,
        cursor: Option<&'a str>,
        keys_max: usize,
    ) -> Work<'a, Result<Option<Page>, ObjectError>>;

    /// Removes an object; it is no error when it is not there.
    ///
    /// # Errors
    /// [`ObjectError`]
    fn delete<'a>(&'a self, key: &'a str) -> Work<'a, Result<(), ObjectError>>;

    /// Whether the place has answered that something may not be read, which was taken for absent.
    fn is_forbidding(&self) -> bool {
        false
    }

    /// Whether objects are files of this machine: what was put becomes visible in the order of the puts.
    fn is_local(&self) -> bool {
        false
    }

    /// [`Objects::get`] for many keys: one answer for each, in their order. Several are under way at once, or all of them
    /// are read in one go where that costs less. A place that cannot be reached or stands still is not asked for the
    /// rest: that answer is the last one then.
    fn get_all<'a>(
        &'a self,
        keys: &'a [String],
        bytes_max: usize,
    ) -> Work<'a, Vec<Result<Option<Found>, ObjectError>>> {
        let gets: Vec<_> = keys.iter().map(|key| self.get(key, bytes_max)).collect();
        Box::pin(async move {
            let (mut all, mut gets) = (Vec::with_capacity(keys.len()), stream::iter(gets).buffered(AT_ONCE));
            while let Some(got) = gets.next().await {
                let is_last =
                    matches!(&got, Err(error) if matches!(error.class, Class::Unreachable | Class::Stuck));
                all.push(got);
                if is_last {
                    break;
                }
            }
            all
        })
    }

    /// [`Objects::put`] for many objects: one result for each, in their order. Several are under way at once; in a
    /// [`File`] one after the other, and it ends behind the first that fails or met another ([`Outcome::Existed`]), so
    /// that there may be fewer results than objects.
    fn put_all<'a>(&'a self, objects: &'a [NewObject]) -> Work<'a, Vec<Result<Put, ObjectError>>> {
        let puts: Vec<_> =
            objects.iter().map(|object| self.put(&object.key, object.body.clone(), &object.meta)).collect();
        Box::pin(stream::iter(puts).buffered(AT_ONCE).collect())
    }

    /// Makes everything put so far visible and durable. A [`File`] flushes here; the others have nothing to do.
    ///
    /// # Errors
    /// [`ObjectError`]: what was put since the last time has to be put again.
    fn settle<'a>(&'a self) -> Work<'a, Result<(), ObjectError>>;
}

/// How an object is to be written.
#[derive(Clone)]
pub struct Meta {
    /// Its media type.
    pub content_type: &'static str,
    /// How its bytes are encoded, when a reader has to undo that.
    pub content_encoding: Option<&'static str>,
    /// What to do when there is one already.
    pub mode: Mode,
    /// SHA-256 of the body, when it is known; saves hashing it again.
    pub sha256: Option<[u8; 32]>,
    /// Told as bytes leave.
    pub moved: Option<Moved>,
}

impl Meta {
    /// An object of that type that replaces what is there.
    #[must_use]
    pub fn new(content_type: &'static str) -> Self {
        Self { content_type, content_encoding: None, mode: Mode::Replace, sha256: None, moved: None }
    }

    /// The same, for an object that replaces only the version that was found. One without a tag that can be compared (a
    /// weak ETag) is replaced whatever it is by then.
    #[must_use]
    pub fn matching(self, found: &Found) -> Self {
        let tag = found.tag.as_deref().filter(|tag| !tag.starts_with("W/"));
        Self { mode: tag.map_or(Mode::Replace, |tag| Mode::Match(tag.to_owned())), ..self }
    }

    /// The same, for an object that must not be there yet.
    #[must_use]
    pub fn create(self) -> Self {
        Self { mode: Mode::Create, ..self }
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content_type, content_encoding, mode, .. } = self;
        write!(f, "Meta({content_type}, {content_encoding:?}, {mode:?})")
    }
}

/// An object to be written.
#[derive(Debug, Clone)]
pub struct NewObject {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub body: Bytes,
    /// How.
    pub meta: Meta,
}

/// What to do when an object is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Leave it. A server that knows no conditional writes replaces it all the same.
    Create,
    /// Replace it if it still is the version of this [tag](Found::tag), else leave it. A server that knows no conditional
    /// writes replaces it all the same; a folder may be changed between the last look and the write.
    Match(String),
    /// Replace it.
    Replace,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// Whether it was written.
    pub outcome: Outcome,
    /// Bytes of the body. 0 when the write was refused before they were counted.
    pub bytes: u64,
}

/// Whether something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there as given.
    Stored,
    /// [`Mode::Create`] met an object, or [`Mode::Match`] another version or none. It may be our own, whose answer was lost and which was sent again.
    Existed,
}

/// A whole object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its bytes, as stored.
    pub bytes: Bytes,
    /// How they are encoded, where the place keeps that.
    pub content_encoding: Option<String>,
    /// What tells this version from another: an ETag, or a file's inode, time and size.
    pub tag: Option<String>,
    /// When it was written, in the place's own words, where it says so: two objects of the same bytes have the same ETag.
    pub modified: Option<String>,
}

/// What is known of an object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its bytes, as stored, where the place says.
    pub size: Option<u64>,
    /// See [`Found::tag`].
    pub tag: Option<String>,
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In their order.
    pub entries: Vec<Entry>,
    /// Where the next page begins, when there is one. Opaque.
    pub next: Option<String>,
}

/// One key of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Bytes of the object.
    pub size: u64,
}
