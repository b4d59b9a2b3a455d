//! A client of the enqueue socket, as `eka-hook` is one: a connection, a frame, an acknowledgement. Paths come in,
//! the number of deliveries that are on disk goes out.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hook_wire::{
    ACK_MAX, Ack, FRAME_MAX, FieldTag, FrameWriter, HEADER_LEN, Header, KEY_LEN, Kind, Source, Status,
};

use crate::error::{BenchError, Doing};

/// A daemon that has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// When every request says it was made.
const MADE_MS: u64 = 1_700_000_000_000;

/// A frame that queues these paths, under a key of its own.
pub(crate) fn enqueue_frame(paths: &[String]) -> Result<Vec<u8>, BenchError> {
    let mut buffer = vec![0; FRAME_MAX];
    let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
    let written = (|| {
        frame.field(FieldTag::Key, &fresh_key())?;
        frame.field(FieldTag::Source, &[Source::Hook.number()])?;
        frame.field(FieldTag::MadeMs, &MADE_MS.to_le_bytes())?;
        paths.iter().try_for_each(|path| frame.field(FieldTag::Path, path.as_bytes()))
    })();
    written.map_err(|_| BenchError::new(format!("put {} paths into one frame", paths.len())))?;
    let len = frame.finish().len();
    buffer.truncate(len);
    Ok(buffer)
}

/// Most paths of this length that one frame takes.
pub(crate) fn paths_per_frame(path_len: usize) -> usize {
    (FRAME_MAX - 256) / (path_len + hook_wire::FIELD_HEADER_LEN)
}

/// Sends a frame over a connection of its own.
pub(crate) fn send(socket: &Path, frame: &[u8]) -> Result<UnixStream, BenchError> {
    let connect = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(frame)?;
        Ok::<_, std::io::Error>(stream)
    };
    connect().doing(format!("send a request to {}", socket.display()))
}

/// Waits for the acknowledgement, which must be that everything is queued; gives the number of deliveries.
pub(crate) fn acknowledged(mut stream: UnixStream) -> Result<u32, BenchError> {
    let mut answer = [0; ACK_MAX];
    let mut receive = || {
        stream.read_exact(&mut answer[..HEADER_LEN])?;
        let header = Header::parse(&answer).and_then(|header| header.within(ACK_MAX));
        let payload = HEADER_LEN..header.map_err(std::io::Error::other)?.frame_len();
        stream.read_exact(&mut answer[payload.clone()])?;
        Ok::<_, std::io::Error>(payload)
    };
    let payload = receive().doing("read an acknowledgement")?;
    let ack = Ack::parse(&answer[payload]).doing("understand an acknowledgement")?;
    match ack.status {
        Status::Queued => Ok(ack.accepted),
        other => Err(BenchError::new(format!("queue paths: the daemon says {other:?}, {}", ack.text))),
    }
}

/// [`send`] and [`acknowledged`].
pub(crate) fn enqueue(socket: &Path, frame: &[u8]) -> Result<u32, BenchError> {
    acknowledged(send(socket, frame)?)
}

/// No two requests of all runs have the same key.
fn fresh_key() -> [u8; KEY_LEN] {
    static RUN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("run"));
    static REQUEST: AtomicU64 = AtomicU64::new(0);
    let request = REQUEST.fetch_add(1, Ordering::Relaxed);
    let mut key = [0; KEY_LEN];
    key[..8].copy_from_slice(&RUN.to_le_bytes());
    key[8..].copy_from_slice(&request.to_le_bytes());
    key
}
