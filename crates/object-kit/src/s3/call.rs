//! One signed request to a bucket, repeated where that helps. In: what to ask. Out: the answer, or a fault classed by
//! S3's own words. Finds out by itself: our clock's error, the bucket's region, keys that were renewed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use service_kit::clock::{Clock, Time};
use tracing::warn;

use super::address::Address;
use super::sign::{Scope, sha256_hex, sign};
use super::{ANSWER_MAX, S3Settings};
use crate::aws::{Credentials, Keys};
use crate::call::{Answer, Ask, Exchange, Payload, refused};
use crate::date::parse_http_date;
use crate::error::{Class, Fault, ObjectError, said};
use crate::retry::Retry;
use crate::{Moved, key as keys, xml};

/// Region of what has none.
const REGION: &str = "us-east-1";
/// Bytes from which on a body is hashed on a thread of its own.
const HASH_ASIDE_FROM: usize = 256 << 10;

/// What all requests to one bucket share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) shown: String,
    pub(super) clock: Clock,
    pub(super) retry: Retry,
    pub(super) storage_class: Option<HeaderValue>,
    pub(super) part_min: u64,
    pub(super) parts_in_flight: usize,
    address: Address,
    prefix: String,
    region: RwLock<String>,
    credentials: Credentials,
    exchange: Exchange,
    /// Milliseconds by which the server's clock is ahead of ours.
    skew_ms: AtomicI64,
    cannot_list: AtomicBool,
    /// The server takes no conditional writes.
    no_conditions: AtomicBool,
    /// Uploads in parts that are under way.
    pub(super) uploads: UnderWay,
}

/// Ids of the uploads in parts that this process has begun and not ended.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashSet<String>>);

impl UnderWay {
    pub(super) fn add(&self, id: &str) {
        self.ids().insert(id.to_owned());
    }

    pub(super) fn remove(&self, id: &str) {
        self.ids().remove(id);
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.ids().contains(id)
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to ask.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// None: the bucket.
    pub(super) key: Option<&'a str>,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// SHA-256 of the body in hexadecimal, when it is known.
    pub(super) hash: Option<String>,
    pub(super) moved: Option<Moved>,
    pub(super) bytes_max: usize,
}

impl Call<'_> {
    pub(super) fn new(method: Method) -> Self {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Self { method, key: None, query: &[], headers, body, hash: None, moved: None, bytes_max: ANSWER_MAX }
    }
}

/// An answer of S3 that says no.
#[derive(Debug, thiserror::Error)]
#[error("the server answers {status}{}{code}{}{message}", gap(.code), gap(.message))]
pub(super) struct Denied {
    pub(super) status: StatusCode,
    /// S3's word for it; empty when the answer has none, as those to HEAD.
    pub(super) code: String,
    message: String,
}

fn gap(text: &str) -> &'static str {
    if text.is_empty() { "" } else { ": " }
}

/// What was found out once during a call, and is not tried again.
#[derive(Default)]
pub(super) struct Learnt {
    skew: bool,
    region: bool,
    keys: bool,
}

impl Core {
    pub(super) fn new(settings: &S3Settings) -> Result<Self, ObjectError> {
        let S3Settings { bucket, prefix, line, endpoint, https, addressing, .. } = settings;
        let failed = |place: &str, fault| ObjectError::new("open", "", place, fault);
        let address = Address::new(bucket, endpoint.as_deref(), *https, *addressing)
            .map_err(|error| failed("an S3 bucket", Fault::local(error)))?;
        let shown = address.shown(prefix);
        let failed = |fault| failed(&shown, fault);
        if !prefix.is_empty() {
            keys::check(prefix).map_err(failed)?;
        }
        let region = settings.region.as_deref().filter(|region| !region.is_empty()).unwrap_or(REGION);
        address.url(region, None, &[]).map_err(|error| failed(Fault::local(error)))?;
        let class = settings.storage_class.as_deref().map(HeaderValue::from_str).transpose();
        let storage_class = class.map_err(|error| failed(Fault::local(error)))?;
        let exchange = line.exchange(address.https(), false).map_err(failed)?;
        Ok(Self {
            clock: line.clock.clone(),
            retry: Retry::new(line),
            storage_class,
            part_min: settings.part_min,
            parts_in_flight: settings.parts_in_flight.max(1),
            prefix: prefix.clone(),
            region: RwLock::new(region.to_owned()),
            credentials: settings.credentials.clone(),
            skew_ms: AtomicI64::new(0),
            cannot_list: AtomicBool::new(false),
            uploads: UnderWay::default(),
            no_conditions: AtomicBool::new(false),
            address,
            exchange,
            shown,
        })
    }

