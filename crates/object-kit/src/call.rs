//! One request and its answer. In: method, address, headers, a body. Out: the answer, read whole within a bound, or a
//! fault with its class. Sees to the pace of what leaves and gives up when nothing moves; leaves out repeating.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use service_kit::clock::{Clock, Mono};
use service_kit::http::{Client, Failed, IdentityFiles, Options, Reach, Roots, client};
use service_kit::redact::{PATTERN_MIN, Redactor};
use service_kit::secret::Secret;
use tokio::sync::mpsc;

use crate::body::Counted;
use crate::error::{Class, Fault, said};
use crate::{Body, BodySize, Moved, Throttle, Waits};

/// Bytes that are handed to a connection at once: the grain of pace and progress.
const CHUNK: usize = 64 << 10;
/// Most bytes that are read of an answer that says no.
const REFUSAL_MAX: usize = 64 << 10;
/// Bytes of an answer that count as a move: a server that gives one at a time must not hold us for as long as it likes.
const MOVE_BYTES: usize = 16 << 10;
/// Longest wait that a server's `Retry-After` is believed, in seconds.
const RETRY_AFTER_MAX_S: u64 = 60;

/// How a place is spoken to.
#[derive(Debug, Clone)]
pub struct Line {
    /// The time.
    pub clock: Clock,
    /// Which addresses may be spoken to.
    pub reach: Reach,
    /// How long nothing may move before a request is given up. What the body itself takes to come does not count.
    pub timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Most attempts at one request, the first included; 0 counts as 1.
    pub attempts_max: u32,
    /// How long is waited between them.
    pub waits: Waits,
    /// Limits that every body byte has to pass, one after the other.
    pub throttles: Vec<Arc<Throttle>>,
    /// `PROGRAM/VERSION`.
    pub user_agent: String,
    /// Whom to trust, for `https`.
    pub roots: Roots,
    /// Who we are, where the server asks for a client certificate.
    pub identity: Option<IdentityFiles>,
    /// Whether the proxies of the environment are used.
    pub proxies: bool,
}

impl Line {
    /// 60 s without progress, 10 s to connect, 4 attempts, no limit, the machine's certificates and proxies.
    #[must_use]
    pub fn new(clock: Clock, user_agent: &str, reach: Reach) -> Self {
        Self {
            clock,
            reach,
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            attempts_max: 4,
            waits: Waits::default(),
            throttles: Vec::new(),
            user_agent: user_agent.to_owned(),
            roots: Roots::System,
            identity: None,
            proxies: true,
        }
    }

    /// The client for a place; one that speaks plain HTTP needs no certificates.
    pub(crate) fn exchange(&self, https: bool, redirects: bool) -> Result<Exchange, Fault> {
        let options = Options {
            reach: self.reach,
            connect_timeout: self.connect_timeout,
            user_agent: self.user_agent.clone(),
            roots: if https { self.roots.clone() } else { Roots::Nobody },
            identity: self.identity.clone().filter(|_| https),
            redirects,
            proxies: self.proxies,
        };
        let client = client(&options).map_err(Fault::local)?;
        let (clock, throttles) = (self.clock.clone(), self.throttles.clone());
        Ok(Exchange { client, clock, timeout: self.timeout, throttles })
    }
}

/// What sends requests.
#[derive(Debug)]
pub(crate) struct Exchange {
    client: Client,
    clock: Clock,
    timeout: Duration,
    throttles: Vec<Arc<Throttle>>,
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    pub(crate) moved: Option<Moved>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    Empty,
    Whole(Bytes),
    Stream(&'a mut dyn Body, BodySize),
}

/// An answer, whatever it says.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Bytes of the request's body.
    pub(crate) sent: u64,
    /// What the request told the server and nobody else is to read.
    secrets: Vec<Secret>,
}

