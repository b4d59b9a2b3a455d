//! The conversation with the daemon: a finished frame goes in, its one acknowledgement comes out, or the
//! reason why there is none by the deadline. The deadline holds for connect, send and receive together.
//! Nothing is tried again: what has no answer goes into the spool.

use core::fmt;
use core::num::NonZeroU32;

use hook_wire::{ACK_MAX, Ack, HEADER_LEN, Header, Kind, WireError};

use crate::{Fault, Sys};

/// Why there is no acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// Nobody took the connection.
    Connect(Fault),
    /// The request did not get across.
    Send(Fault),
    /// The answer did not get here.
    Receive(Fault),
    /// The daemon hung up before the end of its answer.
    Closed,
    /// The answer is no acknowledgement.
    Garbage(WireError),
}

impl NoAnswer {
    /// Whether this happens on any machine whose daemon is down, starting or loaded. The rest is a mistake
    /// that somebody has to repair, and is said even when the spool took the request.
    pub(crate) const fn is_ordinary(self) -> bool {
        match self {
            Self::Connect(fault) | Self::Send(fault) | Self::Receive(fault) => {
                matches!(fault, Fault::Absent | Fault::Refused | Fault::TimedOut | Fault::Gone)
            }
            Self::Closed => true,
            Self::Garbage(_) => false,
        }
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(fault) => write!(f, "connect: {fault}"),
            Self::Send(fault) => write!(f, "send the request: {fault}"),
            Self::Receive(fault) => write!(f, "wait for the answer: {fault}"),
            Self::Closed => f.write_str("it hung up without an answer"),
            Self::Garbage(error) => write!(f, "its answer is not understood: {error}"),
        }
    }
}

/// Sends `frame` and reads the answer into `buffer`, which has [`ACK_MAX`] bytes.
pub(crate) fn ask<'b, S: Sys>(
    sys: &S,
    socket: &[u8],
    timeout_ms: NonZeroU32,
    frame: &[u8],
    buffer: &'b mut [u8],
) -> Result<Ack<'b>, NoAnswer> {
    let deadline = Deadline { sys, end_ms: sys.monotonic_ms() + u64::from(timeout_ms.get()) };
    let socket = deadline.hold(|left| sys.connect(socket, left)).map_err(NoAnswer::Connect)?;
    let mut sent = 0;
    while sent < frame.len() {
        sent += deadline.hold(|left| sys.send(&socket, &frame[sent..], left)).map_err(NoAnswer::Send)?;
    }
    let mut got = 0;
    let mut wanted = HEADER_LEN;
    while got < wanted {
        let more = deadline.hold(|left| sys.receive(&socket, &mut buffer[got..], left));
        match more.map_err(NoAnswer::Receive)? {
            0 => return Err(NoAnswer::Closed),
            bytes => got += bytes,
        }
        if got >= HEADER_LEN {
            wanted = answer_len(&buffer[..got]).map_err(NoAnswer::Garbage)?;
        }
    }
    if got > wanted {
        return Err(NoAnswer::Garbage(WireError::Trailing(got - wanted)));
    }
    Ack::parse(&buffer[HEADER_LEN..wanted]).map_err(NoAnswer::Garbage)
}

fn answer_len(bytes: &[u8]) -> Result<usize, WireError> {
    let header = Header::parse(bytes)?.within(ACK_MAX)?;
    match header.kind {
        Kind::Ack => Ok(header.frame_len()),
        other => Err(WireError::UnexpectedKind(other)),
    }
}

/// The moment at which the conversation is over.
struct Deadline<'s, S> {
    sys: &'s S,
    end_ms: u64,
}

impl<S: Sys> Deadline<'_, S> {
    /// Does a call with the time that is left, again when a signal interrupted it.
    fn hold<T>(&self, mut call: impl FnMut(NonZeroU32) -> Result<T, Fault>) -> Result<T, Fault> {
        loop {
            let left = self.end_ms.saturating_sub(self.sys.monotonic_ms());
            let left = u32::try_from(left).ok().and_then(NonZeroU32::new).ok_or(Fault::TimedOut)?;
            match call(left) {
                Err(Fault::Interrupted) => {}
                done => return done,
            }
        }
    }
}
