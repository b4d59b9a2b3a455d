//! Objects behind an HTTP server that knows GET, HEAD, PUT and DELETE. In: a base address and who we are. Out: the
//! objects below it. Cannot list, and leaves conditional writes to the server's understanding of `If-None-Match`.

mod login;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use reqwest::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, PRAGMA,
};
use reqwest::{Method, StatusCode, Url};
use tracing::warn;

use crate::call::{Answer, Ask, Exchange, Line, Payload, refused};
use crate::error::{Class, Fault, ObjectError};
use crate::retry::Retry;
use crate::{
    Asked, Body, BodySize, Found, Head, Login, Meta, Mode, Objects, Outcome, Page, Put, Secret, Work,
    key as keys,
};
use login::Authorization;

/// Where, and as whom.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `http://` or `https://`, a host, and a path under which the keys are. `user:password@` before the host is
    /// basic authentication. Without query and fragment.
    pub base: Secret,
    /// As whom, when the address does not say.
    pub auth: Auth,
    /// How.
    pub line: Line,
}

/// As whom an HTTP server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// As nobody.
    None,
    /// Name and password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer …`
    Bearer(Secret),
    /// What the first of these netrc files that is there says about the host; nobody when it says nothing. One that we
    /// may not read is passed over, with a warning. They are read again every 10 s while requests are made.
    Netrc(Vec<PathBuf>),
    /// What is told at each use.
    Asked(Asked<Login>),
}

/// The objects below an address.
#[derive(Debug)]
pub struct Http {
    base: Url,
    shown: String,
    authorization: Authorization,
    exchange: Exchange,
    retry: Retry,
    /// The server has refused conditional writes as something it does not have.
    no_conditions: AtomicBool,
    /// It has answered 403 to a question.
    forbids: AtomicBool,
}

#[derive(Debug, thiserror::Error)]
enum AddressError {
    #[error("the address is not http://HOST/… or https://HOST/…, without query and fragment")]
    Form,
}

