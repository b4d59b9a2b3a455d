//! The only way out of the sandbox. In: what may be asked, how far addresses may reach. Out: a socket, the door; whoever is
//! confined hands a listener of its own network namespace through it, and whoever connects to that listener reaches an HTTP
//! proxy that runs here, outside: nothing has to run inside. What is asked is judged by [`Rules`] first, then each address
//! of the host where it is dialled, so that no name leads to a private network or a cloud's metadata. Leaves out what is
//! said through a tunnel, which is encrypted.

use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use service_kit::address::{Reach, classify};
use service_kit::clock::Clock;
use service_kit::text::one_line;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

mod hand;
mod head;
mod relay;
mod rules;
#[cfg(test)]
mod tests;

pub(super) use hand::hand_over;
pub use head::HEAD_MAX;
pub use rules::{RuleError, Rules, URI_BYTES_MAX, URIS_MAX, Wrong};

use head::Request;
use rules::Target;

/// Sandboxes at once; another one waits.
pub const DOORS_MAX: usize = 256;
/// Connections of one sandbox at once; another one waits.
pub const CONNECTIONS_MAX: usize = 32;
/// Longest a client may take for its first words, and a sandbox to hand its listener over.
pub const HEAD_TIME: Duration = Duration::from_secs(10);
/// Longest it may take to reach a server.
pub const DIAL_TIME: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 4;
/// Longest a connection may move nothing.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// Longest a connection may last.
pub const CONNECTION_TIME: Duration = Duration::from_secs(3600);
/// Most bytes of a connection, both ways together.
pub const CONNECTION_BYTES: u64 = 8 << 30;
/// Lines in the log about what was refused; further ones are counted and not written.
pub const LOGGED_MAX: u32 = 100;
/// Different refusals that are kept, for whoever asks afterwards.
pub const KEPT_MAX: usize = 5;

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    door: PathBuf,
    /// Holds the door.
    _folder: TempDir,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    reach: Reach,
    clock: Clock,
    refused: AtomicU32,
    /// The first of them, each once.
    kept: Mutex<Vec<Refused>>,
}

/// Something that was asked for and not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, with what was asked for: text from outside, on one line.
    pub why: String,
    /// Was it allowed, and lies where the proxy does not reach?
    pub is_beyond_reach: bool,
}

/// Why a client is not served: the status of the answer, and the reason.
type No = (Status, String);

/// Statuses of an answer that says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    BadRequest,
    NotAllowed,
    BeyondReach,
    Timeout,
    TooLarge,
    BadGateway,
    GatewayTimeout,
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::BadRequest => "400 Bad Request",
            Self::NotAllowed | Self::BeyondReach => "403 Forbidden",
            Self::Timeout => "408 Request Timeout",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::BadGateway => "502 Bad Gateway",
            Self::GatewayTimeout => "504 Gateway Timeout",
        }
    }
}

impl Proxy {
    /// Starts one. `user` is who will come to the door, when that is not ourselves. Needs a tokio runtime with IO.
    ///
    /// # Errors
    /// When there is no place for the door.
    pub fn start(rules: Rules, reach: Reach, clock: Clock, user: Option<u32>) -> io::Result<Self> {
        let ours_alone = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("eka-proxy-").permissions(ours_alone).tempdir()?;
        let door = folder.path().join("door");
        let listener = UnixListener::bind(&door)?;
        fs::set_permissions(&door, Permissions::from_mode(0o600))?;
        if let Some(user) = user {
            chown(&door, Some(user), None)?;
        }
        let shared =
            Arc::new(Shared { rules, reach, clock, refused: AtomicU32::new(0), kept: Mutex::default() });
        let task = tokio::spawn(doors(listener, Arc::clone(&shared)));
        Ok(Self { door, _folder: folder, task, shared })
    }

    /// Where listeners are handed over.
    #[must_use]
    pub fn door(&self) -> &Path {
        &self.door
    }

    /// How many requests were refused until now.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The first [`KEPT_MAX`] different ones of them.
    #[must_use]
    pub fn kept(&self) -> Vec<Refused> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort(); // with it all that it serves
    }
}

async fn doors(listener: UnixListener, shared: Arc<Shared>) {
    let mut sandboxes = JoinSet::new();
    loop {
        while sandboxes.len() >= DOORS_MAX {
            sandboxes.join_next().await;
        }
        tokio::select! {
            came = listener.accept() => match came {
                Ok((door, _)) => drop(sandboxes.spawn(sandbox(door, Arc::clone(&shared)))),
                // Mostly a want of file numbers: what ends gives some back.
                Err(error) => {
                    tracing::warn!("the proxy of the sandbox cannot open its door: {error}");
                    shared.clock.sleep(HEAD_TIME).await;
                }
            },
            Some(_) = sandboxes.join_next() => {}
        }
    }
}

