//! A binary cache over HTTP for tests, on the loopback interface: objects in memory that can be put, read, looked for,
//! listed and removed, in one go and in S3's parts, with the faults that a test asks for. Checks no signatures: a real
//! server does that. Its threads end with their clients, which its own end sends away.

mod s3;
mod service;
pub(crate) mod wire;
mod witness;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::seed::Rng;
pub use s3::now;
pub use service::{Asked, Said, Service, stored};
use wire::{Answer, Request};

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Cache {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// An object as it was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Headers of the request that made it, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// In quotes.
    pub etag: String,
}

/// A request that was answered, or met a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `PUT` and the like.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Bytes of its body that were read.
    pub body_bytes: usize,
}

/// When a fault happens.
#[derive(Debug, Clone)]
pub struct Rule {
    /// To requests of this method; to all when none is given.
    pub method: Option<&'static str>,
    /// To requests whose target contains this.
    pub target: String,
    /// So often at most.
    pub times: u32,
    /// In so many of a thousand cases, by the seed of [`Cache::start_seeded`].
    pub of_thousand: u64,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// Once, to the next such request.
    #[must_use]
    pub fn once(method: &'static str, target: &str, fault: Fault) -> Self {
        Self { method: Some(method), target: target.into(), times: 1, of_thousand: 1000, fault }
    }

