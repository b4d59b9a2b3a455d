//! The subcommands' end of the control socket.
//!
//! In flows a request; out flow its replies, one by one, and how it ended. Blocking: a subcommand does one thing, for
//! ever or until a moment that its caller names. Knows nothing of what the replies mean.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::protocol::{End, Failure, Reply, Request};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no daemon answers at {}; is `eka-queue serve` running, and may you open its control socket?", socket.display())]
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
    /// The time was over before it had answered to the end: it is stopped, hung or overloaded.
    #[error("the daemon at {} does not answer in time; is it stopped, or the machine overloaded?", socket.display())]
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
            Self::Silent { .. } | Self::Stranger { .. } | Self::Refused(_) => false,
        }
    }
}

/// Asks the daemon at `socket`, however long the answer takes; gives each reply to `each` and returns the last.
///
/// # Errors
/// See `ClientError`; an error of `each` (our own output is closed) ends the conversation as a hang-up.
pub fn ask(
    socket: &Path,
    request: &Request,
    each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<End, ClientError> {
    ask_until(socket, request, None, each)
}

/// The same, but not longer than until this moment.
///
/// # Errors
/// As `ask`, and `ClientError::Silent` when the moment came before the last reply.
pub fn ask_until(
    socket: &Path,
    request: &Request,
    until: Option<Instant>,
    mut each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<End, ClientError> {
    let hangup = || ClientError::Hangup { socket: socket.to_owned() };
    let silent = || ClientError::Silent { socket: socket.to_owned() };
    let mut line = serde_json::to_vec(request).expect("a request serialises: it holds texts and numbers");
    line.push(b'\n');
    let sent = connect(socket, until).and_then(|mut stream| stream.write_all(&line).map(|()| stream));
    let stream = match sent {
        Ok(stream) => stream,
        Err(error) if is_late(&error) => return Err(silent()),
        Err(source) => return Err(ClientError::Unreachable { socket: socket.to_owned(), source }),
    };
    for line in BufReader::new(Bounded { stream, until }).lines() {
        let line = line.map_err(|error| if is_late(&error) { silent() } else { hangup() })?;
        let stranger = |source| ClientError::Stranger { socket: socket.to_owned(), source };
        match serde_json::from_str(&line).map_err(stranger)? {
            Reply::End(end) => return Ok(end),
            Reply::Error(failure) => return Err(ClientError::Refused(failure)),
            reply => each(reply).map_err(|_| hangup())?,
        }
    }
    Err(hangup())
}

/// A connection whose making and writing end at that moment: a daemon that is stopped may have a full backlog.
fn connect(socket: &Path, until: Option<Instant>) -> io::Result<UnixStream> {
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&fd, Timeout::Send, left(until)?)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(UnixStream::from(fd))
}

/// Both are how the system says that a time limit was reached.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The time that is left; an error when there is none.
fn left(until: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(until) = until else { return Ok(None) };
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(Some(left)),
    }
}

/// A connection each read of which ends at that moment.
struct Bounded {
    stream: UnixStream,
    until: Option<Instant>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(left(self.until)?)?;
        self.stream.read(buffer)
    }
}
