//! As whom a destination is spoken to, where its `credentials` say so.
//!
//! In flow the names and values that a source gives; out flow keys for a bucket, a login for an HTTP server, variables
//! for a command. Asked at each use, and kept for `credentials_ttl`: what is changed in its place needs no restart.
//! Leaves out how sources are read, which is for `secrets`.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use nix_store::process::{self, Exit, Spec, Tail};
use object_kit::aws::Keys;
use object_kit::{Line, Login, Teller, Work};
use secrets::{Means, Reader, Redactor, Secret, SecretError, Source, Values};
use service_kit::clock::Clock;
use service_kit::http::Reach;
use service_kit::telemetry::chain;
use tokio::task::JoinHandle;

use super::Fault;
use crate::config::CacheConfig;
use crate::delivery::FaultClass;

/// How requests name us.
pub(crate) const USER_AGENT: &str = concat!("eka-queue/", env!("CARGO_PKG_VERSION"));
/// Longest a program that gives credentials may take.
const PROGRAM_WITHIN: Duration = Duration::from_secs(60);
/// Most it may print.
const PROGRAM_BYTES_MAX: usize = 64 << 10;
/// The daemon's own word to a command, and the service manager's to the daemon.
const TAKEN: [&str; 5] = ["OUT_PATHS", "DRV_PATH", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The credentials of one destination.
#[derive(Debug)]
pub(crate) struct Credentials {
    reader: Arc<Reader>,
    /// Keeps in force what has to be.
    tending: JoinHandle<()>,
}

/// The values make no sense for this kind of destination.
#[derive(Debug, thiserror::Error)]
#[error("credentials of {kind}: {what}; {remedy}")]
struct OfNoUse {
    kind: &'static str,
    what: String,
    remedy: &'static str,
}

/// What a command gets.
pub(crate) struct Variables {
    values: Arc<Values>,
    redactor: Redactor,
}

impl Credentials {
    /// Those that a destination is configured with; none when it is to find them as other programs do. Reads nothing yet.
    pub(crate) fn of(cache: &CacheConfig, clock: &Clock) -> Option<Arc<Self>> {
        let source = cache.credentials.clone()?;
        let means = Means {
            lookup: lookup(),
            runner: Some(runner()),
            line: Line::new(clock.clone(), USER_AGENT, Reach::Private),
            kept: cache.credentials_ttl,
        };
        let reader = Reader::new(source, means);
        let tended = Arc::clone(&reader);
        let tending = tokio::spawn(async move { tended.tend().await });
        Some(Arc::new(Self { reader, tending }))
    }

    /// That there are none, and that none are looked for.
    pub(crate) fn are_none(&self) -> bool {
        *self.reader.source() == Source::None
    }

    /// The variables for a command.
    ///
    /// # Errors
    /// [`FaultClass::Unreachable`] when they cannot be had: no path is to blame.
    pub(crate) async fn variables(&self) -> Result<Variables, Fault> {
        let failed = |why: String| Fault::failed(FaultClass::Unreachable, why);
        let values = self.reader.read().await.map_err(|error| failed(chain(&error)))?;
        for (name, value) in values.iter() {
            if !is_variable(name) || value.reveal().contains('\0') {
                let what = "a name or value in it is none that a program can be given";
                return Err(failed(
                    self.of_no_use(what, "name them as variables, other than the daemon's own").to_string(),
                ));
            }
        }
        let redactor = Redactor::new(values.iter().map(|(_, value)| value));
        Ok(Variables { values, redactor })
    }

    /// A token for a service, if the source has any.
    ///
    /// # Errors
    /// [`FaultClass::Unreachable`] when it cannot be had: no path is to blame.
    pub(crate) async fn token(&self) -> Result<Option<Secret>, Fault> {
        Ok(self.token_and_signing_key().await?.0)
    }

    /// The same, and a key to sign with.
    ///
    /// # Errors
    /// As [`token`](Self::token).
    pub(crate) async fn token_and_signing_key(&self) -> Result<(Option<Secret>, Option<Secret>), Fault> {
        let failed = |why: String| Fault::failed(FaultClass::Unreachable, why);
        let values = self.reader.read().await.map_err(|error| failed(chain(&error)))?;
        let named = |words: &[&str]| self.named(&values, words).map_err(|error| failed(error.to_string()));
        let (token, key) = (named(&["TOKEN"])?, named(&["SIGNING_KEY"])?);
        let token = token.or_else(|| values.only().filter(|_| key.is_none())).cloned();
        if token.is_none() && !self.are_none() {
            let names: Vec<&str> = values.names().collect();
            let what = format!("there is no token in what it gives ({})", names.join(", "));
            return Err(failed(
                self.of_no_use(what, "name it TOKEN, or so that it ends in _TOKEN").to_string(),
            ));
        }
        Ok((token, key.cloned()))
    }

    /// What to mend when a service refuses what the source gives.
    pub(crate) fn remedy(&self) -> String {
        let kind = self.reader.source().kind();
        format!(
            "what `credentials` ({kind}) gives has to be a token that may read from and write to this cache"
        )
    }

    /// The next value is not from memory.
    pub(crate) async fn forget_what_was_refused(&self) {
        self.reader.forget().await;
    }

    fn of_no_use(&self, what: impl Into<String>, remedy: &'static str) -> OfNoUse {
        OfNoUse { kind: self.reader.source().kind(), what: what.into(), remedy }
    }

    fn login(&self, values: &Values) -> Result<Login, BoxError> {
        let user = self.named(values, &["USERNAME", "USER"])?;
        let password = self.named(values, &["PASSWORD"])?;
        let token = self.named(values, &["TOKEN"])?;
        match (user, password, token) {
            (Some(user), Some(password), None) => {
                Ok(Login::Basic { user: user.reveal().to_owned(), password: password.clone() })
            }
            (None, None, Some(token)) => Ok(Login::Bearer(token.clone())),
            (None, None, None) if values.only().is_some() => {
                Ok(values.only().cloned().map_or(Login::Nobody, Login::Bearer))
            }
            _ => {
                let names: Vec<&str> = values.names().collect();
                let what = format!(
                    "an HTTP server is given a token, or a user and a password, not {}",
                    names.join(", ")
                );
                Err(self.of_no_use(what, "name them TOKEN, or USERNAME and PASSWORD").into())
            }
        }
    }

    /// The two keys of a bucket: AWS' own names, or one pair of names that end so, as `MINIO_ACCESS_KEY` does.
    fn keys<'a>(&self, values: &'a Values) -> Result<(&'a Secret, &'a Secret), BoxError> {
        if values.get("AWS_ACCESS_KEY_ID").is_none() {
            let secret = self.named(values, &["SECRET_KEY", "SECRET_ACCESS_KEY"])?;
            let id = self.named(values, &["ACCESS_KEY", "ACCESS_KEY_ID"])?;
            if let Some(pair) = id.zip(secret) {
                return Ok(pair);
            }
        }
        Ok((values.need("AWS_ACCESS_KEY_ID")?, values.need("AWS_SECRET_ACCESS_KEY")?))
    }

    /// The value that has one of these names, or one that ends so: `CACHE_TOKEN` is a token.
    fn named<'a>(&self, values: &'a Values, words: &[&str]) -> Result<Option<&'a Secret>, BoxError> {
        let is_it = |name: &str| {
            let name = name.to_ascii_uppercase().replace('-', "_");
            words.iter().any(|word| {
                let rest = name.strip_suffix(word);
                // `X_SECRET_ACCESS_KEY` is the other key.
                let other =
                    word.starts_with("ACCESS_KEY") && rest.is_some_and(|rest| rest.ends_with("SECRET_"));
                !other && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('_'))
            })
        };
        let mut found = values.iter().filter(|(name, value)| is_it(name) && !value.reveal().is_empty());
        match (found.next(), found.next()) {
            (Some((first, _)), Some((second, _))) => {
                let what = format!("{first} and {second} are both there");
                Err(self.of_no_use(what, "keep one of them").into())
            }
            (first, _) => Ok(first.map(|(_, value)| value)),
        }
    }

    async fn values(&self) -> Result<Arc<Values>, SecretError> {
        self.reader.read().await
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

impl Teller<Keys> for Credentials {
    fn tell(&self) -> Work<'_, Result<Keys, BoxError>> {
        Box::pin(async move {
            let values = self.values().await?;
            let (id, secret) = self.keys(&values)?;
            let session = values.get("AWS_SESSION_TOKEN").cloned();
            Ok(Keys { id: id.reveal().to_owned(), secret: secret.clone(), session })
        })
    }

    fn forget(&self) -> Work<'_, ()> {
        Box::pin(self.reader.forget())
    }
}