impl Http {
    /// Reads certificates and makes a client. Asks nothing yet, netrc files included.
    ///
    /// # Errors
    /// [`ObjectError`] of [`Class::Local`](crate::Class::Local): the address, or a file that is named in the settings.
    pub fn new(settings: &HttpSettings) -> Result<Self, ObjectError> {
        let parsed = Url::parse(settings.base.reveal()).ok().filter(|url| {
            let plain = url.query().is_none() && url.fragment().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && plain
        });
        let Some(mut base) = parsed else {
            let fault = Fault::local(AddressError::Form);
            return Err(ObjectError::new("open", "", "an HTTP server", fault));
        };
        let user = keys::decoded(base.username());
        let password = base.password().map(|password| Secret::new(keys::decoded(password)));
        // Both go only when the address has no host, which was seen to above.
        let _ = (base.set_username(""), base.set_password(None));
        let shown = base.as_str().trim_end_matches('/').to_owned();
        let failed = |fault| ObjectError::new("open", "", &shown, fault);
        let auth = match (user.is_empty(), password) {
            (true, None) => settings.auth.clone(),
            (_, password) => Auth::Basic { user, password: password.unwrap_or(Secret::new("")) },
        };
        let authorization =
            Authorization::new(auth, base.host_str().unwrap_or_default(), &settings.line.clock)
                .map_err(failed)?;
        let exchange = settings.line.exchange(base.scheme() == "https", true).map_err(failed)?;
        let retry = Retry::new(&settings.line);
        let (no_conditions, forbids) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { base, shown, authorization, exchange, retry, no_conditions, forbids })
    }

    /// The address, without credentials.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.shown
    }

    fn error(&self, tried: &'static str, key: &str) -> impl FnOnce(Fault) -> ObjectError {
        move |fault| ObjectError::new(tried, key, &self.shown, fault)
    }

    async fn ask<'a>(&self, method: Method, key: &str, payload: Payload<'a>) -> Result<Ask<'a>, Fault> {
        keys::check(key)?;
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{}", self.base.path().trim_end_matches('/'), keys::encoded(key)));
        let mut headers = HeaderMap::new();
        if let Some(authorization) = self.authorization.header().await? {
            headers.insert(AUTHORIZATION, authorization);
        }
        Ok(Ask { method, url, headers, payload, moved: None })
    }

    /// A question that may be asked again.
    async fn question(&self, method: &Method, key: &str, bytes_max: usize) -> Result<Answer, Fault> {
        let mut attempts = self.retry.begin();
        let mut renewed = false;
        loop {
            let mut ask = self.ask(method.clone(), key, Payload::Empty).await?;
            ask.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            ask.headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
            let authorization = ask.headers.get(AUTHORIZATION).cloned();
            match self.exchange.send(ask, bytes_max).await.and_then(|answer| self.answered(method, answer)) {
                Ok(answer) => {
                    attempts.worked();
                    return Ok(answer);
                }
                // As another one, if there is another one now.
                Err(fault) if fault.class == Class::Credentials && !renewed => {
                    renewed = true;
                    if !self.authorization.renew(authorization.as_ref()).await? {
                        return Err(fault);
                    }
                }
                Err(fault) => attempts.again(fault).await?,
            }
        }
    }

    /// A server may forbid what is not there, as those before a bucket that may not be listed do: to a question that is
    /// absence, and a write will tell whether we may do anything.
    fn answered(&self, method: &Method, answer: Answer) -> Result<Answer, Fault> {
        let asks = matches!(*method, Method::GET | Method::HEAD);
        if !(asks && answer.status == StatusCode::FORBIDDEN) {
            return checked(answer);
        }
        if !self.forbids.swap(true, Ordering::Relaxed) {
            let place = &self.shown;
            warn!(place, "{place} answers 403 to a {method}: what it forbids to be read counts as absent");
        }
        Ok(answer)
    }

    async fn write(&self, key: &str, payload: Payload<'_>, meta: &Meta) -> Result<Put, Fault> {
        let mut ask = self.ask(Method::PUT, key, payload).await?;
        described(&mut ask.headers, meta);
        if self.no_conditions.load(Ordering::Relaxed) {
            unconditional(&mut ask.headers);
        }
        let conditional = is_conditional(&ask.headers);
        ask.moved.clone_from(&meta.moved);
        let answer = self.exchange.send(ask, ANSWER_MAX).await?;
        if meta.mode != Mode::Replace && answer.status == StatusCode::PRECONDITION_FAILED {
            return Ok(Put { outcome: Outcome::Existed, bytes: answer.sent });
        }
        if conditional && answer.status == StatusCode::NOT_IMPLEMENTED {
            let fault = refused(&answer, &excerpt(&answer));
            if !self.no_conditions.swap(true, Ordering::Relaxed) {
                let place = &self.shown;
                warn!(
                    place,
                    "{place} takes no conditional writes: objects that are there may be replaced by the same again"
                );
            }
            return Err(Fault { class: Class::NoConditions, ..fault });
        }
        let answer = checked(answer)?;
        if answer.status.is_success() {
            return Ok(Put { outcome: Outcome::Stored, bytes: answer.sent });
        }
        Err(refused(&answer, &excerpt(&answer)))
    }
}

/// Most bytes of the answer to a write that are read; they are not looked at.
const ANSWER_MAX: usize = 1 << 20;

impl Objects for Http {
    fn is_forbidding(&self) -> bool {
        self.forbids.load(Ordering::Relaxed)
    }

