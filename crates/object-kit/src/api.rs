//! A service that is spoken to in calls rather than in objects. In: a base address, and for each call a method, a path
//! below the base, headers and a body. Out: the answer's body within a bound, or an error with its class. Bodies that
//! are at hand are sent again where that can help; those that come chunk by chunk are sent once.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use crate::call::{Answer, Ask, Exchange, Line, Payload, refused};
use crate::error::{Class, Fault, ObjectError};
use crate::retry::Retry;
use crate::{Body, BodySize, Moved, Secret};

/// Most bytes of the answer to a part that are read; they are not looked at.
const PART_ANSWER_MAX: usize = 64 << 10;

/// A service at an address.
#[derive(Debug)]
pub struct Api {
    base: Url,
    shown: String,
    exchange: Exchange,
    retry: Retry,
}

/// What is called.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET`, `POST`, `PUT` and the like.
    pub method: &'static str,
    /// Below the base, without a slash at its beginning; may have a query.
    pub path: String,
    /// What is tried, for errors, such as `ask for missing paths`.
    pub tried: &'static str,
    /// Beside `Authorization`.
    pub headers: Vec<(&'static str, String)>,
    /// `Authorization: Bearer …`
    pub token: Option<Secret>,
}

/// A body that is sent once, chunk by chunk.
pub struct Sending<'a> {
    /// The bytes.
    pub body: &'a mut dyn Body,
    /// How many.
    pub size: BodySize,
    /// Told as bytes leave.
    pub moved: Option<Moved>,
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("the address is not http://HOST/… or https://HOST/…, without name, password, query and fragment")]
    Form,
    #[error("a header or the token holds characters that no header can")]
    Header,
    #[error("`{0}` is no method")]
    Method(&'static str),
    #[error("`{0}` is no path below the address")]
    Path(String),
}

impl Api {
    /// Makes a client. Asks nothing yet.
    ///
    /// # Errors
    /// [`ObjectError`] of [`Class::Local`]: the address, or a certificate.
    pub fn new(base: &str, line: &Line) -> Result<Self, ObjectError> {
        let parsed = Url::parse(base).ok().filter(|url| {
            let plain = url.query().is_none() && url.fragment().is_none();
            let nobody = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && plain && nobody
        });
        let Some(mut base) = parsed else {
            return Err(ObjectError::new("open", "", "a service", Fault::local(CallError::Form)));
        };
        let shown = base.as_str().trim_end_matches('/').to_owned();
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let exchange = line.exchange(base.scheme() == "https", false);
        let exchange = exchange.map_err(|fault| ObjectError::new("open", "", &shown, fault))?;
        Ok(Self { base, shown, exchange, retry: Retry::new(line) })
    }

