//! Objects in an S3 bucket. In: bucket, endpoint, credentials. Out: the objects under a prefix of it. Small bodies are
//! one request, long ones go in parts that are each repeated alone. Leaves out versions, tags and access lists.

mod address;
mod call;
mod multipart;
pub(crate) mod sign;
mod uploads;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    CACHE_CONTROL, CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED,
};
use reqwest::{Method, StatusCode};
use tracing::warn;

use crate::aws::Credentials;
use crate::body::Counted;
use crate::call::{Answer, Line};
use crate::error::{Class, Fault, ObjectError, chain};
use crate::http::{described, head, unconditional};
use crate::xml::{self, Element};
use crate::{Body, BodySize, Entry, Found, Head, Meta, Mode, Objects, Outcome, Page, Put, Work, key as keys};
use call::{Call, Core, Denied};
pub use uploads::SweptUploads;

/// Usual size of a part, in bytes. Longer bodies have larger parts: see [`S3Settings::part_min`].
pub const MIN_PART: u64 = 8 << 20;
/// Parts a body may have; S3 allows 10,000.
const PARTS_MAX: u64 = 9_000;
/// Largest answer to a list, in bytes.
const LIST_MAX: usize = 8 << 20;
/// Largest answer of any other kind than an object, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// Most keys of a page; S3 allows no more.
const PAGE_MAX: usize = 1000;

/// Where, and as whom.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys are under, without a slash at either end; may be empty.
    pub prefix: String,
    /// Its region; `us-east-1` when none is given. A bucket of AWS that turns out to be elsewhere is found there.
    pub region: Option<String>,
    /// `HOST`, `HOST:PORT`, or a whole URL; AWS when none is given.
    pub endpoint: Option<String>,
    /// Whether an endpoint that is no URL is spoken to by `https`.
    pub https: bool,
    /// How the bucket is named in addresses.
    pub addressing: Addressing,
    /// `STANDARD_IA` and the like.
    pub storage_class: Option<String>,
    /// Smallest part of a long body, in bytes ([`MIN_PART`]; AWS takes none below 5 MiB). A body that may have more than
    /// 9,000 such parts has larger ones. What fits into one part is one request. Memory for a body is at most
    /// `parts_in_flight` parts and the one that is being filled.
    pub part_min: u64,
    /// Parts of one body that are sent at the same time; 0 counts as 1.
    pub parts_in_flight: usize,
    /// As whom.
    pub credentials: Credentials,
    /// How.
    pub line: Line,
}

impl S3Settings {
    /// That bucket at AWS, in the usual way.
    #[must_use]
    pub fn new(bucket: &str, credentials: Credentials, line: Line) -> Self {
        Self {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            region: None,
            endpoint: None,
            https: true,
            addressing: Addressing::Auto,
            storage_class: None,
            part_min: MIN_PART,
            parts_in_flight: 2,
            credentials,
            line,
        }
    }
}

/// How a bucket is named in addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// In the host's name at AWS, unless the bucket's name has dots; in the path elsewhere.
    Auto,
    /// In the path.
    Path,
    /// In the host's name.
    Virtual,
}

/// The objects under a prefix of a bucket.
#[derive(Debug, Clone)]
pub struct S3 {
    core: Arc<Core>,
}

impl S3 {
    /// Reads certificates and makes a client. Asks nothing yet, credentials included.
    ///
    /// # Errors
    /// [`ObjectError`] of [`Class::Local`]: the settings.
    pub fn new(settings: &S3Settings) -> Result<Self, ObjectError> {
        Core::new(settings).map(|core| Self { core: Arc::new(core) })
    }

