//! An HTTP destination that is slow or stuck: enough of a server for `nix copy`, on the loopback interface. What it
//! was sent stays in its memory; its threads end with their clients.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix_store::copy::StoreUrl;

/// How it takes archives; all else is answered at once.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// At most 64 KiB in 20 ms, until so much time has passed; the rest at once.
    SlowFor(Duration),
    /// It reads the head, then nothing.
    Never,
}

/// A server, for as long as this value lives.
pub(crate) struct Destination {
    pub(crate) url: StoreUrl,
    shared: Arc<Shared>,
    /// Closed with this value, which wakes whoever waits.
    _open: Sender<()>,
}

struct Shared {
    pace: Pace,
    store_dir: String,
    files: Mutex<HashMap<String, Vec<u8>>>,
    closed: Mutex<Receiver<()>>,
}

impl Destination {
    pub(crate) fn new(store_dir: &str, pace: Pace) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What a large buffer holds moves without the client, which then stands still for as long.
        rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 128 << 10).unwrap();
        let url = format!("http://{}?compression=none", listener.local_addr().unwrap());
        let (open, closed) = channel();
        let files = Mutex::default();
        let shared =
            Arc::new(Shared { pace, store_dir: store_dir.into(), files, closed: Mutex::new(closed) });
        let server = Arc::clone(&shared);
        // Ends with the test program: it waits for clients that do not come.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (server, client) = (Arc::clone(&server), client.unwrap());
                std::thread::spawn(move || server.serve(&client)); // an error is a client that went away
            }
        });
        Self { url: StoreUrl::parse(&url).unwrap(), shared, _open: open }
    }

    /// How long the files are that it was sent, by path.
    pub(crate) fn sizes(&self) -> HashMap<String, usize> {
        self.shared.files().iter().map(|(path, bytes)| (path.clone(), bytes.len())).collect()
    }
}

impl Shared {
    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; true when the server is no more.
    fn closed_within(&self, time: Duration) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(closed.recv_timeout(time), Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
    }

    fn serve(&self, client: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(client);
        loop {
            let (mut request, mut length, mut line) = (String::new(), 0, String::new());
            lines.read_line(&mut request)?;
            let mut words = request.split_whitespace();
            let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
            while lines.read_line(&mut line)? > 2 {
                let (name, value) = line.split_once(':').unwrap();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "expect" => (&mut &*client).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                    _ => {}
                }
                line.clear();
            }
            let answer = if method == "PUT" {
                let body = self.take(&mut lines, path, length)?;
                self.files().insert(path.to_owned(), body);
                Some(Vec::new())
            } else {
                let info = format!("StoreDir: {}\n", self.store_dir).into_bytes();
                self.files().get(path).cloned().or((path == "/nix-cache-info").then_some(info))
            };
            let (status, body) = answer.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            let body = if method == "HEAD" { &[][..] } else { &body[..] };
            (&mut &*client).write_all(&[head.as_bytes(), body].concat())?;
        }
    }

    fn take(&self, from: &mut impl Read, path: &str, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        if !path.starts_with("/nar/") {
            from.read_exact(&mut body)?;
            return Ok(body);
        }
        let begun = Instant::now();
        for chunk in body.chunks_mut(65_536) {
            let wait = match self.pace {
                Pace::SlowFor(time) if begun.elapsed() < time => Duration::from_millis(20),
                Pace::SlowFor(_) => Duration::ZERO,
                Pace::Never => Duration::from_secs(3600),
            };
            if self.closed_within(wait) {
                return Err(io::ErrorKind::NotConnected.into());
            }
            from.read_exact(chunk)?;
        }
        Ok(body)
    }
}