    /// A key as the bucket has it.
    pub(super) fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    pub(super) fn cannot_list(&self) -> bool {
        self.cannot_list.load(Ordering::Relaxed)
    }

    /// True the first time.
    pub(super) fn set_cannot_list(&self) -> bool {
        !self.cannot_list.swap(true, Ordering::Relaxed)
    }

    pub(super) fn no_conditions(&self) -> bool {
        self.no_conditions.load(Ordering::Relaxed)
    }

    /// What was refused with a condition was taken without.
    pub(super) fn note_no_conditions(&self) {
        if !self.no_conditions.swap(true, Ordering::Relaxed) {
            let place = &self.shown;
            warn!(
                place,
                "{place} takes no conditional writes: objects that are there may be replaced by the same again"
            );
        }
    }

    /// Asks for something that may not be there.
    pub(super) async fn question(&self, call: Call<'_>) -> Result<Option<Answer>, Fault> {
        match self.send(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(fault) => match fault.source.downcast_ref::<Denied>() {
                Some(denied) if denied.status == StatusCode::NOT_FOUND && denied.code != "NoSuchBucket" => {
                    Ok(None)
                }
                Some(_) | None => Err(fault),
            },
        }
    }

    /// Asks, again where that may help.
    pub(super) async fn send(&self, mut call: Call<'_>) -> Result<Answer, Fault> {
        let mut attempts = self.retry.begin();
        let mut learnt = Learnt::default();
        loop {
            match self.attempt(&mut call, &mut learnt).await {
                Ok(answer) => {
                    attempts.worked();
                    return Ok(answer);
                }
                Err(fault) => attempts.again(fault).await?,
            }
        }
    }

    /// One attempt, and another one for each thing that its refusal teaches: our clock's error, the bucket's region, keys
    /// that were renewed.
    pub(super) async fn attempt(&self, call: &mut Call<'_>, learnt: &mut Learnt) -> Result<Answer, Fault> {
        loop {
            let keys = self.credentials.keys().await?;
            let answer = self.once(call, keys.as_ref()).await?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            let fault = denied(&answer);
            if self.learn(&answer, &fault, learnt) {
                continue;
            }
            let denied = fault.source.downcast_ref::<Denied>();
            let (expired, wrong) = (denied.is_some_and(Denied::expired), denied.is_some_and(Denied::wrong));
            if let (true, false, Some(keys)) = (expired || wrong, learnt.keys, &keys) {
                learnt.keys = true;
                if self.credentials.renew(keys, wrong).await? {
                    continue;
                }
            }
            return Err(fault);
        }
    }

    /// One attempt.
    async fn once(&self, call: &mut Call<'_>, keys: Option<&Keys>) -> Result<Answer, Fault> {
        if let Some(key) = call.key {
            keys::check(key)?;
        }
        let region = self.region.read().unwrap_or_else(PoisonError::into_inner).clone();
        let full = call.key.map(|key| self.full(key));
        let url = self.address.url(&region, full.as_deref(), call.query).map_err(Fault::local)?;
        let mut headers = call.headers.clone();
        if let Some(keys) = keys {
            let hash = match &call.hash {
                Some(hash) => hash.clone(),
                None => call.hash.insert(hashed(call.body.clone()).await?).clone(),
            };
            let scope = Scope { region: &region, service: "s3", now: self.now() };
            sign(&mut headers, &call.method, &url, &hash, keys, scope)?;
        }
        let bodied = matches!(call.method, Method::PUT | Method::POST);
        let payload = if bodied { Payload::Whole(call.body.clone()) } else { Payload::Empty };
        let ask = Ask { method: call.method.clone(), url, headers, payload, moved: call.moved.clone() };
        self.exchange.send(ask, call.bytes_max).await
    }

