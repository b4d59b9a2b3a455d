//! The subcommands' end of the control socket.
//!
//! In flows a request; out flow its replies, one by one, and how it ended. Blocking: a subcommand does one thing, for as
//! long as its caller has patience. Knows nothing of what the replies mean.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::{End, Failure, Reply, Request, Snapshot};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no daemon answers at {}; see that `eka-queue serve` runs, and that you may open its control socket", socket.display())]
    Unreachable {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It answered and then hung up: it stopped, or was killed.
    #[error("the daemon at {} hung up in the middle of its answer", socket.display())]
    Hangup {
        /// The control socket.
        socket: PathBuf,
    },
    /// Whoever reads what we print has had enough.
    #[error("cannot print the answer")]
    Output(#[source] io::Error),
    /// The time was over before it had answered to the end: it is stopped, hung or overloaded.
    #[error(
        "the daemon at {} does not answer in time: it is stopped or hung, or the machine is overloaded; \
         see `systemctl status eka-queue` and its log, then let it go on (SIGCONT) or restart it",
        socket.display()
    )]
    Silent {
        /// The control socket.
        socket: PathBuf,
    },
    /// It said something this version does not understand.
    #[error("the daemon at {} speaks another version; use its own eka-queue", socket.display())]
    Stranger {
        /// The control socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It refused.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl ClientError {
    /// True when the daemon may be back in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Hangup { .. } => true,
            Self::Output(_) | Self::Silent { .. } | Self::Stranger { .. } | Self::Refused(_) => false,
        }
    }
}

/// How long somebody waits for the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// However long it takes.
    Endless,
    /// Until this moment, whatever has been said by then.
    Until(Instant),
    /// As long as no silence lasts longer than this; more than 0.
    Silence(Duration),
}

impl Patience {
    /// How long a single wait may take; `None` is for ever. An error when the time is over.
    fn left(self) -> io::Result<Option<Duration>> {
        let left = match self {
            Self::Endless => return Ok(None),
            Self::Until(moment) => moment.saturating_duration_since(Instant::now()),
            Self::Silence(time) => time,
        };
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

/// Asks the daemon at `socket`, however long the answer takes; gives each reply to `each` and returns the last.
///
/// # Errors
/// See `ClientError`; an error of `each` is `ClientError::Output`.
pub fn ask(
    socket: &Path,
    request: &Request,
    each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<End, ClientError> {
    ask_with(socket, request, Patience::Endless, each)
}

/// The same, with so much patience.
///
/// # Errors
/// As `ask`, and `ClientError::Silent` when it was at its end before the last reply.
pub fn ask_with(
    socket: &Path,
    request: &Request,
    patience: Patience,
    mut each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<End, ClientError> {
    converse(socket, request, patience, |reply, _| each(reply))
}

/// Asks for a backup: gives what is said of the snapshot, and the connection with its bytes, to `body`, which must read
/// all of them. Returns what was said once the daemon has said that it is all.
///
/// # Errors
/// As `ask_with`; an error of `body` is `ClientError::Output`, or `ClientError::Hangup` when the bytes end too early.
pub(crate) fn fetch(
    socket: &Path,
    patience: Patience,
    mut body: impl FnMut(&Snapshot, &mut dyn Read) -> io::Result<()>,
) -> Result<Snapshot, ClientError> {
    let mut received = None;
    let end = converse(socket, &Request::Backup, patience, |reply, rest| {
        if let Reply::Snapshot(snapshot) = reply {
            body(&snapshot, rest)?;
            received = Some(snapshot);
        }
        Ok(())
    });
    let cut_off = || ClientError::Hangup { socket: socket.to_owned() };
    match end {
        Ok(_) => received.ok_or_else(cut_off),
        Err(ClientError::Output(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(cut_off()),
        Err(ClientError::Output(error)) if is_late(&error) => {
            Err(ClientError::Silent { socket: socket.to_owned() })
        }
        Err(error) => Err(error),
    }
}

fn converse(
    socket: &Path,
    request: &Request,
    patience: Patience,
    mut each: impl FnMut(Reply, &mut dyn Read) -> io::Result<()>,
) -> Result<End, ClientError> {
    let hangup = || ClientError::Hangup { socket: socket.to_owned() };
    let silent = || ClientError::Silent { socket: socket.to_owned() };
    let mut line = serde_json::to_vec(request).expect("a request serialises: it holds texts and numbers");
    line.push(b'\n');
    let sent = connect(socket, patience).and_then(|mut stream| stream.write_all(&line).map(|()| stream));
    let stream = match sent {
        Ok(stream) => stream,
        Err(error) if is_late(&error) => return Err(silent()),
        Err(source) => return Err(ClientError::Unreachable { socket: socket.to_owned(), source }),
    };
    let mut reader = BufReader::new(Bounded { stream, patience });
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line);
        if read.map_err(|error| if is_late(&error) { silent() } else { hangup() })? == 0 {
            return Err(hangup());
        }
        let stranger = |source| ClientError::Stranger { socket: socket.to_owned(), source };
        match serde_json::from_slice(&line).map_err(stranger)? {
            Reply::End(end) => return Ok(end),
            Reply::Error(failure) => return Err(ClientError::Refused(failure)),
            reply => each(reply, &mut reader).map_err(ClientError::Output)?,
        }
    }
}

/// A connection whose making and writing end with the patience: a daemon that is stopped may have a full backlog.
fn connect(socket: &Path, patience: Patience) -> io::Result<UnixStream> {
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&fd, Timeout::Send, patience.left()?)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(fd))
}

/// Both are how the system says that a time limit was reached.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A connection each read of which ends with the patience.
struct Bounded {
    stream: UnixStream,
    patience: Patience,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.patience.left()?)?;
        self.stream.read(buffer)
    }
}
