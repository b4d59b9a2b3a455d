//! A service of a test's own in the server: what it answers itself. In: requests, and the objects that are there. Out:
//! answers to those it knows; the others are answered as ever.

use std::collections::BTreeMap;
use std::fmt;

use super::Stored;
use super::wire::{Answer, Request};

/// A request that was read whole.
#[derive(Debug)]
pub struct Asked<'a> {
    /// `PUT` and the like.
    pub method: &'a str,
    /// Decoded.
    pub path: String,
    /// Names in lower case.
    pub headers: &'a BTreeMap<String, String>,
    /// Its bytes.
    pub body: &'a [u8],
    request: &'a Request,
}

impl Asked<'_> {
    /// A part of the query, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        self.request.query(name)
    }
}

/// What a service says: a status and a body.
pub type Said = (u16, String);

/// Answers what it knows.
pub type Service = Box<dyn FnMut(&mut BTreeMap<String, Stored>, &Asked<'_>) -> Option<Said> + Send>;

/// The service of a server, if it has one.
#[derive(Default)]
pub(super) struct Slot(Option<Service>);

impl Slot {
    pub(super) fn set(&mut self, service: Service) {
        self.0 = Some(service);
    }

    pub(super) fn answer(
        &mut self,
        objects: &mut BTreeMap<String, Stored>,
        request: &Request,
    ) -> Option<Answer> {
        let Request { method, headers, body, .. } = request;
        let asked = Asked { method, path: request.path(), headers, body, request };
        let (status, text) = self.0.as_mut()?(objects, &asked)?;
        let headers = vec![("Content-Type".into(), "application/json".into())];
        Some(Answer::refusal(status, headers, &text))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0.is_some())
    }
}

/// An object that a service puts there.
#[must_use]
pub fn stored(bytes: Vec<u8>) -> Stored {
    let etag = super::etag(&bytes);
    Stored { bytes, headers: BTreeMap::new(), etag }
}
