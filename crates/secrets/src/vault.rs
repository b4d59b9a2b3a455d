//! A secret of a Vault's KV engine, version 2. In: where it is, and a token. Out: its fields as they are now. A token that
//! may be renewed is, once two thirds of its time are over: at a read, and by [`Vault::tend`] in between.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use object_kit::Line;
use object_kit::ask::{Question, Reply, encoded};
use serde::Deserialize;
use service_kit::clock::Mono;
use service_kit::http::Roots;
use tokio::sync::Mutex;

use crate::error::said;
use crate::file::CONTENT_MAX;
use crate::local::{self, FromFile};
use crate::parse::{Pairs, json_error};
use crate::source::{VaultSecret, VaultToken};
use crate::{Lookup, Redactor, Secret, SecretError, Values};

/// Most bytes of an answer: a secret as escaped JSON, and what stands around it.
const ANSWER_MAX: usize = 2 * CONTENT_MAX;
/// Shortest wait before a token is renewed, or looked at, again.
const RENEW_MIN: Duration = Duration::from_secs(10);
/// How long a token that may not be looked at is left alone.
const LOOK_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A secret, and what is known of the token that opens it.
pub(crate) struct Vault {
    at: VaultSecret,
    lookup: Lookup,
    line: Line,
    life: Mutex<Option<Life>>,
}

/// What is known of a token.
#[derive(Debug)]
struct Life {
    token: Secret,
    /// When to see to it next; none for one that has no end.
    due: Option<Mono>,
    /// Whether it may be renewed then; it is looked at otherwise.
    renewable: bool,
}

#[derive(Deserialize)]
struct Told<T> {
    data: T,
}

#[derive(Deserialize)]
struct Looked {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    creation_ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Renewed {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Deserialize)]
struct Fields {
    data: Option<Pairs>,
}

#[derive(Deserialize, Default)]
struct Errors {
    #[serde(default)]
    errors: Vec<String>,
}

impl Vault {
    pub(crate) fn new(at: VaultSecret, lookup: Lookup, line: &Line) -> Self {
        let mut line = line.clone();
        if let Some(file) = &at.ca_file {
            line.roots = Roots::File(file.clone());
        }
        Self { at, lookup, line, life: Mutex::default() }
    }

    /// Reads the secret.
    pub(crate) async fn read(&self) -> Result<FromFile<Values>, SecretError> {
        let FromFile { value: token, open } = self.token().await?;
        self.see_to(&token).await;
        let reply = self.ask(&self.question(&self.path(), &token, None), &token).await?;
        let told: Told<Fields> = serde_json::from_slice(&reply.body).map_err(|error| {
            let what = format!("the answer is none of a KV engine of version 2: it {}", json_error(&error));
            SecretError::mend(self.place(), what, "check address and mount")
        })?;
        let gone = || SecretError::mend(self.place(), "its newest version is deleted", "write it anew");
        let map = self.chosen(told.data.data.ok_or_else(gone)?.0)?;
        Ok(FromFile { value: Values::lasting(map), open })
    }

    /// Keeps the token in force, until it is dropped. What fails is logged, and tried again later.
    pub(crate) async fn tend(&self) {
        loop {
            let clock = &self.line.clock;
            let due = self.life.lock().await.as_ref().map(|life| life.due);
            let again = clock.mono() + LOOK_AGAIN;
            clock.sleep_until(due.flatten().unwrap_or(again)).await;
            match self.token().await {
                Ok(from) => self.see_to(&from.value).await,
                Err(error) => tracing::warn!("{}", object_kit::chain(&error.of("vault"))),
            }
        }
    }

    async fn token(&self) -> Result<FromFile<Secret>, SecretError> {
        match &self.at.token {
            VaultToken::Env(name) => {
                local::variable(&self.lookup, name).map(|value| FromFile { value, open: None })
            }
            VaultToken::File(path) => local::text(path.clone()).await,
        }
    }

