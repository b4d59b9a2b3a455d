//! A long body in parts. In: the first part and the rest of the body. Out: one object, or none: what was uploaded of a
//! body that failed, or whose future was dropped, is aborted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use reqwest::header::{DATE, ETAG, HeaderMap, LAST_MODIFIED};
use service_kit::clock::Time;
use tracing::warn;

use super::call::{ABORT_TIME, Call, Core, Denied, Learnt, denied};
use super::{ANSWER_MAX, S3, existed, fill, room, without_condition};
use crate::body::Counted;
use crate::date::parse_http_date;
use crate::error::{Class, Fault, chain};
use crate::http::{condition, head, unconditional};
use crate::{Meta, Moved, Outcome, Put, xml};

/// How far the clocks of the machines behind one place may be apart.
const CLOCKS_APART: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum PartsError {
    #[error("the answer to the start of an upload has no id")]
    NoId,
    #[error("the answer to part {0} has no ETag")]
    NoTag(u32),
    #[error("the end of the upload was answered by something else than a result")]
    NoResult,
    #[error("the body has more parts than numbers can tell")]
    TooMany,
}

/// Uploads a body whose first part is full.
pub(super) async fn put(
    s3: &S3,
    key: &str,
    first: Bytes,
    counted: &mut Counted<'_>,
    part_bytes: u64,
    meta: &Meta,
) -> Result<Put, Fault> {
    let upload = Upload::begin(s3, key, meta).await?;
    let mut tags: Vec<(u32, String)> = Vec::new();
    // Dropped before the upload is, so that no part is on its way when it is aborted.
    let mut in_flight = FuturesUnordered::new();
    let (mut part, mut ended, mut number) = (first, false, 0_u32);
    loop {
        number = number.checked_add(1).ok_or_else(|| Fault::local(PartsError::TooMany))?;
        while in_flight.len() >= s3.core.parts_in_flight {
            tags.extend(in_flight.next().await.transpose()?);
        }
        in_flight.push(upload.part(number, part, meta.moved.clone()));
        if ended {
            break;
        }
        let filled = fill(counted, part_bytes, room(part_bytes)?);
        tokio::pin!(filled);
        (part, ended) = loop {
            tokio::select! {
                biased;
                Some(tag) = in_flight.next(), if !in_flight.is_empty() => tags.push(tag?),
                filled = &mut filled => break filled?,
            }
        };
        if part.is_empty() {
            break;
        }
    }
    while let Some(tag) = in_flight.next().await {
        tags.push(tag?);
    }
    drop(in_flight);
    tags.sort_unstable();
    let bytes = counted.got();
    let outcome = upload.complete(&tags, bytes, meta).await?;
    Ok(Put { outcome, bytes })
}

/// An upload that was begun. Aborted in the background when it is dropped before it is complete.
struct Upload<'a> {
    core: &'a Arc<Core>,
    key: &'a str,
    id: String,
    /// When it had been begun, by the server's clock, and how long before that it may have been.
    begun: Option<(Time, Duration)>,
    done: bool,
}

impl<'a> Upload<'a> {
    async fn begin(s3: &'a S3, key: &'a str, meta: &Meta) -> Result<Self, Fault> {
        let mut headers = s3.described(meta)?;
        // The condition belongs to the end.
        unconditional(&mut headers);
        let call = Call { key: Some(key), query: &[("uploads", "")], headers, ..Call::new(Method::POST) };
        let asked = s3.core.clock.mono();
        let answer = s3.core.send(call).await?;
        let begun = answer.header(DATE.as_str()).and_then(|date| parse_http_date(date).ok());
        let begun = begun.map(|date| (date, s3.core.clock.mono().since(asked) + CLOCKS_APART));
        let root = xml::parse(&answer.body).map_err(|error| Fault::new(Class::Server, error))?;
        let id = root.text_of("UploadId").map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
        let id = id.ok_or_else(|| Fault::new(Class::Server, PartsError::NoId))?;
        s3.core.uploads.add(&id);
        Ok(Self { core: &s3.core, key, id, begun, done: false })
    }

    async fn part(&self, number: u32, body: Bytes, moved: Option<Moved>) -> Result<(u32, String), Fault> {
        let text = number.to_string();
        let query = [("partNumber", text.as_str()), ("uploadId", self.id.as_str())];
        let call = Call { key: Some(self.key), query: &query, body, moved, ..Call::new(Method::PUT) };
        let answer = self.core.send(call).await?;
        let tag = answer.header(ETAG.as_str()).map(str::to_owned);
        tag.map(|tag| (number, tag)).ok_or_else(|| Fault::new(Class::Server, PartsError::NoTag(number)))
    }