impl Answer {
    /// Takes out of the body what it may quote of the request: it is going to be shown.
    pub(crate) fn hide(&mut self) {
        self.body = without(&self.body, &self.secrets);
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Exchange {
    /// Sends a request; gives the answer with at most `bytes_max` bytes of body.
    pub(crate) async fn send(&self, ask: Ask<'_>, bytes_max: usize) -> Result<Answer, Fault> {
        let moves = Arc::new(Moves::new(&self.clock));
        let secrets = secrets(&ask.headers);
        let mut request = reqwest::Request::new(ask.method, ask.url);
        *request.headers_mut() = ask.headers;
        let (tx, rx) = mpsc::channel(1);
        let mut outgoing = Outgoing { rx, left: None, moves: Arc::clone(&moves), moved: ask.moved };
        let mut source = match ask.payload {
            Payload::Empty => None,
            Payload::Whole(bytes) => {
                outgoing.left = Some(length(&bytes));
                Some(Source::Whole(bytes))
            }
            Payload::Stream(body, size) => {
                outgoing.left = size.exact;
                Some(Source::Stream(Counted::new(body, size)))
            }
        };
        let writes = matches!(*request.method(), Method::PUT | Method::POST);
        if writes && (source.is_none() || outgoing.left == Some(0)) {
            // Said expressly: there are servers that ask for the length of nothing.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if source.is_some() {
            *request.body_mut() = Some(reqwest::Body::wrap(outgoing));
        }
        let answered = self.answered(request, &moves, bytes_max);
        let mut answer = tokio::select! {
            biased;
            answer = answered => answer?,
            fault = self.pump(&mut source, &tx, &moves) => return Err(fault),
            () = moves.stand_still(self.timeout) => return Err(Fault::new(Class::Stuck, StuckError(self.timeout))),
        };
        answer.sent = source.map_or(0, |source| source.got());
        answer.secrets = secrets;
        if !answer.status.is_success() {
            answer.hide();
        }
        Ok(answer)
    }

    async fn answered(
        &self,
        request: reqwest::Request,
        moves: &Moves,
        bytes_max: usize,
    ) -> Result<Answer, Fault> {
        let response = self.client.execute(request).await.map_err(unanswered)?;
        moves.touch();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if status.is_success() {
            read(response, moves, bytes_max).await?
        } else {
            // What could not be read of a refusal does not change what it says.
            refusal(response).await
        };
        Ok(Answer { status, headers, body, sent: 0, secrets: Vec::new() })
    }

    /// Hands the body to the connection at the pace of the throttles. Ends only when the body fails: the answer is
    /// what is waited for otherwise.
    async fn pump(
        &self,
        source: &mut Option<Source<'_>>,
        tx: &mpsc::Sender<Option<Bytes>>,
        moves: &Moves,
    ) -> Fault {
        let Some(source) = source else { return std::future::pending().await };
        loop {
            moves.ours(true);
            let mut chunk = match source.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(fault) => return fault,
            };
            while !chunk.is_empty() {
                let part = chunk.split_to(chunk.len().min(CHUNK));
                for throttle in &self.throttles {
                    throttle.take(length(&part)).await;
                }
                moves.ours(false);
                if tx.send(Some(part)).await.is_err() {
                    // The connection wants no more: its answer, or its end, says why.
                    return std::future::pending().await;
                }
                moves.ours(true);
            }
        }
        moves.ours(false);
        let _ = tx.send(None).await; // as above
        std::future::pending().await
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Where the bytes of a body come from.
enum Source<'a> {
    Whole(Bytes),
    Stream(Counted<'a>),
}

impl Source<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Whole(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::Stream(counted) => counted.next().await,
        }
    }

    fn got(&self) -> u64 {
        match self {
            Self::Whole(_) => 0,
            Self::Stream(counted) => counted.got(),
        }
    }
}

/// The body as the connection sees it. The end is said expressly: a sender that goes without it was given up, and a
/// body cut off there must not look complete.
struct Outgoing {
    rx: mpsc::Receiver<Option<Bytes>>,
    left: Option<u64>,
    moves: Arc<Moves>,
    moved: Option<Moved>,
}

#[derive(Debug, thiserror::Error)]
#[error("the body was given up")]
struct GivenUp;

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        let next = match self.rx.poll_recv(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(next) => next,
        };
        Poll::Ready(match next {
            Some(Some(chunk)) => {
                self.moves.touch();
                let len = length(&chunk);
                self.left = self.left.map(|left| left.saturating_sub(len));
                if let Some(moved) = &self.moved {
                    moved(len);
                }
                Some(Ok(Frame::data(chunk)))
            }
            Some(None) => None,
            None => Some(Err(GivenUp)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// When something moved last, and whether it is our turn to move.
#[derive(Debug)]
struct Moves {
    clock: Clock,
    last: Mutex<Mono>,
    ours: AtomicBool,
}

impl Moves {
    fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), last: Mutex::new(clock.mono()), ours: AtomicBool::new(false) }
    }

    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.mono();
    }

    /// Whether the other side waits for us. While it does, time does not run against it.
    fn ours(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
        self.touch();
    }

