//! Stand-ins for the metadata services of Google's and Azure's machines, after their documents: tokens for the machine's
//! own identity, given only to those who ask as they must. A machine without an identity has none to give.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::double::{Double, lock};
use crate::http_cache::wire::{Answer, Request};

/// A running metadata service; it ends with this value.
#[derive(Debug)]
pub struct Metadata {
    double: Double,
    token: Arc<Mutex<Option<String>>>,
}

impl Metadata {
    /// Google's, on a machine without a service account.
    #[must_use]
    pub fn google() -> Self {
        Self::start(google)
    }

    /// Azure's, on a machine without an identity.
    #[must_use]
    pub fn azure() -> Self {
        Self::start(azure)
    }

    fn start(answer: fn(&Request, Option<&str>) -> Answer) -> Self {
        let token = Arc::new(Mutex::new(None));
        let of_server: Arc<Mutex<Option<String>>> = Arc::clone(&token);
        let double = Double::start(move |request| answer(request, lock(&of_server).as_deref()));
        Self { double, token }
    }

    /// `http://ADDRESS:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        self.double.url()
    }

    /// Gives the machine an identity with this token.
    pub fn give(&self, token: &str) {
        *lock(&self.token) = Some(token.to_owned());
    }

    /// Method and path of all requests, in their order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.double.log()
    }
}

fn google(request: &Request, token: Option<&str>) -> Answer {
    let flavored = request.headers.get("metadata-flavor").is_some_and(|flavor| flavor == "Google");
    let forwarded = request.headers.contains_key("x-forwarded-for");
    let mut answer = match (request.method.as_str(), request.path().as_str(), token) {
        _ if !flavored || forwarded => Answer::status(403),
        ("GET", "/computeMetadata/v1/instance/service-accounts/default/token", Some(token)) => {
            let body = json!({ "access_token": token, "expires_in": 3599, "token_type": "Bearer" });
            Answer::json(200, &body.to_string())
        }
        _ => Answer::status(404),
    };
    answer.set("Metadata-Flavor", "Google");
    answer
}

fn azure(request: &Request, token: Option<&str>) -> Answer {
    let asked = request.headers.get("metadata").is_some_and(|flag| flag == "true");
    let refused = |error: &str| Answer::json(400, &json!({ "error": error }).to_string());
    match (request.method.as_str(), request.path().as_str(), token) {
        _ if !asked => refused("invalid_request"),
        ("GET", "/metadata/identity/oauth2/token", Some(token)) => {
            match (request.query("api-version").as_deref(), request.query("resource")) {
                (Some("2018-02-01"), Some(resource)) => {
                    let body = json!({
                        "access_token": token, "client_id": "c", "expires_in": "86399", "expires_on": "1769940000",
                        "ext_expires_in": "86399", "not_before": "1769853600", "resource": resource, "token_type": "Bearer",
                    });
                    Answer::json(200, &body.to_string())
                }
                _ => refused("bad_request"),
            }
        }
        ("GET", "/metadata/identity/oauth2/token", None) => refused("invalid_request: Identity not found"),
        _ => Answer::status(404),
    }
}
