//! Messages to the enqueue socket, written field by field: what the CI says, and what no honest client would.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hook_wire::{Ack, FieldTag, FrameWriter, Header, Kind, SPOOL_FILE_MAX, Source, Status, Trust};

use crate::world::World;

/// A message under construction.
pub(crate) struct Frame {
    kind: Kind,
    fields: Vec<(FieldTag, Vec<u8>)>,
}

/// What the daemon answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) accepted: u32,
    pub(crate) refused: u32,
    pub(crate) text: String,
}

impl Answer {
    /// As numbers and text, for another process.
    pub(crate) fn parts(&self) -> (u8, u32, u32, &str) {
        (self.status.number(), self.accepted, self.refused, &self.text)
    }
}

impl From<(u8, u32, u32, String)> for Answer {
    fn from((status, accepted, refused, text): (u8, u32, u32, String)) -> Answer {
        Answer { status: Status::from_number(status).unwrap(), accepted, refused, text }
    }
}

impl Frame {
    /// A message without any field.
    pub(crate) fn empty(kind: Kind) -> Frame {
        Frame { kind, fields: Vec::new() }
    }

    /// A request with a key no other has.
    pub(crate) fn enqueue(source: Source) -> Frame {
        static LAST_KEY: AtomicU64 = AtomicU64::new(0);
        let key = u128::from(LAST_KEY.fetch_add(1, Ordering::Relaxed)) << 64;
        Frame::empty(Kind::Enqueue)
            .with(FieldTag::Key, key.to_be_bytes())
            .with(FieldTag::Source, [source.number()])
            .with(FieldTag::MadeMs, 0_u64.to_le_bytes())
    }

    /// A request of the CI, for a build of this trust.
    pub(crate) fn of_the_ci(trust: Trust) -> Frame {
        Frame::enqueue(Source::Ci).with(FieldTag::Trust, [trust.number()])
    }

    /// The CI builds something, for so many seconds; the letter names the claim.
    pub(crate) fn claim(name: u8, trust: Trust, ttl_seconds: u64) -> Frame {
        Frame::empty(Kind::Claim)
            .with(FieldTag::Key, [name; 16])
            .with(FieldTag::Trust, [trust.number()])
            .with(FieldTag::TtlSeconds, ttl_seconds.to_le_bytes())
    }

    /// The CI is done with a claim.
    pub(crate) fn unclaim(name: u8) -> Frame {
        Frame::empty(Kind::Unclaim).with(FieldTag::Key, [name; 16])
    }

    /// One more field.
    pub(crate) fn with(mut self, tag: FieldTag, value: impl AsRef<[u8]>) -> Frame {
        self.fields.push((tag, value.as_ref().to_owned()));
        self
    }

    pub(crate) fn path(self, path: &str) -> Frame {
        self.with(FieldTag::Path, path)
    }

    pub(crate) fn drv(self, drv: &str) -> Frame {
        self.with(FieldTag::Drv, drv)
    }

    pub(crate) fn to(self, destination: &str) -> Frame {
        self.with(FieldTag::Destination, destination)
    }

    /// The bytes of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len: usize = self.fields.iter().map(|(_, value)| value.len() + 5).sum();
        let mut buffer = vec![0; (len + 12).min(SPOOL_FILE_MAX)];
        let mut frame = FrameWriter::new(&mut buffer, self.kind);
        for (tag, value) in &self.fields {
            frame.field(*tag, value).unwrap();
        }
        frame.finish().to_vec()
    }

    /// Sends it and hears the answer.
    #[track_caller]
    pub(crate) fn send(&self, world: &World) -> Answer {
        exchange(world, &self.bytes()).expect("the daemon answers")
    }
}

/// Sends bytes, then says that there are no more; `None` when the daemon hangs up without an answer.
pub(crate) fn exchange(world: &World, bytes: &[u8]) -> Option<Answer> {
    let mut stream = connect(world);
    // It may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    hear(&mut stream)
}

/// A connection to the enqueue socket.
pub(crate) fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.path("enqueue.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Reads one answer; `None` when the daemon hangs up without one.
pub(crate) fn hear(stream: &mut UnixStream) -> Option<Answer> {
    let mut head = [0; hook_wire::HEADER_LEN];
    stream.read_exact(&mut head).ok()?;
    let header = Header::parse(&head).unwrap();
    assert_eq!(header.kind, Kind::Ack);
    let mut payload = vec![0; header.frame_len() - head.len()];
    stream.read_exact(&mut payload).unwrap();
    let Ack { status, accepted, refused, text } = Ack::parse(&payload).unwrap();
    Some(Answer { status, accepted, refused, text: text.to_owned() })
}