    async fn stand_still(&self, limit: Duration) {
        loop {
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            self.clock.sleep_until(last + limit).await;
            if self.ours.load(Ordering::Relaxed) {
                self.touch();
            } else if last == *self.last.lock().unwrap_or_else(PoisonError::into_inner) {
                return;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {0:?}")]
struct StuckError(Duration);

#[derive(Debug, thiserror::Error)]
#[error("the answer has more than {0} bytes")]
struct AnswerTooLong(usize);

async fn read(mut response: Response, moves: &Moves, bytes_max: usize) -> Result<Bytes, Fault> {
    let (mut body, mut told) = (BytesMut::new(), 0);
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() - told >= MOVE_BYTES {
            moves.touch();
            told = body.len() + chunk.len();
        }
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(Fault::new(Class::Server, AnswerTooLong(bytes_max)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

async fn refusal(mut response: Response) -> Bytes {
    // Short enough to come without a move.
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = REFUSAL_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == REFUSAL_MAX {
            break;
        }
    }
    body.freeze()
}

/// A request that got no answer.
fn unanswered(error: Failed) -> Fault {
    match error {
        // As a place that is away: whoever has a say in it may mend that, and no object is to blame.
        Failed::Refused(refused) => Fault::new(Class::Unreachable, refused),
        Failed::Http(error) => broken(error),
    }
}

/// The class of a request that got no whole answer.
fn broken(error: reqwest::Error) -> Fault {
    let class = if error.is_builder() {
        Class::Local
    } else if error.is_connect() || error.is_timeout() {
        Class::Unreachable
    } else if error.is_redirect() {
        Class::Refused
    } else {
        Class::Server
    };
    // Addresses may hold what is nobody's business; the place is named by who handles this.
    Fault::new(class, error.without_url())
}

/// The secrets in the headers of a request, without the word before them that tells what they are.
fn secrets(headers: &HeaderMap) -> Vec<Secret> {
    let sensitive =
        headers.values().filter(|value| value.is_sensitive()).filter_map(|value| value.to_str().ok());
    let mut secrets = Vec::new();
    for (scheme, word) in
        sensitive.filter_map(|text| text.rsplit_once(char::is_whitespace).or(Some(("", text))))
    {
        secrets.push(Secret::new(word));
        if scheme.trim().eq_ignore_ascii_case("basic") {
            let login = from_base64(word);
            let password = login.split_once(':').map(|(_, password)| password).filter(|p| !p.is_empty());
            secrets.extend(password.map(Secret::new));
        }
    }
    secrets
}

/// What a header of ours says in base64.
fn from_base64(text: &str) -> String {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a server says, where it may quote what it was told, in whatever way it writes that: it is shown to people and
/// noted. Where it was cut, what may be the beginning of a secret goes too.
fn without(body: &[u8], secrets: &[Secret]) -> Bytes {
    let mut redactor = Redactor::new(secrets);
    let mut shown = Vec::with_capacity(body.len());
    redactor.feed(body, &mut shown);
    if body.len() < REFUSAL_MAX {
        redactor.finish(&mut shown);
    } else {
        redactor.finish_cut(&mut shown);
    }
    // Short ones would be found everywhere; here it is better that they are.
    let short: Vec<&Secret> = secrets.iter().filter(|secret| secret.reveal().len() < PATTERN_MIN).collect();
    let text = String::from_utf8_lossy(&shown);
    if !short.iter().any(|secret| text.contains(secret.reveal())) {
        return shown.into();
    }
    short.into_iter().fold(text.into_owned(), |text, secret| text.replace(secret.reveal(), "***")).into()
}

/// An answer that says no.
#[derive(Debug, thiserror::Error)]
#[error("the server answers {status}{}{text}", if .text.is_empty() { "" } else { ": " })]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
}

/// What a status means that is no success; `text` is what the server says about it.
pub(crate) fn refused(answer: &Answer, text: &str) -> Fault {
    let status = answer.status;
    let class = match status.as_u16() {
        401 | 403 | 407 => Class::Credentials,
        408 | 429 | 503 => Class::Busy,
        411 => Class::LengthRequired,
        413 => Class::TooLarge,
        501 => Class::Refused,
        500.. => Class::Server,
        _ => Class::Refused,
    };
    let wait_s = answer.header(RETRY_AFTER.as_str()).and_then(|wait| wait.trim().parse::<u64>().ok());
    let source = Refusal { status, text: said(text) };
    Fault { class, source: source.into(), wait_s: wait_s.map(|wait| wait.min(RETRY_AFTER_MAX_S)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_was_cut_in_the_middle_of_a_secret_shows_no_piece_of_it() {
        let secrets = [Secret::new("canary-0123456789")];
        for kept in 0..=17 {
            let mut body = vec![b'.'; REFUSAL_MAX - kept];
            body.extend_from_slice(&secrets[0].reveal().as_bytes()[..kept]);
            let shown = without(&body, &secrets);
            let shown = String::from_utf8_lossy(&shown);
            let left = shown.trim_start_matches('.');
            let expected = if kept < 4 { &secrets[0].reveal()[..kept] } else { "***" };
            assert_eq!(left, expected, "{kept} bytes of it");
        }
        // One that was not cut is as the server said it.
        assert_eq!(without(b"no canary", &secrets), "no canary");
    }
}