    /// Looks at a token that is new, renews one that is due. The read that follows says whether it opens anything.
    async fn see_to(&self, token: &Secret) {
        let mut life = self.life.lock().await;
        let now = self.line.clock.mono();
        let known = life.as_ref().filter(|life| life.token == *token);
        if known.is_some_and(|life| life.due.is_none_or(|due| now < due)) {
            return;
        }
        let renewable = known.is_some_and(|life| life.renewable);
        let next = if renewable { self.renew(token).await } else { self.look(token).await };
        let place = self.place();
        let (due, renewable) = match next {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!("the token for {place} may end: {}", object_kit::chain(&error.of("vault")));
                (Some(now + if renewable { RENEW_MIN } else { LOOK_AGAIN }), renewable)
            }
        };
        *life = Some(Life { token: token.clone(), due, renewable });
    }

    /// Finds out how long a token holds; renews it at once where its time is nearly over.
    async fn look(&self, token: &Secret) -> Result<(Option<Mono>, bool), SecretError> {
        let question = self.question("auth/token/lookup-self", token, None);
        let Looked { ttl, creation_ttl, renewable } = self.told::<Told<Looked>>(&question, token).await?.data;
        if ttl == 0 {
            return Ok((None, false));
        }
        let third = creation_ttl.max(ttl) / 3;
        let left = Duration::from_secs(ttl.saturating_sub(third));
        match (renewable, left.is_zero()) {
            (true, true) => self.renew(token).await,
            (false, true) => {
                let place = self.place();
                tracing::warn!(
                    "the token for {place} ends in {ttl} s and cannot be renewed; put another in its place"
                );
                Ok((Some(self.line.clock.mono() + LOOK_AGAIN), false))
            }
            (_, false) => Ok((Some(self.line.clock.mono() + left.max(RENEW_MIN)), renewable)),
        }
    }

    async fn renew(&self, token: &Secret) -> Result<(Option<Mono>, bool), SecretError> {
        let body = Bytes::from_static(b"{}");
        let question = self.question("auth/token/renew-self", token, Some(body));
        let Auth { lease_duration, renewable } = self.told::<Renewed>(&question, token).await?.auth;
        let left = Duration::from_secs(lease_duration) * 2 / 3;
        tracing::debug!("the token for {} was renewed for {lease_duration} s", self.place());
        Ok((Some(self.line.clock.mono() + left.max(RENEW_MIN)), renewable))
    }

    async fn told<T: for<'a> Deserialize<'a>>(
        &self,
        question: &Question,
        token: &Secret,
    ) -> Result<T, SecretError> {
        let reply = self.ask(question, token).await?;
        serde_json::from_slice(&reply.body).map_err(|error| {
            let what = format!("the answer about the token makes no sense: it {}", json_error(&error));
            SecretError::later(self.place(), what, "check the address")
        })
    }

    fn question(&self, path: &str, token: &Secret, body: Option<Bytes>) -> Question {
        let url = format!("{}/v1/{path}", self.at.address);
        let question = match body {
            Some(body) => Question::post(url, body),
            None => Question::get(url),
        };
        let question =
            question.header("x-vault-token", token.clone()).header("x-vault-request", Secret::new("true"));
        match &self.at.namespace {
            Some(namespace) => question.header("x-vault-namespace", Secret::new(namespace.as_str())),
            None => question,
        }
    }

    /// The secret's path in the API.
    fn path(&self) -> String {
        let parts = |path: &str| path.split('/').map(encoded).collect::<Vec<_>>().join("/");
        format!("{}/data/{}", parts(&self.at.mount), parts(&self.at.path))
    }

    fn place(&self) -> String {
        let namespace = self.at.namespace.as_ref().map(|name| format!(" in namespace {name}"));
        format!("{} at {}{}", self.path(), self.at.address, namespace.unwrap_or_default())
    }

    async fn ask(&self, question: &Question, token: &Secret) -> Result<Reply, SecretError> {
        let reply = question.ask(&self.line, ANSWER_MAX).await.map_err(|error| {
            SecretError::later(self.place(), "Vault gives no answer", "check the address and the network")
                .because(error)
        })?;
        if reply.is_success() { Ok(reply) } else { Err(self.refusal(&reply, token)) }
    }

    fn refusal(&self, reply: &Reply, token: &Secret) -> SecretError {
        let Errors { errors } = serde_json::from_slice(&reply.body).unwrap_or_default();
        let told = Redactor::new([token]).text(&format!("{} {}", reply.status, errors.join(", ")));
        let what = format!("Vault answers {}", said(&told));
        let place = self.place();
        match reply.status {
            403 => SecretError::mend(
                place,
                what,
                "put a token in force whose policy has read on this path, and check the namespace",
            ),
            404 => SecretError::mend(
                place,
                what,
                "correct mount, secret_path (without the mount) or namespace, or write the secret",
            ),
            408 | 429 | 500.. => SecretError::later(place, what, "unseal or restart it if it stays so"),
            300..400 => SecretError::mend(place, what, "write the address that it redirects to"),
            _ => SecretError::mend(place, what, "check address, mount and secret_path"),
        }
    }

    /// The fields that are wanted, by the names they get.
    fn chosen(&self, all: BTreeMap<String, Secret>) -> Result<BTreeMap<String, Secret>, SecretError> {
        if self.at.fields.is_empty() {
            return Ok(all);
        }
        let there = all.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut chosen = BTreeMap::new();
        for (name, field) in &self.at.fields {
            let value = all.get(field).cloned().ok_or_else(|| {
                let what = format!("has no field {field}; it has {there}");
                SecretError::mend(self.place(), what, format!("correct fields.{name}"))
            })?;
            chosen.insert(name.clone(), value);
        }
        Ok(chosen)
    }
}