    fn get<'a>(&'a self, key: &'a str, bytes_max: usize) -> Work<'a, Result<Option<Found>, ObjectError>> {
        Box::pin(async move {
            let answer = self.question(&Method::GET, key, bytes_max).await;
            let answer = answer.map_err(self.error("get", key))?;
            Ok(answer.status.is_success().then(|| found(answer)))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, Result<Option<Head>, ObjectError>> {
        Box::pin(async move {
            let answer = self.question(&Method::HEAD, key, 0).await;
            let answer = answer.map_err(self.error("look for", key))?;
            Ok(answer.status.is_success().then(|| head(&answer)))
        })
    }

    fn put<'a>(&'a self, key: &'a str, body: Bytes, meta: &'a Meta) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
            let mut attempts = self.retry.begin();
            let mut renewed = false;
            loop {
                let sent = self.authorization.header().await.map_err(self.error("put", key))?;
                match self.write(key, Payload::Whole(body.clone()), meta).await {
                    Ok(put) => {
                        attempts.worked();
                        return Ok(Put { bytes, ..put });
                    }
                    // Not again: the next one has no condition.
                    Err(fault) if fault.class == Class::NoConditions => {}
                    Err(fault) if fault.class == Class::Credentials && !renewed => {
                        renewed = true;
                        let other = self.authorization.renew(sent.as_ref()).await;
                        if !other.map_err(self.error("put", key))? {
                            return Err(self.error("put", key)(fault));
                        }
                    }
                    Err(fault) => attempts.again(fault).await.map_err(self.error("put", key))?,
                }
            }
        })
    }

    fn put_stream<'a>(
        &'a self,
        key: &'a str,
        body: &'a mut dyn Body,
        meta: &'a Meta,
        size: BodySize,
    ) -> Work<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            let sent = self.authorization.header().await.map_err(self.error("put", key))?;
            let put = self.write(key, Payload::Stream(body, size), meta).await;
            if put.as_ref().is_err_and(|fault| fault.class == Class::Credentials) {
                // What was sent cannot be sent again; the next try is made as whoever we are then.
                self.authorization.renew(sent.as_ref()).await.map_err(self.error("put", key))?;
            }
            put.map_err(self.error("put", key))
        })
    }

    fn list<'a>(
        &'a self,
        _cursor: Option<&'a str>,
        _keys_max: usize,
    ) -> Work<'a, Result<Option<Page>, ObjectError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.question(&Method::DELETE, key, ANSWER_MAX).await.map_err(self.error("delete", key))?;
            Ok(())
        })
    }

    fn settle<'a>(&'a self) -> Work<'a, Result<(), ObjectError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Absence is an answer; everything else that is no success is a fault.
fn checked(answer: Answer) -> Result<Answer, Fault> {
    let absent = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE);
    if answer.status.is_success() || absent { Ok(answer) } else { Err(refused(&answer, &excerpt(&answer))) }
}

/// The first line of what a server says. Where it concerns credentials it may quote them: nothing then.
fn excerpt(answer: &Answer) -> String {
    if matches!(answer.status.as_u16(), 401 | 403 | 407) {
        return String::new();
    }
    let text = String::from_utf8_lossy(&answer.body);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

fn found(answer: Answer) -> Found {
    let content_encoding = answer.header(CONTENT_ENCODING.as_str()).map(str::to_owned);
    let tag = answer.header(ETAG.as_str()).map(str::to_owned);
    let modified = answer.header(LAST_MODIFIED.as_str()).map(str::to_owned);
    Found { bytes: answer.body, content_encoding, tag, modified }
}

/// What the headers of an answer say about its object.
pub(crate) fn head(answer: &Answer) -> Head {
    let size = answer.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
    Head { size, tag: answer.header(ETAG.as_str()).map(str::to_owned) }
}

/// The headers of a write.
pub(crate) fn described(headers: &mut HeaderMap, meta: &Meta) {
    condition(headers, &meta.mode);
    let mut put =
        |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    put(CONTENT_TYPE, meta.content_type);
    if let Some(encoding) = meta.content_encoding {
        put(CONTENT_ENCODING, encoding);
    }
}

/// Takes the condition of a write away; whether there was one.
pub(crate) fn unconditional(headers: &mut HeaderMap) -> bool {
    let was = is_conditional(headers);
    headers.remove(IF_NONE_MATCH);
    headers.remove(IF_MATCH);
    was
}

fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MATCH)
}

/// The condition of a write.
pub(crate) fn condition(headers: &mut HeaderMap, mode: &Mode) {
    match mode {
        Mode::Replace => {}
        Mode::Create => drop(headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"))),
        Mode::Match(tag) => {
            // It came in a header, so it fits into one.
            if let Ok(tag) = HeaderValue::from_str(tag) {
                headers.insert(IF_MATCH, tag);
            }
        }
    }
}
