//! A server on the loopback interface that says what it is told to. In: answers, each a head and a body of any bytes.
//! Out: they are sent one after the other, whatever is asked, and what was asked is noted. It has one thread with who
//! asks it, so nothing depends on who is faster. It sends nobody to another host.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use object_kit::Line;
use service_kit::clock::{Clock, ManualClock, Time};
use service_kit::http::Reach;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Between two answers.
const BETWEEN: &[u8] = b"\n%%\n";
/// What is said when there is nothing more to say.
const NOTHING_MORE: &[u8] = b"HTTP/1.1 404 Not Found\nContent-Length: 0";
/// Where a redirect leads, whatever it says.
const MOVED_TO: &str = "/base/moved";
/// Longest request, in bytes: a key's name may be as long as an input.
const REQUEST_MAX: usize = 4 << 20;
/// Bytes of it that are read at once.
const CHUNK: usize = 64 << 10;
/// Behind the head of a request.
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Longest time-out: a sleep that is longer waits for us, not for a moment.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Rounds in which those who were left behind had their turn, and wait for nothing but the clock.
const PATIENCE: usize = 1000;
/// 2026-01-31T10:00:00Z
const START: Time = Time::from_ms(1_769_853_600_000);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET` and the like.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Vec<u8>>,
    asked: Vec<Asked>,
}

/// The server and the runtime it lives in.
#[derive(Debug)]
pub struct Double {
    runtime: Runtime,
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    clock: Clock,
    time: ManualClock,
}

impl Double {
    /// Begins to listen.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port is free");
        let address = listener.local_addr().expect("it has one");
        let script = Arc::<Mutex<Script>>::default();
        runtime.spawn(listen(listener, Arc::clone(&script)));
        let (clock, time) = Clock::manual(START);
        Self { runtime, address, script, clock, time }
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How it is spoken to: by a clock that never gives up, in so many attempts.
    #[must_use]
    pub fn line(&self, attempts_max: u32) -> Line {
        let timeout = WAIT_MAX * 1000;
        Line {
            proxies: false,
            attempts_max,
            timeout,
            ..Line::new(self.clock.clone(), "eka-fuzz/0", Reach::Private)
        }
    }

    /// Does the work while these answers are given; says what was asked meanwhile, and the longest wait between two
    /// attempts. Waits cost no time. Returns when nobody asks any more.
    pub fn answering<T>(&self, script: &[u8], work: impl Future<Output = T>) -> (T, Vec<Asked>, Duration) {
        let mut longest = Duration::ZERO;
        let (done, asked) = self.while_answering(script, async {
            tokio::pin!(work);
            std::future::poll_fn(|cx| {
                loop {
                    if let Poll::Ready(done) = work.as_mut().poll(cx) {
                        return Poll::Ready(done);
                    }
                    let Some(due) = self.time.first_due().filter(|due| *due <= WAIT_MAX) else {
                        return Poll::Pending;
                    };
                    longest = longest.max(due);
                    self.time.step(due);
                }
            })
            .await
        });
        (done, asked, longest)
    }

    /// The same while the clock stands: nothing may wait for it.
    pub fn while_answering<T>(&self, script: &[u8], work: impl Future<Output = T>) -> (T, Vec<Asked>) {
        *lock(&self.script) = Script { answers: split(script, BETWEEN).collect(), asked: Vec::new() };
        let done = self.runtime.block_on(async {
            let done = work.await;
            self.until_alone().await;
            done
        });
        (done, std::mem::take(&mut lock(&self.script).asked))
    }

    /// Until what was left behind has ended: connections, and the clearing up after an upload, which may wait between
    /// two attempts.
    async fn until_alone(&self) {
        let alone = || tokio::runtime::Handle::current().metrics().num_alive_tasks() == 1;
        for round in 1_usize.. {
            if alone() {
                return;
            }
            if let Some(due) = self.time.first_due().filter(|_| round.is_multiple_of(PATIENCE)) {
                self.time.step(due);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, script: Arc<Mutex<Script>>) {
    loop {
        let (client, _) = listener.accept().await.expect("the listener stands");
        tokio::spawn(serve(client, Arc::clone(&script)));
    }
}

/// One request, one answer.
async fn serve(mut client: TcpStream, script: Arc<Mutex<Script>>) -> io::Result<()> {
    let asked = request(&mut client).await?;
    let answer = {
        let mut script = lock(&script);
        script.asked.push(asked);
        script.answers.pop_front().unwrap_or_else(|| NOTHING_MORE.to_vec())
    };
    client.write_all(&wire(&answer)).await?;
    client.shutdown().await
}

/// Reads a request to its end.
async fn request(client: &mut TcpStream) -> io::Result<Asked> {
    let (mut bytes, mut looked_at) = (Vec::new(), 0_usize);
    let end = loop {
        let from = looked_at.saturating_sub(HEAD_END.len() - 1);
        if let Some(end) = bytes[from..].windows(HEAD_END.len()).position(|end| end == HEAD_END) {
            break from + end;
        }
        looked_at = bytes.len();
        more(client, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let pair =
        |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(pair).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap_or(usize::MAX));
    while bytes.len() - end - HEAD_END.len() < length {
        more(client, &mut bytes).await?;
    }
    Ok(Asked { method, target, headers })
}

async fn more(client: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    assert!(bytes.len() <= REQUEST_MAX, "a request of more than {REQUEST_MAX} bytes");
    bytes.reserve(CHUNK);
    match client.read_buf(bytes).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// An answer as it is sent: lines end as they should, the connection ends, and no redirect leads elsewhere. Behind a head
/// of 1xx comes another head, which nobody has looked at: it is left out.
fn wire(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(2).position(|end| end == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&answer[..end], &answer[end + 2..]),
        None => (answer, &[][..]),
    };
    let mut out = Vec::with_capacity(answer.len() + 64);
    let first = head.trim_ascii().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let body = if first.windows(2).any(|two| two == b" 1") { &[][..] } else { body };
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"location") {
            out.extend_from_slice(format!("location: {MOVED_TO}").as_bytes());
        } else if !name.eq_ignore_ascii_case(b"connection") {
            out.extend_from_slice(line);
        } else {
            continue;
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"connection: close\r\n\r\n");
    out.extend_from_slice(body);
    out
}

fn split<'a>(mut bytes: &'a [u8], by: &'static [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let at = bytes.windows(by.len()).position(|window| window == by);
        let part = &bytes[..at.unwrap_or(bytes.len())];
        ended = at.is_none();
        bytes = at.map_or(&[][..], |at| &bytes[at + by.len()..]);
        Some(part.to_vec())
    })
}
