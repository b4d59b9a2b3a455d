//! A small HTTP server on the loopback interface for stand-ins of services. In: a function from request to answer. Out:
//! its address, and the requests it saw. Its threads end with their clients, which its own end sends away.

use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::http_cache::wire::{self, Answer, Request};

/// Most bytes of a request's body.
const BODY_MAX: usize = 1 << 20;

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct Double {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    clients: Mutex<Vec<TcpStream>>,
    log: Mutex<Vec<String>>,
    stop: AtomicBool,
}

pub(crate) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Double {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on the loopback interface");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if server.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                if let Ok(copy) = client.try_clone() {
                    lock(&server.clients).push(copy);
                }
                let (server, answer) = (Arc::clone(&server), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let _ = server.serve(&client, &*answer); // an error is a client that went away
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Method and path of all requests, in their order.
    pub(crate) fn log(&self) -> Vec<String> {
        lock(&self.shared.log).clone()
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream, answer: &dyn Fn(&Request) -> Answer) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut from = BufReader::new(client);
        while let Some(mut request) = wire::head(&mut from)? {
            request.read_body(&mut from, BODY_MAX, BODY_MAX)?;
            lock(&self.log).push(format!("{} {}", request.method, request.path()));
            answer(&request).write(client, false)?;
        }
        Ok(())
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in lock(&self.shared.clients).drain(..) {
            let _ = client.shutdown(Shutdown::Both); // it may have gone by itself
        }
        let _ = TcpStream::connect(self.address); // wakes the listener, which then sees that it is to end
    }
}
