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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Between two answers.
const BETWEEN: &[u8] = b"\n%%\n";
/// What is said when there is nothing more to say.
const NOTHING_MORE: &[u8] = b"HTTP/1.1 404 Not Found\nContent-Length: 0";
/// Where a redirect leads, whatever it says.
const MOVED_TO: &str = "/base/moved";
/// Longest request.
const REQUEST_MAX: usize = 64 << 10;
/// Longest time-out: a sleep that is longer waits for us, not for a moment.
const WAIT_MAX: Duration = Duration::from_secs(3600);
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
        Line { proxies: false, attempts_max, timeout, ..Line::new(self.clock.clone(), "eka-fuzz/0") }
    }

    /// Does the work while these answers are given; says what was asked meanwhile, and the longest wait between two
    /// attempts. Waits cost no time. Returns when nobody asks any more.
    pub fn answering<T>(&self, script: &[u8], work: impl Future<Output = T>) -> (T, Vec<Asked>, Duration) {
        *lock(&self.script) = Script { answers: split(script, BETWEEN).collect(), asked: Vec::new() };
        let mut longest = Duration::ZERO;
        let done = self.runtime.block_on(async {
            let done = {
                tokio::pin!(work);
                std::future::poll_fn(|cx| {
                    loop {
                        if let Poll::Ready(done) = work.as_mut().poll(cx) {
                            return Poll::Ready(done);
                        }
                        match self.time.first_due().filter(|due| *due <= WAIT_MAX) {
                            Some(due) => {
                                longest = longest.max(due);
                                self.time.step(due);
                            }
                            None => return Poll::Pending,
                        }
                    }
                })
                .await
            };
            // What was left behind ends: connections, and the clearing up after an upload.
            while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 1 {
                tokio::task::yield_now().await;
            }
            done
        });
        (done, std::mem::take(&mut lock(&self.script).asked), longest)
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
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut lines = head.split("\r\n");
            let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let pair = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
            let headers: BTreeMap<String, String> = lines.filter_map(pair).collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap_or(usize::MAX));
            if bytes.len() - end - 4 >= length {
                return Ok(Asked { method, target, headers });
            }
        }
        assert!(bytes.len() <= REQUEST_MAX, "requests are short here");
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// An answer as it is sent: lines end as they should, the connection ends, and no redirect leads elsewhere.
fn wire(answer: &[u8]) -> Vec<u8> {
    let end = answer.windows(2).position(|end| end == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&answer[..end], &answer[end + 2..]),
        None => (answer, &[][..]),
    };
    let mut out = Vec::with_capacity(answer.len() + 64);
    for line in head.split(|byte| *byte == b'\n') {
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
