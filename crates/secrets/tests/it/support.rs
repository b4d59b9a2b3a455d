//! What the tests share: sources as the configuration writes them, and an environment that the test can change.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use object_kit::{Line, Waits};
use secrets::{KEPT, Means, Owner, Reader, SecretError, Source, Values, take};
use service_kit::clock::{Clock, ManualClock, Time};
use service_kit::config::{Document, Problem, Report};
use service_kit::http::Reach;

/// 2026-01-31T10:00:00Z
pub(crate) const START: Time = Time::from_ms(1_769_853_600_000);

/// Reads the `credentials` of a cache, written behind the `[[caches]]` line.
pub(crate) fn parsed(text: &str, owner: Owner) -> (Option<Source>, Result<Vec<Problem>, Report>) {
    let text = format!("[[caches]]\n{text}\n");
    let doc = Document::parse(Path::new("f"), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let section = doc.array("caches").pop().unwrap();
    let source = take(&section, "credentials", owner).map(|source| source.value);
    section.finish();
    (source, doc.finish(&["caches"], &[]))
}

/// A source that is written as it should be.
pub(crate) fn source(text: &str) -> Source {
    let (source, end) = parsed(text, Owner::Cache);
    end.unwrap_or_else(|error| panic!("{error}\n{text}"));
    source.unwrap()
}

/// An environment.
#[derive(Clone, Default)]
pub(crate) struct Env(Arc<Mutex<HashMap<String, String>>>);

impl Env {
    pub(crate) fn of(vars: &[(&str, &str)]) -> Self {
        let env = Self::default();
        vars.iter().for_each(|(name, value)| env.set(name, value));
        env
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.0.lock().unwrap().insert(name.into(), value.into());
    }

    pub(crate) fn lookup(&self) -> secrets::Lookup {
        let table = Arc::clone(&self.0);
        Arc::new(move |name: &str| table.lock().unwrap().get(name).cloned())
    }
}

pub(crate) fn means(env: &Env, clock: &Clock) -> Means {
    let line = Line { proxies: false, ..Line::new(clock.clone(), "secrets-test/0", Reach::Private) };
    Means { lookup: env.lookup(), runner: None, line, kept: KEPT }
}

/// A reader on the system's clock.
pub(crate) fn reader(text: &str, env: &Env) -> Arc<Reader> {
    Reader::new(source(text), means(env, &Clock::system()))
}

/// A reader whose clock jumps on whenever somebody sleeps on it.
pub(crate) fn manual(text: &str, env: &Env) -> (Arc<Reader>, ManualClock) {
    let (clock, manual) = Clock::manual(START);
    (Reader::new(source(text), means(env, &clock)), manual)
}

/// Names and values in the clear.
pub(crate) fn shown(values: &Values) -> Vec<(&str, &str)> {
    values.iter().map(|(name, value)| (name, value.reveal())).collect()
}

pub(crate) async fn read(text: &str, env: &Env) -> Result<Arc<Values>, SecretError> {
    reader(text, env).read().await
}

/// The error of a read, with all its causes.
pub(crate) async fn refused(text: &str, env: &Env) -> String {
    object_kit::chain(&read(text, env).await.unwrap_err())
}

/// Reads while the clock stands still but for waits between attempts.
pub(crate) async fn hurry(reader: &Reader, manual: &ManualClock) -> Result<Arc<Values>, SecretError> {
    let work = reader.read();
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            // Beside the limit of the whole read and that of the request, somebody waits between two attempts.
            () = manual.sleeping(2) => {
                // A wait is short. Their limits are not, and time does not run while a server takes its own.
                if let Some(wait) = manual.first_due().filter(|due| *due <= Waits::default().max) {
                    manual.step(wait);
                }
                tokio::task::yield_now().await;
            }
        }
    }
}
