//! One stream of a child. In: its pipe; out: pieces of what it says, gathered where they are small. Leaves out what they mean.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until};

use super::Stream;
use super::tail::{Keeper, Lines};

const CHUNK: usize = 16 * 1024;
/// Fewer bytes at once are little.
const LITTLE_BYTES: usize = CHUNK / 2;

/// What a child says.
enum Pipe {
    /// Whatever comes wakes us.
    Heard(pipe::Receiver),
    /// Nothing does until then: the kernel tells of each piece that comes to a pipe which is registered, wanted or not.
    Resting(OwnedFd, Instant),
    /// The end, which a pipe that cannot be read has reached as well.
    Closed,
}

/// One of a child's two streams.
pub(super) struct Output {
    pub(super) stream: Stream,
    pipe: Pipe,
    /// [`Spec::gather`](super::Spec::gather).
    gather: Duration,
    /// What was read last.
    pub(super) buffer: Box<[u8]>,
    pub(super) keeper: Keeper,
    pub(super) lines: Lines,
}

impl Output {
    pub(super) fn new(
        stream: Stream,
        fd: Option<OwnedFd>,
        tail: usize,
        gather: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            stream,
            pipe: match fd {
                Some(fd) => Pipe::Heard(pipe::Receiver::from_owned_fd(fd)?),
                None => Pipe::Closed,
            },
            gather,
            buffer: vec![0; CHUNK].into_boxed_slice(),
            keeper: Keeper::new(tail),
            lines: Lines::default(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        !matches!(self.pipe, Pipe::Closed)
    }

    /// It has come to its end.
    pub(super) fn close(&mut self) {
        self.pipe = Pipe::Closed;
    }

    /// What is left is read as it comes, also where it rests now.
    pub(super) fn gather_no_more(&mut self) {
        self.gather = Duration::ZERO;
    }

    /// How many bytes came; 0 at the end. Cancel safe.
    ///
    /// # Errors
    /// When the system cannot wake us any more by what comes.
    pub(super) async fn read(&mut self) -> io::Result<usize> {
        if let Pipe::Resting(_, until) = &self.pipe {
            let until = if self.gather.is_zero() { Instant::now() } else { *until };
            sleep_until(until).await;
            self.pipe = match std::mem::replace(&mut self.pipe, Pipe::Closed) {
                Pipe::Resting(fd, _) => Pipe::Heard(pipe::Receiver::from_owned_fd_unchecked(fd)?),
                other => other,
            };
        }
        let size = match &mut self.pipe {
            Pipe::Heard(pipe) => pipe.read(&mut self.buffer).await.unwrap_or(0),
            Pipe::Resting(..) | Pipe::Closed => std::future::pending().await,
        };
        // One who says much has more to say already.
        if (1..LITTLE_BYTES).contains(&size) && !self.gather.is_zero() {
            self.rest()?;
        }
        Ok(size)
    }

    fn rest(&mut self) -> io::Result<()> {
        self.pipe = match std::mem::replace(&mut self.pipe, Pipe::Closed) {
            Pipe::Heard(pipe) => Pipe::Resting(pipe.into_nonblocking_fd()?, Instant::now() + self.gather),
            other => other,
        };
        Ok(())
    }
}