/// Serves one sandbox until the last process that holds its end of `door` is gone.
async fn sandbox(door: UnixStream, shared: Arc<Shared>) {
    let handed = shared.clock.timeout(HEAD_TIME, hand::take(&door)).await;
    let listener = match handed.map_err(io::Error::other).flatten().and_then(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!("a sandbox handed no listener to its proxy: {error}"),
    };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        tokio::select! {
            (came, slot) = accept => {
                let Ok((client, _)) = came else { return }; // no listener any more
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection(client, &shared).await;
                    drop(slot);
                });
            }
            () = hand::until_gone(&door) => return,
            Some(_) = connections.join_next() => {}
        }
    }
}

fn listener(handed: OwnedFd) -> io::Result<TcpListener> {
    if !rustix::net::sockopt::socket_acceptconn(handed.as_fd())? {
        return Err(io::Error::other("it is no listener"));
    }
    let listener = std::net::TcpListener::from(handed);
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::other("it does not listen on its loopback"));
    }
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn connection(mut client: TcpStream, shared: &Shared) {
    match open(&mut client, shared).await {
        Ok((server, request, rest)) => relay::relay(client, server, &request, &rest, &shared.clock).await,
        Err((status, why)) => {
            shared.note(&why, status == Status::BeyondReach);
            let text = format!("the proxy of the sandbox: {}\n", one_line(&why));
            let head = format!(
                "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                status.text(),
                text.len()
            );
            let answer = async {
                client.write_all(head.as_bytes()).await?;
                client.write_all(text.as_bytes()).await?;
                client.shutdown().await
            };
            let _ = shared.clock.timeout(HEAD_TIME, answer).await; // it hung up: it wanted no answer
        }
    }
}

/// Reads what the client wants, judges it, and reaches the server; with what came behind the head.
async fn open(client: &mut TcpStream, shared: &Shared) -> Result<(TcpStream, Request, Vec<u8>), No> {
    let mut bytes = Vec::new();
    let read = shared.clock.timeout(HEAD_TIME, read_head(client, &mut bytes)).await;
    let end = read.map_err(|_| (Status::Timeout, "no request came in time".to_owned()))??;
    let rest = bytes.split_off(end);
    let request = head::parse(&bytes).map_err(|why| (Status::BadRequest, why.to_owned()))?;
    if !shared.rules.allow(&request.target) {
        let why = format!("{} is not among the URIs that are allowed", request.target);
        return Err((Status::NotAllowed, why));
    }
    let server = shared.clock.timeout(DIAL_TIME, shared.dial(&request.target)).await;
    let late = |_| (Status::GatewayTimeout, format!("{} was not reached in time", request.target));
    Ok((server.map_err(late)??, request, rest))
}

async fn read_head(client: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<usize, No> {
    loop {
        if let Some(end) = head::end_of(bytes) {
            return Ok(end);
        }
        if bytes.len() >= HEAD_MAX {
            return Err((Status::TooLarge, "the request's head is too long".into()));
        }
        let mut chunk = [0; 2048];
        match client.read(&mut chunk).await {
            Ok(0) | Err(_) => return Err((Status::BadRequest, "the client hung up in its request".into())),
            Ok(size) => bytes.extend_from_slice(&chunk[..size]),
        }
    }
}

impl Shared {
    /// Looks the host up once, judges each address, and dials those that are good.
    async fn dial(&self, target: &Target) -> Result<TcpStream, No> {
        let failed = |error| (Status::BadGateway, format!("cannot reach {target}: {error}"));
        let found = lookup_host((target.host.as_str(), target.port)).await.map_err(failed)?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        let (good, bad): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|address| self.reach.has(classify(address.ip())));
        let mut last = match bad.first().map(|address| (address.ip(), classify(address.ip()))) {
            Some((ip, kind)) => (Status::BeyondReach, format!("{target} is at {ip}, {kind}")),
            None => (Status::BadGateway, format!("{target} has no address")),
        };
        for address in good {
            match TcpStream::connect(address).await {
                Ok(server) => return Ok(server),
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    fn note(&self, why: &str, is_beyond_reach: bool) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = Refused { why: one_line(why).to_string(), is_beyond_reach };
        if kept.len() < KEPT_MAX && !kept.contains(&refused) {
            kept.push(refused);
        }
        drop(kept);
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if before < LOGGED_MAX {
            tracing::info!("the proxy of the sandbox did not serve a request: {}", one_line(why));
        } else if before == LOGGED_MAX {
            tracing::info!(
                "the proxy of the sandbox did not serve more requests; further ones are not written here"
            );
        }
    }
}
