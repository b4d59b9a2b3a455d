//! What went wrong at a place, and what may be done about it. In: a class, what was tried, the cause. Out: an error
//! whose text has no credentials and cannot steer a terminal.

use std::error::Error;
use std::fmt::{self, Write};

use service_kit::text::one_line;

/// Longest text of an outsider that an error shows, in characters.
pub(crate) const SAID_MAX: usize = 200;

/// What kind of failure it is: what decides whether, and how, to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// No connection: name, route, refusal, TLS handshake, or the wait for them; or an address that we do not speak to.
    Unreachable,
    /// A connection on which nothing moved for the time-out.
    Stuck,
    /// We are not who we should be: 401, 403 (to a read over HTTP it is absence), keys that are wrong, expired or absent.
    Credentials,
    /// 413: the object is larger than the place takes.
    TooLarge,
    /// 411: the place takes bodies of known length alone. Measure it, and put it with [`BodySize::exact`].
    ///
    /// [`BodySize::exact`]: crate::BodySize::exact
    LengthRequired,
    /// 501 to the stream of a [`Mode::Create`]: the place knows no conditional writes, which is remembered. Put it again.
    ///
    /// [`Mode::Create`]: crate::Mode::Create
    NoConditions,
    /// 429, 503 and S3's own words for them: later.
    Busy,
    /// The place is broken: other 5xx, answers that are cut off or make no sense.
    Server,
    /// The place does not want this, or cannot do it: other 4xx, 501, redirects that lead nowhere.
    Refused,
    /// Our own disk or settings.
    Local,
    /// The body's own error, which [`Error::source`] has unchanged.
    Body,
}

/// A failed operation.
#[derive(Debug)]
pub struct ObjectError {
    /// What kind of failure.
    pub class: Class,
    /// What was tried: `get`, `look for`, `put`, `list`, `delete`, `settle`, `list uploads below`, `abort an upload of`.
    pub tried: &'static str,
    /// On which object; none for a whole place.
    pub key: Option<String>,
    /// Where, without credentials.
    pub place: String,
    /// Why.
    source: BoxError,
}

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

impl ObjectError {
    pub(crate) fn new(tried: &'static str, key: &str, place: &str, fault: Fault) -> Self {
        let key = (!key.is_empty()).then(|| key.to_owned());
        Self { class: fault.class, tried, key, place: place.to_owned(), source: fault.source }
    }

    /// The cause as the type it was, for the errors of a body.
    #[must_use]
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tried)?;
        if let Some(key) = &self.key {
            write!(f, " {}", one_line(key))?;
        }
        write!(f, " at {}", one_line(&self.place))
    }
}

impl Error for ObjectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// A failure before it is known what for.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) source: BoxError,
    /// What the server asked for: 503 with `Retry-After`, in seconds.
    pub(crate) wait_s: Option<u64>,
}

impl Fault {
    pub(crate) fn new(class: Class, source: impl Into<BoxError>) -> Self {
        Self { class, source: source.into(), wait_s: None }
    }

    pub(crate) fn local(source: impl Into<BoxError>) -> Self {
        Self::new(Class::Local, source)
    }
}

/// What an outsider said, made fit for one line: at most [`SAID_MAX`] characters, nothing that steers a terminal.
pub(crate) fn said(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(SAID_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    one_line(&short).to_string()
}

/// An error and its causes in one line, each once.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = one_line(&error.to_string()).to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = one_line(&cause.to_string()).to_string();
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}"); // a String takes everything
        }
        next = cause.source();
    }
    text
}
