//! What the tests share: settings for the loopback interface, bodies that misbehave, and a clock that hurries.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use object_kit::aws::{Credentials, Keys};
use object_kit::{
    Auth, Body, BodyError, Http, HttpSettings, Line, Meta, Moved, ObjectError, S3, S3Settings, Secret, Work,
};
use service_kit::clock::{Clock, ManualClock, Time};
use service_kit::http::Reach;
use test_kit::http_cache::Cache;

pub(crate) const NAR: &str = "application/x-nix-nar";
/// 2026-01-31T10:00:00Z
pub(crate) const START: Time = Time::from_ms(1_769_853_600_000);

pub(crate) fn meta() -> Meta {
    Meta::new(NAR)
}

pub(crate) fn line(clock: Clock) -> Line {
    Line { proxies: false, ..Line::new(clock, "object-kit-test/0", Reach::Private) }
}

pub(crate) fn keys() -> Keys {
    Keys { id: "AKIDEXAMPLE".into(), secret: Secret::new("secret-of-the-test"), session: None }
}

pub(crate) fn http(cache: &Cache, auth: Auth, line: Line) -> Http {
    Http::new(&HttpSettings { base: Secret::new(format!("{}/base/", cache.url())), auth, line }).unwrap()
}

/// A bucket `bkt`, parts of 1000 bytes.
pub(crate) fn s3_settings(endpoint: &str, credentials: Credentials, line: Line) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint.to_owned()),
        part_min: 1000,
        ..S3Settings::new("bkt", credentials, line)
    }
}

pub(crate) fn s3(cache: &Cache, line: Line) -> S3 {
    S3::new(&s3_settings(&cache.url(), Credentials::Keys(keys()), line)).unwrap()
}

/// `len` bytes that differ from place to place.
pub(crate) fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// A line whose clock jumps on whenever somebody sleeps on it: waits between attempts cost no time, and a request is
/// never given up for want of progress.
pub(crate) fn hurried() -> (Line, ManualClock) {
    let (clock, manual) = Clock::manual(START);
    (Line { timeout: Duration::from_secs(1 << 32), ..line(clock) }, manual)
}

/// Does the work while the clock jumps on.
pub(crate) async fn hurry<T>(manual: &ManualClock, work: impl Future<Output = T>) -> T {
    hurry_by(Duration::from_millis(100), manual, work).await
}

/// The same, in jumps of that length.
pub(crate) async fn hurry_by<T>(step: Duration, manual: &ManualClock, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = manual.sleeping(1) => {
                manual.step(step);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Waits for what another task does in its own time.
pub(crate) async fn until(condition: impl Fn() -> bool + Send + 'static) {
    let waited = tokio::task::spawn_blocking(move || {
        test_kit::wait::until(Duration::from_secs(20), condition);
    });
    waited.await.unwrap();
}

/// Counts what is told to it.
pub(crate) fn counter() -> (Moved, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&count);
    let moved = move |bytes| {
        told.fetch_add(bytes, Ordering::Relaxed);
    };
    (Arc::new(moved), count)
}

/// A body's own error.
#[derive(Debug, thiserror::Error)]
#[error("the hash is another one")]
pub(crate) struct WrongHash;

/// Chunks, then an error, or nothing for ever.
pub(crate) struct Odd {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) then_fail: bool,
}

impl Body for Odd {
    fn next<'a>(&'a mut self) -> Work<'a, Option<Result<Bytes, BodyError>>> {
        Box::pin(async move {
            match self.chunks.pop() {
                Some(chunk) => Some(Ok(chunk)),
                None if self.then_fail => Some(Err(WrongHash.into())),
                None => std::future::pending().await,
            }
        })
    }
}

/// The error with all its causes.
pub(crate) fn told(error: &ObjectError) -> String {
    object_kit::chain(error)
}
