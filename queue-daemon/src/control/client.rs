//! The subcommands' end of the control socket.
//!
//! In flows a request; out flow its replies, one by one, and how it ended. Blocking: a subcommand does one thing.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

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
            Self::Stranger { .. } | Self::Refused(_) => false,
        }
    }
}

/// Asks the daemon at `socket`; gives each reply to `each` and returns the last.
///
/// # Errors
/// See `ClientError`; an error of `each` (our own output is closed) ends the conversation as a hang-up.
pub fn ask(
    socket: &Path,
    request: &Request,
    mut each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<End, ClientError> {
    let unreachable = |source| ClientError::Unreachable { socket: socket.to_owned(), source };
    let hangup = || ClientError::Hangup { socket: socket.to_owned() };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    let mut line = serde_json::to_vec(request).expect("a request serialises: it holds texts and numbers");
    line.push(b'\n');
    stream.write_all(&line).map_err(unreachable)?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(|_| hangup())?;
        let stranger = |source| ClientError::Stranger { socket: socket.to_owned(), source };
        match serde_json::from_str(&line).map_err(stranger)? {
            Reply::End(end) => return Ok(end),
            Reply::Error(failure) => return Err(ClientError::Refused(failure)),
            reply => each(reply).map_err(|_| hangup())?,
        }
    }
    Err(hangup())
}
