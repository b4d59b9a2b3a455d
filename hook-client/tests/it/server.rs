//! A daemon of a few lines: takes connections one after the other, keeps what was said, answers as it was
//! told.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hook_wire::{ACK_MAX, Ack, FRAME_MAX, HEADER_LEN, Header, Status};
use rustix::net::Shutdown;

use crate::harness::Said;

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Manner {
    /// Sends these bytes and hangs up.
    Answer(Vec<u8>),
    /// Sends these bytes one at a time.
    Dribble(Vec<u8>),
    /// Reads the request, says nothing, and keeps the connection.
    Silent,
    /// Hangs up without reading.
    HangUp,
}

impl Manner {
    pub(crate) fn ack(status: Status, text: &str) -> Self {
        Self::Answer(ack(status, text))
    }
}

pub(crate) fn ack(status: Status, text: &str) -> Vec<u8> {
    let mut buffer = [0; ACK_MAX];
    let (accepted, refused) = if status == Status::Queued { (1, 0) } else { (0, 1) };
    Ack { status, accepted, refused, text }.encode(&mut buffer).unwrap().to_vec()
}

pub(crate) struct Server {
    listener: UnixListener,
    heard: Arc<Mutex<Vec<Said>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(path: &Path, manner: Manner) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let accepting = listener.try_clone().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (told, ended) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in accepting.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                kept.extend(serve(stream.unwrap(), &manner, &told));
            }
        });
        Self { listener, heard, stop, thread: Some(thread) }
    }

    /// What was said so far.
    pub(crate) fn heard(&self) -> Vec<Said> {
        self.heard.lock().unwrap().clone()
    }

    /// The one request that was made. A hook in a hurry may have gone before it was heard.
    pub(crate) fn only(&self) -> Said {
        test_kit::wait::until(Duration::from_secs(20), || !self.heard().is_empty());
        let heard = self.heard();
        assert_eq!(heard.len(), 1);
        heard[0].clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread, whether or not the socket's name is still there.
        rustix::net::shutdown(&self.listener, Shutdown::Both).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server stopped at a surprise");
    }
}

fn serve(mut stream: UnixStream, manner: &Manner, heard: &Mutex<Vec<Said>>) -> Option<UnixStream> {
    if matches!(manner, Manner::HangUp) {
        return None;
    }
    let mut frame = vec![0; HEADER_LEN];
    let begun = stream.read(&mut frame).unwrap();
    if begun == 0 {
        // A hook in a hurry gave up before it said anything.
        return None;
    }
    stream.read_exact(&mut frame[begun..]).unwrap();
    let header = Header::parse(&frame).unwrap().within(FRAME_MAX).unwrap();
    frame.resize(header.frame_len(), 0);
    stream.read_exact(&mut frame[HEADER_LEN..]).unwrap();
    heard.lock().unwrap().push(Said::read(&frame));
    // The hook may have given up by now, as it should in some tests.
    match manner {
        Manner::Answer(bytes) => drop(stream.write_all(bytes)),
        Manner::Dribble(bytes) => bytes.chunks(1).for_each(|byte| drop(stream.write_all(byte))),
        Manner::Silent => return Some(stream),
        Manner::HangUp => {}
    }
    None
}