    /// To each such request.
    #[must_use]
    pub fn always(method: &'static str, target: &str, fault: Fault) -> Self {
        Self { times: u32::MAX, ..Self::once(method, target, fault) }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Reads the request, does nothing, and gives this answer: status, headers, body.
    Answer(u16, Vec<(String, String)>, String),
    /// Gives this status before reading the body, says nothing more, and throws away what still comes until the client
    /// closes: as servers do that want their answer to be read. (One that closes at once has its answer destroyed by the
    /// reset that the rest of the body earns, now and then.)
    Early(u16),
    /// Answers after so long.
    Latency(Duration),
    /// Reads so many bytes of the body and resets the connection.
    CutAfter(usize),
    /// Resets the connection after the head.
    Reset,
    /// Reads the head, then neither reads nor answers.
    Stall,
    /// Does what was asked and resets the connection instead of answering.
    LostAnswer,
    /// Gives so many bytes of the answer's body at a time, with so long a wait between them.
    Trickle(usize, Duration),
    /// Announces the whole body of the answer and gives half of it.
    Truncated,
    /// Does what was asked and says another ETag.
    WrongTag,
    /// Does what was asked and says this too.
    Header(&'static str, &'static str),
    /// Refuses what has an `If-None-Match` with this status and body; everything else goes on as usual.
    NoConditions(u16, &'static str),
    /// Refuses with 411 what comes in chunks; everything else goes on as usual.
    LengthRequired,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when the server ends, or lets go who waits.
    ended: Condvar,
    stop: AtomicBool,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Stored>,
    uploads: HashMap<String, s3::Upload>,
    uploads_begun: u64,
    rules: Vec<Rule>,
    /// How often those who wait were let go.
    let_go: u64,
    rng: Rng,
    log: Vec<Seen>,
    authorization: Option<String>,
    ignores_conditions: bool,
    keeps_bytes_max: usize,
    clients: Vec<TcpStream>,
    witness: witness::Witness,
    service: service::Slot,
}

impl Cache {
    /// Starts an empty one.
    #[must_use]
    pub fn start() -> Self {
        Self::start_seeded(0)
    }

    /// Starts an empty one whose faults by chance follow from the seed.
    ///
    /// # Panics
    /// When there is no port on the loopback interface.
    #[must_use]
    pub fn start_seeded(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback interface");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = State {
            objects: BTreeMap::new(),
            uploads: HashMap::new(),
            uploads_begun: 0,
            rules: Vec::new(),
            rng: Rng::new(seed),
            let_go: 0,
            log: Vec::new(),
            authorization: None,
            ignores_conditions: false,
            keeps_bytes_max: usize::MAX,
            clients: Vec::new(),
            witness: witness::Witness::default(),
            service: service::Slot::default(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            ended: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || server.listen(&listener));
        Self { address, shared }
    }

    /// `http://ADDRESS:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a fault. The first rule that fits a request counts.
    pub fn fault(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Answers at once whoever waits for a [`Fault::Latency`] to be over.
    pub fn let_go(&self) {
        self.shared.state().let_go += 1;
        self.shared.ended.notify_all();
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// From now on answers 401 to everything without this `Authorization`.
    pub fn require(&self, authorization: &str) {
        self.shared.state().authorization = Some(authorization.to_owned());
    }

    /// From now on is a server that does not know `If-None-Match`.
    pub fn ignore_conditions(&self) {
        self.shared.state().ignores_conditions = true;
    }

    /// From now on reads bodies of more than so many bytes to their end, throws them away, and has empty objects in
    /// their place.
    pub fn keep_at_most(&self, bytes: usize) {
        self.shared.state().keeps_bytes_max = bytes;
    }

    /// What is there, by path (`/a/b`).
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Stored> {
        self.shared.state().objects.clone()
    }

    /// The object at a path.
    #[must_use]
    pub fn object(&self, path: &str) -> Option<Stored> {
        self.shared.state().objects.get(path).cloned()
    }

    /// Puts an object there, as if somebody else had.
    pub fn insert(&self, path: &str, bytes: &[u8]) {
        let stored = Stored { bytes: bytes.to_vec(), headers: BTreeMap::new(), etag: etag(bytes) };
        self.shared.state().objects.insert(path.to_owned(), stored);
    }

    /// Takes an object away.
    pub fn remove(&self, path: &str) {
        self.shared.state().objects.remove(path);
    }

    /// Uploads in parts that were begun, and neither completed nor aborted.
    #[must_use]
    pub fn open_uploads(&self) -> usize {
        self.shared.state().uploads.len()
    }

    /// Begins an upload in parts to a path, as if somebody had at that time (`2026-01-31T10:00:00.000Z`) and never ended
    /// it; gives its id.
    #[must_use]
    pub fn begin_upload(&self, path: &str, initiated: &str) -> String {
        self.shared.state().begin_upload(path, BTreeMap::new(), initiated.to_owned())
    }

    /// Whether an upload was begun and has not ended.
    #[must_use]
    pub fn has_upload(&self, id: &str) -> bool {
        self.shared.state().uploads.contains_key(id)
    }

    /// From now on this is told of every object before it appears: what is there, its path, its bytes.
    pub fn witness(&self, witness: impl FnMut(&BTreeMap<String, Stored>, &str, &[u8]) + Send + 'static) {
        self.shared.state().witness.set(witness);
    }

    /// From now on asks this first.
    pub fn serve(&self, service: Service) {
        self.shared.state().service.set(service);
    }

    /// All requests so far, in the order in which they were dealt with.
    #[must_use]
    pub fn log(&self) -> Vec<Seen> {
        self.shared.state().log.clone()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let clients = std::mem::take(&mut self.shared.state().clients);
        for client in clients {
            let _ = client.shutdown(Shutdown::Both); // it may have gone by itself
        }
        self.shared.ended.notify_all();
        // Wakes the listener, which then sees that it is to end.
        let _ = TcpStream::connect(self.address);
    }
}

/// Some tag that tells contents apart (FNV-1a).
fn etag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            if let Ok(copy) = client.try_clone() {
                self.state().clients.push(copy);
            }
            let server = Arc::clone(self);
            std::thread::spawn(move || {
                let _ = server.serve(&client); // an error is a client that went away, or a fault that was asked for
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    }

    /// Waits; false when the server ends.
    fn wait(&self, time: Duration) -> bool {
        self.wait_while(time, |_| true)
    }

    /// The same, and no longer than that holds.
    fn wait_while(&self, time: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while !self.stop.load(Ordering::SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !holds(&state) {
                return true;
            }
            state = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut from = BufReader::new(client);
        while let Some(mut request) = wire::head(&mut from)? {
            let let_go = self.state().let_go;
            let fault = self.state().fault_for(&request);
            if let Some(early) = self.before_the_body(&mut request, &mut from, client, fault.as_ref()) {
                return early;
            }
            if request.expects_continue() {
                (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let keep = self.state().keeps_bytes_max;
            request.read_body(&mut from, usize::MAX, keep)?;
            let head_only = request.method == "HEAD";
            let mut answer = match &fault {
                Some(Fault::Answer(status, headers, body)) => {
                    self.state().note(&request);
                    Answer::refusal(*status, headers.clone(), body)
                }
                Some(Fault::NoConditions(status, body)) if request.headers.contains_key("if-none-match") => {
                    self.state().note(&request);
                    Answer::refusal(*status, Vec::new(), body)
                }
                Some(Fault::LengthRequired) if request.chunked() => {
                    self.state().note(&request);
                    Answer::status(411)
                }
                _ => self.state().answer(&request),
            };
            match fault {
                Some(Fault::Latency(time)) if !self.wait_while(time, |state| state.let_go == let_go) => {
                    return Ok(());
                }
                Some(Fault::LostAnswer) => return Ok(()),
                Some(Fault::Header(name, value)) => answer.set(name, value),
                Some(Fault::WrongTag) => answer.set("ETag", "\"0\""),
                Some(Fault::Truncated) => return answer.write_part(client, answer.body.len() / 2),
                Some(Fault::Trickle(bytes, wait)) => {
                    answer.write_slowly(client, bytes, || self.wait(wait))?;
                    continue;
                }
                _ => {}
            }
            answer.write(client, head_only)?;
        }
        Ok(())
    }

    /// Faults that come before the body is read.
    fn before_the_body(
        &self,
        request: &mut Request,
        from: &mut BufReader<&TcpStream>,
        client: &TcpStream,
        fault: Option<&Fault>,
    ) -> Option<io::Result<()>> {
        let done = match fault? {
            Fault::Reset => Ok(()),
            Fault::Stall => {
                self.state().note(request);
                self.wait(Duration::from_secs(3600));
                return Some(Ok(()));
            }
            Fault::CutAfter(bytes) => request.read_body(from, *bytes, usize::MAX),
            Fault::Early(status) => {
                self.state().note(request);
                return Some(refuse_early(*status, from, client));
            }
            _ => return None,
        };
        self.state().note(request);
        Some(done)
    }
}

fn refuse_early(status: u16, from: &mut BufReader<&TcpStream>, client: &TcpStream) -> io::Result<()> {
    Answer::status(status).write(client, false)?;
    client.shutdown(Shutdown::Write)?;
    io::copy(from, &mut io::sink()).map(drop)
}

impl State {
    fn note(&mut self, request: &Request) {
        self.log.push(Seen {
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            body_bytes: request.body_bytes,
        });
    }

    fn fault_for(&mut self, request: &Request) -> Option<Fault> {
        for rule in &mut self.rules {
            let fits = rule.method.is_none_or(|method| method == request.method)
                && request.target.contains(&rule.target)
                && rule.times > 0;
            if fits && (rule.of_thousand >= 1000 || self.rng.below(1000) < rule.of_thousand) {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }

    fn answer(&mut self, request: &Request) -> Answer {
        self.note(request);
        if self.authorization.as_ref().is_some_and(|a| Some(a) != request.headers.get("authorization")) {
            return Answer::status(401);
        }
        if let Some(answer) = self.service.answer(&mut self.objects, request) {
            return answer;
        }
        if let Some(answer) = self.answer_s3(request) {
            return answer;
        }
        let path = request.path();
        match request.method.as_str() {
            "GET" | "HEAD" => match self.objects.get(&path) {
                Some(stored) => Answer::object(stored),
                None => Answer::missing("NoSuchKey"),
            },
            "PUT" => self.put(&path, request, request.body.clone(), etag(&request.body)),
            "DELETE" => {
                self.objects.remove(&path);
                Answer::status(204)
            }
            _ => Answer::status(405),
        }
    }

    fn put(&mut self, path: &str, request: &Request, bytes: Vec<u8>, etag: String) -> Answer {
        let there = self.objects.contains_key(path);
        let create = request.headers.get("if-none-match").is_some_and(|tag| tag == "*");
        let wanted = request.headers.get("if-match");
        let is_other =
            wanted.is_some_and(|tag| self.objects.get(path).is_none_or(|there| there.etag != *tag));
        if ((there && create) || is_other) && !self.ignores_conditions {
            return Answer::status(412);
        }
        let mut answer = Answer::status(if there { 200 } else { 201 });
        answer.set("ETag", &etag);
        let stored = Stored { bytes, headers: request.headers.clone(), etag };
        self.witness.tell(&self.objects, path, &stored.bytes);
        self.objects.insert(path.to_owned(), stored);
        answer
    }
}
