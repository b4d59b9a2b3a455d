//! A web server for git repositories on this machine's loopback, one thread a request: what git's `http-backend` says,
//! after a look at who asks. It can hold answers back, ask for a login, and send elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_kit::wait;

#[derive(Clone)]
pub(super) struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    root: PathBuf,
    login: Mutex<Option<String>>,
    elsewhere: Mutex<Option<String>>,
    is_held: AtomicBool,
    is_old: AtomicBool,
    holding: AtomicUsize,
    asked: AtomicUsize,
    is_over: AtomicBool,
}

impl Server {
    pub(super) fn start(root: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            root,
            login: Mutex::default(),
            elsewhere: Mutex::default(),
            is_held: AtomicBool::new(false),
            is_old: AtomicBool::new(false),
            holding: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let serving = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(shared) = serving.upgrade().filter(|shared| !shared.is_over.load(SeqCst)) else {
                    return;
                };
                std::thread::spawn(move || {
                    let _ = answer(&shared, stream.unwrap()); // whoever asked may have gone
                });
            }
        });
        Self { shared, address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks for this login from now on.
    pub(super) fn require(&self, login: &str) {
        *self.shared.login.lock().unwrap() = Some(format!("Basic {login}"));
    }

    pub(super) fn redirect_to(&self, url: &str) {
        *self.shared.elsewhere.lock().unwrap() = Some(url.to_owned());
    }

    /// Holds all answers back, or lets them go.
    pub(super) fn hold(&self, is_held: bool) {
        self.shared.is_held.store(is_held, SeqCst);
    }

    /// Speaks the oldest protocol from now on, by which no commit is given by its hash.
    pub(super) fn grow_old(&self) {
        self.shared.is_old.store(true, SeqCst);
    }

    /// How many answers are held back.
    pub(super) fn holding(&self) -> usize {
        self.shared.holding.load(SeqCst)
    }

    pub(super) fn asked(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if Arc::strong_count(&self.shared) == 1 {
            self.shared.is_over.store(true, SeqCst);
            let _ = TcpStream::connect(self.address); // wakes the thread that listens
        }
    }
}

fn answer(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut from = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    let mut line = String::new();
    from.read_line(&mut line)?;
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let [method, target, _] = &words[..] else { return Ok(()) };
    let headers = headers(&mut from)?;
    let is_old = shared.is_old.load(SeqCst);
    let headers = headers.into_iter().filter(|(key, _)| !(is_old && key == "git-protocol"));
    let headers: Vec<_> = headers.collect();
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    shared.asked.fetch_add(1, SeqCst);
    if let Some(url) = &*shared.elsewhere.lock().unwrap() {
        return write!(
            to,
            "HTTP/1.1 302 Found\r\nLocation: {url}{target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let login = shared.login.lock().unwrap().clone();
    if login.is_some() && header("authorization") != login {
        return to.write_all(b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    shared.holding.fetch_add(1, SeqCst);
    wait::comes_true(Duration::from_secs(60), || !shared.is_held.load(SeqCst));
    shared.holding.fetch_sub(1, SeqCst);
    let body = body(&mut from, &header)?;
    to.write_all(&backend(&shared.root, method, target, &header, &body))
}

fn headers(from: &mut impl BufRead) -> std::io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((key, value)) = line.trim_end().split_once(": ") else { return Ok(headers) };
        headers.push((key.to_lowercase(), value.to_owned()));
    }
}

fn body(from: &mut impl BufRead, header: &impl Fn(&str) -> Option<String>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        body.resize(length.parse().unwrap(), 0);
        from.read_exact(&mut body)?;
        return Ok(body);
    }
    while header("transfer-encoding").is_some() {
        let mut size = String::new();
        from.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..])?;
        from.read_line(&mut String::new())?;
        if size == 0 {
            break;
        }
    }
    Ok(body)
}

/// What git's own program says, as HTTP.
fn backend(
    root: &Path,
    method: &str,
    target: &str,
    header: &impl Fn(&str) -> Option<String>,
    body: &[u8],
) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut command = super::support::git(root);
    command.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("REQUEST_METHOD", method).env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("CONTENT_TYPE", header("content-type").unwrap_or_default());
    command
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default());
    command.env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&body));
    let out = child.wait_with_output().unwrap().stdout;
    let _ = writing.join().unwrap(); // it may not want all of it
    let end = out.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&out[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let kept: String =
        head.lines().filter(|line| !line.starts_with("Status")).map(|line| format!("{line}\r\n")).collect();
    let content = &out[end + 4..];
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{kept}Content-Length: {}\r\nConnection: close\r\n\r\n", content.len())
            .into_bytes();
    answer.extend_from_slice(content);
    answer
}
