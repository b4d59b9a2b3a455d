//! Why there are no credentials. In: a source, a place, what was wrong, a remedy. Out: an error without a byte of any
//! secret: what outsiders say is redacted and shortened before it comes here.

use std::error::Error;
use std::fmt;

use service_kit::telemetry::chain;
use service_kit::text::one_line;

/// Longest text of an outsider that an error shows, in characters.
const SAID_MAX: usize = 200;

/// What may be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The source is out of reach or busy: it may be back by itself.
    Later,
    /// Somebody has to set, mend or allow something.
    Mend,
}

/// Credentials that could not be had.
#[derive(Debug)]
pub struct SecretError {
    /// What may be done about it.
    pub class: Class,
    /// The source, as the configuration calls it: `vault`.
    pub source_kind: &'static str,
    /// Where in the source: a variable, a file, an address.
    pub place: String,
    /// What was wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    pub(crate) cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SecretError {
    pub(crate) fn mend(place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (place, what, remedy) = (place.into(), what.into(), remedy.into());
        Self { class: Class::Mend, source_kind: "", place, what, remedy, cause: None }
    }

    pub(crate) fn later(
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { class: Class::Later, ..Self::mend(place, what, remedy) }
    }

    /// The same once more, for another who asked.
    pub(crate) fn again(&self) -> Self {
        let Self { class, source_kind, place, what, remedy, cause } = self;
        let (place, what, remedy) = (place.clone(), what.clone(), remedy.clone());
        let cause = cause.as_ref().map(|cause| chain(&**cause).into());
        Self { class: *class, source_kind, place, what, remedy, cause }
    }

    pub(crate) fn because(self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Names the source.
    pub(crate) fn of(self, source_kind: &'static str) -> Self {
        Self { source_kind, ..self }
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source_kind, place, what, remedy, .. } = self;
        write!(
            f,
            "credentials of {source_kind}, {}: {}; {}",
            one_line(place),
            one_line(what),
            one_line(remedy)
        )
    }
}

impl Error for SecretError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// What an outsider said, cut to [`SAID_MAX`] characters.
pub(crate) fn said(text: &str) -> String {
    let text = text.trim();
    let mut short: String = text.chars().take(SAID_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    one_line(&short).to_string()
}
