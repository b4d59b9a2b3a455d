//! A question to a service that is no place of objects: a token, a record, a secret. In: method, address, headers, a small
//! body, perhaps keys of AWS to sign with. Out: the answer, whatever it says, read whole within a bound. What a moment may
//! mend is asked again; leaves out what an answer means.

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use crate::aws::Keys;
use crate::call::{Ask, Line, Payload, refused};
use crate::error::{Fault, ObjectError};
use crate::retry::Retry;
use crate::s3::sign::{Scope, sha256_hex, sign};
use crate::{Secret, key};

/// A request in the making.
#[derive(Debug)]
pub struct Question {
    method: Method,
    url: String,
    headers: Vec<(&'static str, Secret)>,
    body: Bytes,
    signer: Option<Signer>,
}

#[derive(Debug)]
struct Signer {
    keys: Keys,
    region: String,
    service: &'static str,
}

/// An answer.
pub struct Reply {
    /// Its status, such as 200.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    headers: HeaderMap,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}

impl Reply {
    /// Whether the status is one of success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Debug, thiserror::Error)]
enum QuestionError {
    #[error("that is no address: write http:// or https://, a host, and no name or password")]
    Address,
    #[error("the value for the header {0} holds characters that no header can")]
    Header(&'static str),
}

impl Question {
    /// Reads an address.
    #[must_use]
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::GET, url.into())
    }

    /// Sends something to an address that may be sent again.
    #[must_use]
    pub fn post(url: impl Into<String>, body: Bytes) -> Self {
        Self { body, ..Self::new(Method::POST, url.into()) }
    }

    fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: Bytes::new(), signer: None }
    }

    /// Adds a header, its name in lower case. Its value is treated as a secret.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Signs it for a service of AWS in a region.
    #[must_use]
    pub fn signed(mut self, keys: Keys, region: &str, service: &'static str) -> Self {
        self.signer = Some(Signer { keys, region: region.to_owned(), service });
        self
    }

    /// Asks, at most [`Line::attempts_max`] times: again when there is no answer, and after 408, 429 and 5xx. Redirects
    /// are answers too and are not followed.
    ///
    /// # Errors
    /// [`ObjectError`] when the last attempt brought no answer, or one with more than `bytes_max` bytes.
    pub async fn ask(&self, line: &Line, bytes_max: usize) -> Result<Reply, ObjectError> {
        let url = address(&self.url).ok_or_else(|| Fault::local(QuestionError::Address));
        let shown = url.as_ref().map_or("a service", |url| url.as_str()).to_owned();
        let failed = |fault| ObjectError::new("ask", "", &shown, fault);
        let url = url.map_err(failed)?;
        let exchange = line.exchange(url.scheme() == "https", false).map_err(failed)?;
        let retry = Retry::new(line);
        let mut attempts = retry.begin();
        loop {
            let ask = self.request(&url, line).map_err(failed)?;
            let (fault, reply) = match exchange.send(ask, bytes_max).await {
                Ok(answer) => {
                    let fault = refused(&answer, "");
                    let status = answer.status.as_u16();
                    let reply = Reply { status, body: answer.body, headers: answer.headers };
                    if !matches!(status, 408 | 429 | 500..) {
                        return Ok(reply);
                    }
                    (fault, Some(reply))
                }
                Err(fault) => (fault, None),
            };
            if let Err(fault) = attempts.again(fault).await {
                return reply.ok_or_else(|| failed(fault));
            }
        }
    }

    fn request(&self, url: &Url, line: &Line) -> Result<Ask<'static>, Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = |_| Fault::local(QuestionError::Header(name));
            let mut value = HeaderValue::from_str(value.reveal()).map_err(wrong)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        if let Some(Signer { keys, region, service }) = &self.signer {
            let scope = Scope { region, service, now: line.clock.now() };
            sign(&mut headers, &self.method, url, &sha256_hex(&self.body), keys, scope)?;
        }
        let bodied = self.method == Method::POST;
        let payload = if bodied { Payload::Whole(self.body.clone()) } else { Payload::Empty };
        Ok(Ask { method: self.method.clone(), url: url.clone(), headers, payload, moved: None })
    }
}

/// An address that can be asked.
fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.username().is_empty() && url.password().is_none();
    (bare && url.has_host() && matches!(url.scheme(), "http" | "https")).then_some(url)
}

/// Whether a text is an address that can be asked: `http` or `https`, a host, no name, no password.
#[must_use]
pub fn is_address(text: &str) -> bool {
    address(text).is_some()
}

/// A text as a part of a path or query.
#[must_use]
pub fn encoded(text: &str) -> String {
    key::encoded_query(text)
}