    /// Our time, corrected by what the server said of it.
    pub(super) fn now(&self) -> Time {
        let skew = self.skew_ms.load(Ordering::Relaxed);
        Time::from_ms(self.clock.now().as_ms().saturating_add(skew))
    }

    /// Takes from a refusal what helps the next attempt; whether there was anything.
    fn learn(&self, answer: &Answer, fault: &Fault, learnt: &mut Learnt) -> bool {
        let code = fault.source.downcast_ref::<Denied>().map_or("", |denied| &denied.code);
        if code == "RequestTimeTooSkewed" && !learnt.skew {
            learnt.skew = true;
            let theirs = answer.header(DATE.as_str()).and_then(|date| parse_http_date(date).ok());
            let skew = theirs.map(|theirs| theirs.as_ms() - self.clock.now().as_ms());
            self.skew_ms.store(skew.unwrap_or_default(), Ordering::Relaxed);
            return skew.is_some();
        }
        let elsewhere = matches!(answer.status.as_u16(), 301 | 307 | 400);
        let region = answer.header("x-amz-bucket-region").filter(|_| elsewhere && !learnt.region);
        let Some(region) = region.filter(|region| self.address.url(region, None, &[]).is_ok()) else {
            return false;
        };
        learnt.region = true;
        let mut ours = self.region.write().unwrap_or_else(PoisonError::into_inner);
        let news = *ours != region;
        region.clone_into(&mut ours);
        news
    }
}

impl Denied {
    /// The server has no such function.
    pub(super) fn cannot(&self) -> bool {
        matches!(self.status.as_u16(), 405 | 501)
            || matches!(self.code.as_str(), "NotImplemented" | "MethodNotAllowed")
    }

    /// It may be the condition of a write that the server does not take.
    pub(super) fn is_of_condition(&self) -> bool {
        self.cannot() || self.code == "InvalidArgument"
    }

    fn expired(&self) -> bool {
        matches!(
            self.code.as_str(),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken"
        )
    }

    /// The keys are none, or no more: somebody may have put others in their place.
    fn wrong(&self) -> bool {
        matches!(self.code.as_str(), "InvalidAccessKeyId" | "SignatureDoesNotMatch")
    }
}

async fn hashed(body: Bytes) -> Result<String, Fault> {
    if body.len() < HASH_ASIDE_FROM {
        return Ok(sha256_hex(&body));
    }
    tokio::task::spawn_blocking(move || sha256_hex(&body)).await.map_err(Fault::local)
}

/// What an answer that says no means, by the server's word for it and by its status.
pub(super) fn denied(answer: &Answer) -> Fault {
    let error = xml::parse(&answer.body).ok().filter(|root| root.name == "Error");
    let text = |name| error.as_ref().and_then(|error| error.text_of(name)).unwrap_or_default();
    let (code, message) = (said(text("Code")), said(text("Message")));
    let by_status = refused(answer, "");
    let class = match code.as_str() {
        "SlowDown"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "Busy"
        | "ThrottlingException"
        | "TooManyRequests" => Class::Busy,
        "InternalError" => Class::Server,
        "EntityTooLarge" => Class::TooLarge,
        "MissingContentLength" => Class::LengthRequired,
        "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed" => Class::Credentials,
        _ => by_status.class,
    };
    let wait_s = answer.header(RETRY_AFTER.as_str()).and(by_status.wait_s);
    Fault { class, source: Denied { status: answer.status, code, message }.into(), wait_s }
}

/// Longest that clearing up after an upload may take.
pub(super) const ABORT_TIME: Duration = Duration::from_secs(60);
