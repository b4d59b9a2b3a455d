//! A stand-in for a Vault, after its documented API: secrets of KV engines of version 2, and what a token may ask about
//! itself. Keeps state: versions, namespaces, tokens that end, are renewed up to their longest time, or are revoked. Its
//! time is moved by the test. Leaves out everything else, policies included, but for a token that may not look at itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::double::{Double, lock};
use crate::http_cache::wire::{Answer, Request};

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Vault {
    double: Double,
    state: Arc<Mutex<State>>,
}

/// A token's rules.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Seconds it holds, from its creation and after each renewal; 0 for ever.
    pub ttl: u64,
    /// Seconds from its creation after which it ends whatever is renewed.
    pub ttl_max: u64,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// Whether it may look at itself.
    pub may_look: bool,
    /// The namespace it is of; empty for the root.
    pub namespace: String,
}

impl Rules {
    /// A renewable token of the root namespace.
    #[must_use]
    pub fn renewable(ttl: u64, ttl_max: u64) -> Self {
        Self { ttl, ttl_max, renewable: true, may_look: true, namespace: String::new() }
    }
}

#[derive(Debug)]
struct Token {
    rules: Rules,
    created: u64,
    ends: u64,
}

#[derive(Debug, Default)]
struct State {
    now: u64,
    sealed: bool,
    tokens: BTreeMap<String, Token>,
    /// By namespace, mount and path: each version's data; none for one that was deleted.
    secrets: BTreeMap<(String, String, String), Vec<Option<Value>>>,
}

impl Vault {
    /// Starts one without tokens and secrets.
    #[must_use]
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let of_server = Arc::clone(&state);
        let double = Double::start(move |request| lock(&of_server).answer(request));
        Self { double, state }
    }

    /// `http://ADDRESS:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        self.double.url()
    }

    /// Method and path of all requests, in their order.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.double.log()
    }

    /// Makes a token.
    pub fn token(&self, token: &str, rules: Rules) {
        let mut state = lock(&self.state);
        let created = state.now;
        let ends = if rules.ttl == 0 { u64::MAX } else { created + rules.ttl };
        state.tokens.insert(token.to_owned(), Token { rules, created, ends });
    }

    /// Takes a token away.
    pub fn revoke(&self, token: &str) {
        lock(&self.state).tokens.remove(token);
    }

    /// Writes the next version of a secret; `data` is a JSON object, `null` deletes the newest version.
    ///
    /// # Panics
    /// When `data` is no JSON.
    pub fn write(&self, namespace: &str, mount: &str, path: &str, data: &str) {
        let data: Value = serde_json::from_str(data).expect("the test writes JSON");
        let key = (namespace.to_owned(), mount.to_owned(), path.to_owned());
        let mut state = lock(&self.state);
        state.secrets.entry(key).or_default().push((!data.is_null()).then_some(data));
    }

    /// Moves its time on.
    pub fn pass(&self, seconds: u64) {
        lock(&self.state).now += seconds;
    }

    /// Seals it, or opens it again.
    pub fn seal(&self, sealed: bool) {
        lock(&self.state).sealed = sealed;
    }

    /// Seconds a token still holds; none when it has ended.
    #[must_use]
    pub fn left(&self, token: &str) -> Option<u64> {
        let state = lock(&self.state);
        state.tokens.get(token)?.ends.checked_sub(state.now).filter(|left| *left > 0)
    }
}

fn errors(status: u16, texts: &[&str]) -> Answer {
    Answer::json(status, &json!({ "errors": texts }).to_string())
}

impl State {
    fn answer(&mut self, request: &Request) -> Answer {
        if self.sealed {
            return errors(503, &["Vault is sealed"]);
        }
        let namespace = request.headers.get("x-vault-namespace").cloned().unwrap_or_default();
        let given = request.headers.get("x-vault-token").cloned().unwrap_or_default();
        let now = self.now;
        let holds = |token: &&mut Token| now < token.ends && token.rules.namespace == namespace;
        let Some(token) = self.tokens.get_mut(&given).filter(holds) else {
            return errors(403, &["permission denied"]);
        };
        let path = request.path();
        match (request.method.as_str(), path.strip_prefix("/v1/").unwrap_or_default()) {
            ("GET", "auth/token/lookup-self") if token.rules.may_look => token.looked_at(now),
            ("POST" | "PUT", "auth/token/renew-self") if token.rules.may_look => token.renew(now),
            (_, "auth/token/lookup-self" | "auth/token/renew-self") => errors(403, &["permission denied"]),
            ("GET", path) => self.secret(&namespace, path),
            _ => errors(405, &["unsupported operation"]),
        }
    }

    fn secret(&self, namespace: &str, path: &str) -> Answer {
        let mounted = self.secrets.keys().any(|(at, mount, _)| {
            at == namespace && path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'))
        });
        if !mounted {
            let said = format!("no handler for route \"{path}\". route entry not found.");
            return errors(404, &[&said]);
        }
        let found = self
            .secrets
            .iter()
            .find(|((at, mount, inside), _)| at == namespace && format!("{mount}/data/{inside}") == path);
        let Some((_, versions)) = found else { return errors(404, &[]) };
        let newest = versions.last().cloned().flatten();
        let metadata = json!({
            "created_time": "2026-01-31T10:00:00.000000000Z",
            "custom_metadata": null,
            "deletion_time": if newest.is_some() { "" } else { "2026-01-31T11:00:00.000000000Z" },
            "destroyed": false,
            "version": versions.len(),
        });
        let status = if newest.is_some() { 200 } else { 404 };
        let body = json!({
            "request_id": "0", "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": { "data": newest, "metadata": metadata },
            "wrap_info": null, "warnings": null, "auth": null,
        });
        Answer::json(status, &body.to_string())
    }
}

impl Token {
    fn looked_at(&self, now: u64) -> Answer {
        let ttl = if self.rules.ttl == 0 { 0 } else { self.ends - now };
        let data = json!({
            "accessor": "a", "creation_time": self.created, "creation_ttl": self.rules.ttl,
            "display_name": "token", "explicit_max_ttl": self.rules.ttl_max, "policies": ["ci"],
            "renewable": self.rules.renewable, "ttl": ttl, "type": "service",
        });
        Answer::json(200, &json!({ "data": data }).to_string())
    }

    fn renew(&mut self, now: u64) -> Answer {
        if !self.rules.renewable {
            return errors(400, &["lease is not renewable"]);
        }
        self.ends = (now + self.rules.ttl).min(self.created + self.rules.ttl_max);
        let auth = json!({ "lease_duration": self.ends - now, "renewable": true, "policies": ["ci"] });
        Answer::json(200, &json!({ "auth": auth }).to_string())
    }
}
