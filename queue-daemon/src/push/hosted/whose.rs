//! As whom a service is spoken to, where to look when it refuses that, and the clients for its addresses.
//!
//! In flows what is configured; out flow a token, told anew for each batch, and faults that name the remedy. A refusal
//! is remembered until the engine has had the credentials' source asked anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nix_types::narinfo::NARINFO_BYTES_MAX;
use nix_types::{NarInfo, StorePath};
use object_kit::{Api, Call, Line, ObjectError, Secret};
use serde::Deserialize;

use super::{Fault, faults};
use crate::delivery::FaultClass;
use crate::push::credentials::Credentials;

/// Who speaks.
pub(crate) struct Whose {
    credentials: Option<Arc<Credentials>>,
    remedy: String,
    was_refused: AtomicBool,
}

/// Clients for the addresses that were used last, so that connections are used again.
pub(super) struct Clients {
    line: Line,
    apis: Mutex<Vec<Arc<Api>>>,
}

impl Whose {
    /// Credentials that are configured, if any are; `where_else` says what to mend when there are none.
    pub(super) fn new(credentials: Option<Arc<Credentials>>, where_else: String) -> Self {
        let remedy = credentials.as_ref().map(|credentials| credentials.remedy()).unwrap_or(where_else);
        Self { credentials, remedy, was_refused: AtomicBool::new(false) }
    }

    pub(super) fn configured(&self) -> Option<&Credentials> {
        self.credentials.as_deref()
    }

    pub(super) fn remedy(&self) -> &str {
        &self.remedy
    }

    /// What a call came to. Who we are is the whole destination's matter and no path's.
    pub(super) fn fault_of(&self, error: &ObjectError) -> Fault {
        match faults::of_object(error) {
            Fault::Failed { why, output, .. } if error.class == object_kit::Class::Credentials => {
                self.was_refused.store(true, Ordering::Relaxed);
                let why = format!("{why}; {}", self.remedy);
                Fault::Failed { class: FaultClass::Unreachable, why, output }
            }
            fault => fault,
        }
    }

    /// Has the source asked anew after a refusal; says whether that may help.
    pub(super) async fn ask_anew(&self) -> bool {
        match &self.credentials {
            Some(credentials) if self.was_refused.swap(false, Ordering::Relaxed) => {
                credentials.forget_what_was_refused().await;
                true
            }
            _ => false,
        }
    }
}

impl Clients {
    pub(super) fn new(line: Line) -> Self {
        Self { line, apis: Mutex::default() }
    }

    /// The client for an address.
    pub(super) fn at(&self, base: &str) -> Result<Arc<Api>, Fault> {
        let mut apis = self.apis.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(api) = apis.iter().find(|api| api.place() == base.trim_end_matches('/')) {
            return Ok(Arc::clone(api));
        }
        let api = Api::new(base, &self.line);
        let api =
            Arc::new(api.map_err(|error| Fault::failed(FaultClass::Unreachable, object_kit::chain(&error)))?);
        apis.truncate(2); // an address that is used no more
        apis.insert(0, Arc::clone(&api));
        Ok(api)
    }
}

/// What readers are told of a path at an address; `None` when it is not there.
pub(super) async fn read_narinfo(
    at: &Api,
    token: Option<&Secret>,
    path: &StorePath,
    whose: &Whose,
) -> Result<Option<NarInfo>, Fault> {
    let call = Call {
        method: "GET",
        path: NarInfo::key_of(path),
        tried: "read a narinfo",
        headers: vec![("cache-control", "no-cache".into())],
        token: token.cloned(),
    };
    let said = at.call(&call, Bytes::new(), NARINFO_BYTES_MAX).await;
    let Some(said) = said.map_err(|error| whose.fault_of(&error))? else { return Ok(None) };
    let bad = |why: String| {
        let why = format!("the narinfo of {path} at {} cannot be read: {why}", at.place());
        Fault::failed(FaultClass::Failed, why)
    };
    let text = std::str::from_utf8(&said).map_err(|error| bad(error.to_string()))?;
    NarInfo::parse(text, path.store_dir()).map(Some).map_err(|error| bad(object_kit::chain(&error)))
}

/// An answer in JSON.
pub(super) fn parsed<'a, T: Deserialize<'a>>(
    said: &'a [u8],
    call: &Call,
    place: &str,
    server: &str,
) -> Result<T, Fault> {
    serde_json::from_slice(said).map_err(|error| {
        let tried = call.tried;
        let why = format!("{tried} at {place}: the answer makes no sense ({error}); is this {server}?");
        Fault::failed(FaultClass::Failed, why)
    })
}

/// Before anything is sent no path is to blame.
pub(super) fn unreachable(fault: Fault) -> Fault {
    match fault {
        Fault::Failed { why, output, .. } => Fault::Failed { class: FaultClass::Unreachable, why, output },
        fault => fault,
    }
}
