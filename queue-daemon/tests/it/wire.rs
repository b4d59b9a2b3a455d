//! A client of the enqueue socket in the test's own process, for what the real hook cannot be made to do: the same
//! request twice, an answer nobody reads, a thousand requests from one thread.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hook_wire::{ACK_MAX, Ack, FRAME_MAX, FieldTag, FrameWriter, HEADER_LEN, Header, Kind, Source, Status};

/// Longer than anything should take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request of a hook, as one frame; the number is its idempotency key.
pub(crate) fn enqueue_frame(key: u128, paths: &[&str]) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_MAX];
    let mut frame = FrameWriter::new(&mut buffer, Kind::Enqueue);
    frame.field(FieldTag::Key, &key.to_be_bytes()).unwrap();
    frame.field(FieldTag::Source, &[Source::Hook.number()]).unwrap();
    frame.field(FieldTag::MadeMs, &1_u64.to_le_bytes()).unwrap();
    for path in paths {
        frame.field(FieldTag::Path, path.as_bytes()).unwrap();
    }
    frame.finish().to_vec()
}

/// A connection.
pub(crate) struct Client {
    stream: UnixStream,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream })
    }

    /// Sends a frame and reads no answer.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame)
    }

    /// Sends a frame and reads what became of it.
    pub(crate) fn ask(&mut self, frame: &[u8]) -> io::Result<Status> {
        self.send(frame)?;
        let mut answer = [0; ACK_MAX];
        self.stream.read_exact(&mut answer[..HEADER_LEN])?;
        let header = Header::parse(&answer).unwrap();
        assert_eq!(header.kind, Kind::Ack);
        let payload = &mut answer[HEADER_LEN..header.frame_len()];
        self.stream.read_exact(payload)?;
        Ok(Ack::parse(payload).unwrap().status)
    }
}