    /// `s3://BUCKET/PREFIX`, and at which endpoint.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.core.shown
    }

    fn error(&self, tried: &'static str, key: &str) -> impl FnOnce(Fault) -> ObjectError {
        move |fault| ObjectError::new(tried, key, &self.core.shown, fault)
    }

    /// What a refusal to read means: a bucket that may not be listed says so about keys that are not there. Asks by
    /// listing; when that is refused too, the key counts as absent, and a write will tell whether we may do anything.
    async fn denied(&self, key: &str, fault: Fault) -> Result<Option<Head>, Fault> {
        let unknown = fault
            .source
            .downcast_ref::<Denied>()
            .is_some_and(|d| d.code.is_empty() || d.code == "AccessDenied");
        if !unknown {
            return Err(fault);
        }
        if self.core.cannot_list() {
            return Ok(None);
        }
        let prefix = self.core.full(key);
        let query = [("list-type", "2"), ("max-keys", "1"), ("prefix", prefix.as_str())];
        let call = Call { query: &query, bytes_max: LIST_MAX, ..Call::new(Method::GET) };
        match self.core.send(call).await {
            Ok(answer) => {
                let listed = listing(&answer)?;
                let same = |one: &&Element| one.text_of("Key") == Some(&prefix);
                Ok(listed.all("Contents").find(same).map(|one| Head {
                    size: one.text_of("Size").and_then(|size| size.parse().ok()),
                    tag: one.text_of("ETag").map(str::to_owned),
                }))
            }
            Err(refusal)
                if refusal.source.downcast_ref::<Denied>().is_some_and(|d| d.code == "AccessDenied") =>
            {
                self.note_cannot_list(&refusal);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn note_cannot_list(&self, refusal: &Fault) {
        if self.core.set_cannot_list() {
            let place = &self.core.shown;
            warn!(
                place,
                "{place} may not be listed ({}): each key is asked for, and one that may not be read counts as absent",
                chain(&*refusal.source)
            );
        }
    }

    /// A page of the listing; none where we may not list, or the server cannot.
    async fn page(&self, cursor: Option<&str>, keys_max: usize) -> Result<Option<Page>, Fault> {
        if self.core.cannot_list() {
            return Ok(None);
        }
        let keys_max = keys_max.clamp(1, PAGE_MAX).to_string();
        let prefix = self.core.full("");
        let mut query = vec![("delimiter", "/"), ("list-type", "2"), ("max-keys", keys_max.as_str())];
        query.push(("prefix", prefix.as_str()));
        query.extend(cursor.map(|cursor| ("continuation-token", cursor)));
        let call = Call { query: &query, bytes_max: LIST_MAX, ..Call::new(Method::GET) };
        match self.core.send(call).await {
            Ok(answer) => page(&listing(&answer)?, &prefix),
            Err(fault) => match fault.source.downcast_ref::<Denied>() {
                Some(denied) if denied.code == "AccessDenied" => {
                    self.note_cannot_list(&fault);
                    Ok(None)
                }
                Some(denied) if denied.cannot() => Ok(None),
                Some(_) | None => Err(fault),
            },
        }
    }

    async fn put_whole(&self, key: &str, body: Bytes, meta: &Meta) -> Result<Put, Fault> {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let hash = meta.sha256.map(|hash| sign::hex(&hash));
        let mut headers = self.described(meta)?;
        let call = |headers, hash| {
            let (body, moved) = (body.clone(), meta.moved.clone());
            Call { key: Some(key), headers, body, hash, moved, ..Call::new(Method::PUT) }
        };
        match self.core.send(call(headers.clone(), hash.clone())).await {
            Ok(_) => Ok(Put { outcome: Outcome::Stored, bytes }),
            Err(fault) if without_condition(&mut headers, &fault) => {
                self.core.send(call(headers, hash)).await?;
                self.core.note_no_conditions();
                Ok(Put { outcome: Outcome::Stored, bytes })
            }
            Err(fault) if existed(meta, &fault) => Ok(Put { outcome: Outcome::Existed, bytes }),
            Err(fault) => Err(fault),
        }
    }

    fn described(&self, meta: &Meta) -> Result<HeaderMap, Fault> {
        let mut headers = HeaderMap::new();
        described(&mut headers, meta);
        if self.core.no_conditions() {
            unconditional(&mut headers);
        }
        if let Some(class) = &self.core.storage_class {
            headers.insert(HeaderName::from_static("x-amz-storage-class"), class.clone());
        }
        Ok(headers)
    }

    async fn write_stream(
        &self,
        key: &str,
        body: &mut dyn Body,
        meta: &Meta,
        size: BodySize,
    ) -> Result<Put, Fault> {
        keys::check(key)?;
        let part_bytes = part_bytes(self.core.part_min, size.at_most);
        let mut counted = Counted::new(body, size);
        let (first, ended) = fill(&mut counted, part_bytes, room(part_bytes.min(size.at_most))?).await?;
        if ended {
            return self.put_whole(key, first, meta).await;
        }
        multipart::put(self, key, first, &mut counted, part_bytes, meta).await
    }
}

/// Size of the parts of a body that has at most so many bytes, where the smallest part has `part_min`; both in bytes.
/// All but the last have this size: there are servers that take no others.
#[must_use]
pub fn part_bytes(part_min: u64, at_most: u64) -> u64 {
    part_min.max(at_most.div_ceil(PARTS_MAX)).max(1)
}

/// Whether a write was refused because of what was there, and was meant to be.
fn existed(meta: &Meta, fault: &Fault) -> bool {
    let status = fault.source.downcast_ref::<Denied>().map(|denied| denied.status);
    match meta.mode {
        Mode::Replace => false,
        Mode::Create => status == Some(StatusCode::PRECONDITION_FAILED),
        // The version is gone, or the whole object.
        Mode::Match(_) => {
            matches!(status, Some(StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND))
        }
    }
}

/// Takes the condition away from a write that may have been refused for it; whether there was one.
fn without_condition(headers: &mut HeaderMap, fault: &Fault) -> bool {
    let of_it = fault.source.downcast_ref::<Denied>().is_some_and(Denied::is_of_condition);
    of_it && unconditional(headers)
}

/// A buffer for so many bytes: one that grows takes up to twice as much, and for a moment three times.
fn room(bytes: u64) -> Result<BytesMut, Fault> {
    usize::try_from(bytes).map(BytesMut::with_capacity).map_err(Fault::local)
}

/// Takes from a body until there are `bytes` of it, or it ends; says whether it ended. A chunk that does not fit goes in
/// whole, so a part may be longer by one chunk.
async fn fill(counted: &mut Counted<'_>, bytes: u64, mut part: BytesMut) -> Result<(Bytes, bool), Fault> {
    let bytes = usize::try_from(bytes).map_err(Fault::local)?;
    while part.len() < bytes {
        match counted.next().await? {
            Some(chunk) => part.extend_from_slice(&chunk),
            None => return Ok((part.freeze(), true)),
        }
    }
    Ok((part.freeze(), false))
}

fn listing(answer: &Answer) -> Result<Element, Fault> {
    let root = xml::parse(&answer.body).map_err(|error| Fault::new(Class::Server, error))?;
    if root.name == "ListBucketResult" { Ok(root) } else { Err(Fault::new(Class::Server, NoListing)) }
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is no listing of a bucket")]
struct NoListing;

#[derive(Debug, thiserror::Error)]
#[error("it is listed, but we may not read it")]
struct ListedOnly;

impl Objects for S3 {
    fn is_forbidding(&self) -> bool {
        self.core.cannot_list()
    }

    fn get<'a>(&'a self, key: &'a str, bytes_max: usize) -> Work<'a, Result<Option<Found>, ObjectError>> {
        Box::pin(async move {
            let call = Call { key: Some(key), headers: past_caches(), bytes_max, ..Call::new(Method::GET) };
            let found = match self.core.question(call).await {
                Ok(answer) => Ok(answer.map(|answer| Found {
                    content_encoding: answer.header(CONTENT_ENCODING.as_str()).map(str::to_owned),
                    tag: answer.header(ETAG.as_str()).map(str::to_owned),
                    modified: answer.header(LAST_MODIFIED.as_str()).map(str::to_owned),
                    bytes: answer.body,
                })),
                Err(fault) => match self.denied(key, fault).await {
                    Ok(None) => Ok(None),
                    Ok(Some(_)) => Err(Fault::new(Class::Credentials, ListedOnly)),
                    Err(fault) => Err(fault),
                },
            };
            found.map_err(self.error("get", key))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, Result<Option<Head>, ObjectError>> {
        Box::pin(async move {
            let call = Call { key: Some(key), headers: past_caches(), ..Call::new(Method::HEAD) };
            let found = match self.core.question(call).await {
                Ok(answer) => Ok(answer.map(|answer| head(&answer))),
                Err(fault) => self.denied(key, fault).await,
            };
            found.map_err(self.error("look for", key))
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, meta: &'a Meta) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(async move { self.put_whole(key, body, meta).await.map_err(self.error("put", key)) })
    }

    fn put_stream<'a>(
        &'a self,
        key: &'a str,
        body: &'a mut dyn Body,
        meta: &'a Meta,
        size: BodySize,
    ) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(
            async move { self.write_stream(key, body, meta, size).await.map_err(self.error("put", key)) },
        )
    }

    fn list<'a>(
        &'a self,
        cursor: Option<&'a str>,
        keys_max: usize,
    ) -> Work<'a, Result<Option<Page>, ObjectError>> {
        Box::pin(async move { self.page(cursor, keys_max).await.map_err(self.error("list", "")) })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            let call = Call { key: Some(key), ..Call::new(Method::DELETE) };
            self.core.question(call).await.map(drop).map_err(self.error("delete", key))
        })
    }

    fn settle<'a>(&'a self) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn past_caches() -> HeaderMap {
    HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("no-cache"))])
}

/// None when it says that there is more, and not where: a server that knows no tokens cannot be listed to its end.
fn page(root: &Element, prefix: &str) -> Result<Option<Page>, Fault> {
    let entry = |one: &Element| {
        let key = one.text_of("Key")?.strip_prefix(prefix)?.to_owned();
        let size = one.text_of("Size")?.trim().parse().ok()?;
        Some(Entry { key, size })
    };
    let entries: Option<Vec<Entry>> = root.all("Contents").map(entry).collect();
    let mut entries = entries.ok_or_else(|| Fault::new(Class::Server, NoListing))?;
    // The "folder" itself, which some tools make as an empty object.
    entries.retain(|entry| !entry.key.is_empty());
    let more = root.text_of("IsTruncated").is_some_and(|text| text.trim() == "true");
    let next =
        root.text_of("NextContinuationToken").filter(|token| more && !token.is_empty()).map(str::to_owned);
    Ok((next.is_some() || !more).then_some(Page { entries, next }))
}