    /// The address.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.shown
    }

    /// Calls with a body that is at hand, again where that can help; `None` when the answer is 404 or 410.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Server`] when the answer has more than `bytes_max` bytes.
    pub async fn call(
        &self,
        call: &Call,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, ObjectError> {
        let mut attempts = self.retry.begin();
        loop {
            let payload = if body.is_empty() { Payload::Empty } else { Payload::Whole(body.clone()) };
            match self.once(call, payload, None, bytes_max).await {
                Ok(answer) => {
                    attempts.worked();
                    return Ok(answer.map(|answer| answer.body));
                }
                Err(fault) => {
                    let again = attempts.again(fault).await;
                    again.map_err(|fault| self.error(call, fault))?;
                }
            }
        }
    }

    /// Calls once with a body that comes chunk by chunk. A body that fails, or has another length than it should, ends
    /// the connection before its end, so that it never looks whole.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Body`] with the body's own error as its source.
    pub async fn send(
        &self,
        call: &Call,
        sending: Sending<'_>,
        bytes_max: usize,
    ) -> Result<Bytes, ObjectError> {
        let Sending { body, size, moved } = sending;
        let answer = self.once(call, Payload::Stream(body, size), moved, bytes_max).await;
        let answer = answer.map_err(|fault| self.error(call, fault))?;
        answer.map(|answer| answer.body).ok_or_else(|| {
            let why = "the server answers 404 Not Found";
            ObjectError::new(call.tried, "", &self.shown, Fault::new(Class::Refused, why))
        })
    }

    /// Puts bytes at an address that carries its own permission, wherever it is, again where that can help; gives the
    /// ETag. Nothing of the address is ever said but its host. One without TLS is refused when the service itself
    /// has it.
    ///
    /// # Errors
    /// [`ObjectError`]; of [`Class::Server`] when the answer has no ETag.
    pub async fn put_at(
        &self,
        url: &Secret,
        headers: &[(&'static str, String)],
        bytes: Bytes,
        moved: Moved,
    ) -> Result<String, ObjectError> {
        let parsed = Url::parse(url.reveal()).ok().filter(|url| url.has_host());
        let error = |place: &str, fault| ObjectError::new("put a part", "", place, fault);
        let safe =
            |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http");
        let Some(url) = parsed.filter(safe) else {
            let why = "the server names an address for a part that is none, or has no TLS";
            return Err(error(&self.shown, Fault::new(Class::Server, why)));
        };
        let place = url.host_str().unwrap_or_default().to_owned();
        let mut attempts = self.retry.begin();
        loop {
            let put = self.put_once(url.clone(), headers, bytes.clone(), Arc::clone(&moved)).await;
            match put {
                Ok(tag) => {
                    attempts.worked();
                    return Ok(tag);
                }
                Err(fault) => attempts.again(fault).await.map_err(|fault| error(&place, fault))?,
            }
        }
    }

    async fn put_once(
        &self,
        url: Url,
        headers: &[(&'static str, String)],
        bytes: Bytes,
        moved: Moved,
    ) -> Result<String, Fault> {
        let (method, payload, moved) = (Method::PUT, Payload::Whole(bytes), Some(moved));
        let ask = Ask { method, url, headers: header_map(headers)?, payload, moved };
        let answer = self.exchange.send(ask, PART_ANSWER_MAX).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer, ""));
        }
        let tag = answer.header(ETAG.as_str()).map(str::to_owned);
        tag.ok_or_else(|| Fault::new(Class::Server, "the answer to a part has no ETag"))
    }

    async fn once(
        &self,
        call: &Call,
        payload: Payload<'_>,
        moved: Option<Moved>,
        bytes_max: usize,
    ) -> Result<Option<Answer>, Fault> {
        let ask = self.ask(call, payload, moved)?;
        let answer = self.exchange.send(ask, bytes_max).await?;
        if answer.status.is_success() {
            return Ok(Some(answer));
        }
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(None);
        }
        let text = if matches!(answer.status.as_u16(), 401 | 403 | 407) {
            String::new() // it may quote credentials
        } else {
            String::from_utf8_lossy(&answer.body).into_owned()
        };
        Err(refused(&answer, &text))
    }

    fn ask<'a>(&self, call: &Call, payload: Payload<'a>, moved: Option<Moved>) -> Result<Ask<'a>, Fault> {
        let method = Method::from_bytes(call.method.as_bytes());
        let method = method.map_err(|_| Fault::local(CallError::Method(call.method)))?;
        let bad_path = || Fault::local(CallError::Path(call.path.clone()));
        let url = self.base.join(&call.path).map_err(|_| bad_path())?;
        if url.origin() != self.base.origin() || !url.path().starts_with(self.base.path()) {
            return Err(bad_path());
        }
        let mut headers = header_map(&call.headers)?;
        if let Some(token) = &call.token {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            let mut value = value.map_err(|_| Fault::local(CallError::Header))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Ask { method, url, headers, payload, moved })
    }

    fn error(&self, call: &Call, fault: Fault) -> ObjectError {
        ObjectError::new(call.tried, "", &self.shown, fault)
    }
}

fn header_map(headers: &[(&'static str, String)]) -> Result<HeaderMap, Fault> {
    let mut map = HeaderMap::new();
    for (name, text) in headers {
        let value = HeaderValue::from_str(text).map_err(|_| Fault::local(CallError::Header))?;
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}