impl Teller<Login> for Credentials {
    fn tell(&self) -> Work<'_, Result<Login, BoxError>> {
        Box::pin(async move { self.login(&*self.values().await?) })
    }

    fn forget(&self) -> Work<'_, ()> {
        Box::pin(self.reader.forget())
    }
}

impl Variables {
    /// As the process is given them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (OsString, Option<OsString>)> {
        self.values.iter().map(|(name, value)| (name.into(), Some(value.reveal().into())))
    }

    /// Bytes to keep of what is printed, so that so many of them are left without the values.
    pub(crate) fn room(&self, tail_bytes: usize) -> usize {
        tail_bytes.saturating_add(2 * self.redactor.longest())
    }

    /// The end of what was printed, at most so many bytes, without the values. Where the beginning is cut off, what a
    /// value that was cut in two may have left there goes too.
    pub(crate) fn hide(&mut self, tail: &mut Tail, tail_bytes: usize) {
        let edge = if tail.dropped > 0 { tail.bytes.len().min(2 * self.redactor.longest()) } else { 0 };
        let (edge, rest) = tail.bytes.split_at(edge);
        let mut shown = Vec::with_capacity(tail.bytes.len());
        self.redactor.feed(edge, &mut shown);
        shown.clear();
        self.redactor.feed(rest, &mut shown);
        self.redactor.finish(&mut shown);
        shown.drain(..shown.len().saturating_sub(tail_bytes));
        tail.bytes = shown;
    }
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !TAKEN.contains(&name)
}

/// The daemon's environment.
pub(crate) fn lookup() -> secrets::Lookup {
    Arc::new(|name| std::env::var(name).ok())
}

/// What runs the `credential_process` of a profile.
pub(crate) fn runner() -> secrets::Runner {
    Arc::new(|command| Box::pin(run(command)))
}

/// Runs a program that gives credentials; gives what it printed. Its output is never shown.
async fn run(command: String) -> Result<Vec<u8>, BoxError> {
    let mut spec = Spec::new("/bin/sh").args(["-c", &command]).limits(Some(PROGRAM_WITHIN), None);
    spec.stdout_tail = PROGRAM_BYTES_MAX;
    spec.env.changes =
        ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| (name.into(), None)).into();
    let outcome = process::run(&spec, std::future::pending()).await?;
    match outcome.exit {
        Exit::Exited(0) if outcome.stdout_tail.dropped == 0 => Ok(outcome.stdout_tail.bytes),
        Exit::Exited(0) => Err(format!("it printed more than {PROGRAM_BYTES_MAX} bytes").into()),
        exit => Err(format!("it ended without credentials: {exit}").into()),
    }
}