    async fn complete(mut self, tags: &[(u32, String)], bytes: u64, meta: &Meta) -> Result<Outcome, Fault> {
        let part = |(number, tag): &(u32, String)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", xml::escaped(tag))
        };
        let parts: String = tags.iter().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let mut headers = HeaderMap::new();
        if !self.core.no_conditions() {
            condition(&mut headers, &meta.mode);
        }
        let mut attempts = self.core.retry.begin();
        let (mut learnt, mut refused_condition) = (Learnt::default(), false);
        loop {
            let fault = match self.end(&body, &headers, &mut learnt).await {
                Ok(()) => {
                    self.done = true;
                    if refused_condition {
                        self.core.note_no_conditions();
                    }
                    return Ok(Outcome::Stored);
                }
                Err(fault) => fault,
            };
            if existed(meta, &fault) {
                return Ok(Outcome::Existed); // and what was uploaded is aborted
            }
            if without_condition(&mut headers, &fault) {
                refused_condition = true;
                continue;
            }
            // The answer may have been lost, not the work. What is left of the upload, if anything, is aborted.
            if may_have_ended(&fault) && self.is_there(tags.len(), bytes).await {
                return Ok(Outcome::Stored);
            }
            attempts.again(fault).await?;
        }
    }

    /// Asks once for the end. What begins as a success can be a failure in its body.
    async fn end(&self, body: &str, headers: &HeaderMap, learnt: &mut Learnt) -> Result<(), Fault> {
        let mut call = Call {
            key: Some(self.key),
            query: &[("uploadId", self.id.as_str())],
            headers: headers.clone(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            bytes_max: ANSWER_MAX,
            ..Call::new(Method::POST)
        };
        let mut answer = self.core.attempt(&mut call, learnt).await?;
        match xml::parse(&answer.body) {
            Ok(root) if root.name == "CompleteMultipartUploadResult" => Ok(()),
            Ok(root) if root.name == "Error" => {
                answer.hide();
                let mut fault = denied(&answer);
                if fault.class == Class::Refused {
                    fault.class = Class::Server;
                }
                Err(fault)
            }
            Ok(_) => Err(Fault::new(Class::Server, PartsError::NoResult)),
            Err(error) => Err(Fault::new(Class::Server, error)),
        }
    }

    /// Whether the object is there as it would be after the end: its size, where the server counts parts in its tags as
    /// many of them, and where it says when, not older than the upload.
    async fn is_there(&self, parts: usize, bytes: u64) -> bool {
        let call = Call { key: Some(self.key), ..Call::new(Method::HEAD) };
        let Ok(Some(answer)) = self.core.question(call).await else { return false };
        let found = head(&answer);
        let tag = found.tag.unwrap_or_default();
        let counted = tag.trim_matches('"').rsplit_once('-').map(|(_, count)| count.to_owned());
        let modified = answer.header(LAST_MODIFIED.as_str()).and_then(|date| parse_http_date(date).ok());
        let older =
            modified.zip(self.begun).is_some_and(|(modified, (begun, within))| modified + within < begun);
        found.size == Some(bytes) && counted.is_none_or(|count| count == parts.to_string()) && !older
    }
}

/// Whether an upload may have ended although its end was not told, or was told before.
fn may_have_ended(fault: &Fault) -> bool {
    let code = fault.source.downcast_ref::<Denied>().map_or("", |denied| &denied.code);
    let unknown = matches!(fault.class, Class::Unreachable | Class::Stuck | Class::Busy | Class::Server);
    unknown || code == "NoSuchUpload"
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.core.uploads.remove(&self.id);
        if self.done {
            return;
        }
        // Without a runtime the process ends; a later sweep has them then.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (core, key, id) = (Arc::clone(self.core), self.key.to_owned(), self.id.clone());
        runtime.spawn(async move {
            let query = [("uploadId", id.as_str())];
            let call = Call { key: Some(&key), query: &query, ..Call::new(Method::DELETE) };
            let abort = core.question(call);
            let place = &core.shown;
            match core.clock.timeout(ABORT_TIME, abort).await {
                Ok(Ok(_)) => {}
                Ok(Err(fault)) => {
                    warn!(place, "parts of {key} are left over at {place}: {}", chain(&*fault.source));
                }
                Err(late) => warn!(place, "parts of {key} are left over at {place}: {late}"),
            }
        });
    }
}
