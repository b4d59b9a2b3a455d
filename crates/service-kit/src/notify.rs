//! The service manager's protocol. In: what to tell it, and the sockets it opened for us. Out: datagrams on
//! `NOTIFY_SOCKET`, listeners by name. Without a service manager telling does nothing. Leaves out when to tell.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::shutdown::Stop;
use crate::text::one_line;

/// What can go wrong between the service manager and us.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// `NOTIFY_SOCKET` is set and does not take our datagram.
    #[error("cannot tell the service manager {message}; check NotifyAccess= and NOTIFY_SOCKET")]
    Tell {
        /// What was to be told.
        message: String,
        /// What the system said.
        source: io::Error,
    },
    /// `LISTEN_FDS` and its companions contradict each other.
    #[error(
        "cannot take the sockets the service manager opened; check LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES"
    )]
    Inherit(#[source] io::Error),
    /// The sockets were taken before.
    #[error("the service manager's sockets were taken twice; this is a bug, please report it")]
    TakenTwice,
    /// An inherited descriptor is no Unix socket.
    #[error("inherited descriptor {name} is no Unix socket; check ListenStream= of the socket unit")]
    NotASocket {
        /// Its `FileDescriptorName=`.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Tells that start-up is done, with a status line.
///
/// # Errors
/// [`NotifyError::Tell`].
pub fn ready(status: &str) -> Result<(), NotifyError> {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status).to_string())])
}

/// Tells that the service is ending.
///
/// # Errors
/// [`NotifyError::Tell`].
pub fn stopping() -> Result<(), NotifyError> {
    tell(&[NotifyState::Stopping])
}

/// Shows a line in `systemctl status`; line breaks in it are escaped, so that it can carry any text.
///
/// # Errors
/// [`NotifyError::Tell`].
pub fn status(status: &str) -> Result<(), NotifyError> {
    tell(&[NotifyState::Status(&one_line(status).to_string())])
}

fn tell(states: &[NotifyState<'_>]) -> Result<(), NotifyError> {
    sd_notify::notify(states).map_err(|source| {
        let message: Vec<String> = states.iter().map(ToString::to_string).collect();
        NotifyError::Tell { message: message.join(" "), source }
    })
}

/// How often the service manager wants a sign of life: half of `WATCHDOG_USEC`; `None` when it wants none.
#[must_use]
pub fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Gives a sign of life every [`watchdog_period`] until `stop` is requested, and only while `alive` says so:
/// a service whose heart has stopped is restarted. Waits for the stop when no watchdog is wanted.
///
/// # Errors
/// [`NotifyError::Tell`].
pub async fn watchdog(
    clock: &Clock,
    stop: &Stop,
    mut alive: impl FnMut() -> bool,
) -> Result<(), NotifyError> {
    let Some(period) = watchdog_period() else {
        stop.requested().await;
        return Ok(());
    };
    loop {
        if alive() {
            tell(&[NotifyState::Watchdog])?;
        }
        if stop.or(clock.sleep(period)).await.is_none() {
            return Ok(());
        }
    }
}

/// A descriptor that the service manager opened for us.
#[derive(Debug)]
pub struct NamedFd {
    /// Its `FileDescriptorName=`; the socket unit's name when it sets none, `unknown` without names.
    pub name: String,
    /// The descriptor, closed on exec.
    pub fd: OwnedFd,
}

impl NamedFd {
    /// The descriptor as a listening Unix socket, set non-blocking, as an async runtime needs it.
    ///
    /// # Errors
    /// [`NotifyError::NotASocket`].
    pub fn into_unix_listener(self) -> Result<UnixListener, NotifyError> {
        let Self { name, fd } = self;
        let listener = UnixListener::from(fd);
        let checked = listener.local_addr().and_then(|_| listener.set_nonblocking(true));
        match checked {
            Ok(()) => Ok(listener),
            Err(source) => Err(NotifyError::NotASocket { name, source }),
        }
    }
}

/// Takes the descriptors of socket activation; none when the process was started otherwise. The variables
/// stay set: they name this process, so that children pass them over.
///
/// # Errors
/// [`NotifyError::Inherit`], and [`NotifyError::TakenTwice`] for a second call.
pub fn take_listen_fds() -> Result<Vec<NamedFd>, NotifyError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(NotifyError::TakenTwice);
    }
    let fds = sd_notify::listen_fds_with_names().map_err(NotifyError::Inherit)?;
    Ok(fds.map(|(fd, name)| NamedFd { name, fd: adopt(fd) }).collect())
}

#[expect(
    unsafe_code,
    reason = "an inherited descriptor is a bare number; it becomes an owned one exactly here"
)]
fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: the service manager passed this descriptor open to this process (LISTEN_PID named it, and the
    // close-on-exec flag was just set on it), and `TAKEN` lets each be adopted once, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whether stderr goes to the journal: `JOURNAL_STREAM` names the very file that stderr is.
#[must_use]
pub fn stderr_is_journal() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let Ok(metadata) = stderr.and_then(|file| file.metadata()) else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}
