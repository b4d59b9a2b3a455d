//! Opening and closing a connection: a URL comes in, a greeted [`Remote`] comes out, or why there is none, with the last
//! words of ssh and of the other side. Ends within [`HANDSHAKE_MAX`], whatever the other side does.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix_types::SshUrl;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Remote, command};
use crate::copy::scratch::Scratch;
use crate::copy::{CopyFault, classify};
use crate::daemon::DaemonError;
use crate::process::{Exit, Outcome, ProcessError, Talk, talk};

/// Longest from the start of ssh to the end of the greeting.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
/// How long ssh may take to end by itself when it is hung up on.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the end of what it says on standard error is kept.
const SAID_BYTES: usize = 16 * 1024;

/// With what connections are opened.
#[derive(Clone, Debug)]
pub struct OpenWith {
    /// Where a file with a pinned key is kept, in a folder of its own that nobody else can read.
    pub scratch: PathBuf,
    /// Longest a conversation may stand still, in both directions.
    pub silent: Duration,
    /// What changes in our environment for ssh.
    pub env: Vec<(OsString, Option<OsString>)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing could be started.
    #[error("cannot start what reaches {to}")]
    Start {
        /// Which store.
        to: String,
        /// Why.
        #[source]
        source: ProcessError,
    },
    /// Something on this machine.
    #[error("cannot prepare a connection to {to}")]
    Prepare {
        /// Which store.
        to: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not come to a greeting in time.
    #[error("{to} did not greet within {HANDSHAKE_MAX:?}; {}", fault.line)]
    Slow {
        /// Which store.
        to: String,
        /// The last words.
        fault: CopyFault,
    },
    /// It did not come to a greeting.
    #[error("cannot open a connection to {to} ({}): {}", how(*exit), fault.line)]
    Failed {
        /// Which store.
        to: String,
        /// How ssh ended; `None` when we ended it.
        exit: Option<Exit>,
        /// The last words.
        fault: CopyFault,
        /// What came in the place of a greeting.
        #[source]
        source: DaemonError,
    },
}

fn how(exit: Option<Exit>) -> String {
    exit.map_or_else(|| "it was hung up on".to_owned(), |exit| exit.to_string())
}

/// An open connection: the child that carries it, and the conversation.
pub struct Link {
    /// `None` while a thread has it.
    remote: Option<Remote>,
    talk: Talk,
    stream: UnixStream,
    _known_hosts: Option<Scratch>,
}

/// What a link had to say at its end.
#[derive(Debug)]
pub struct LastWords {
    /// How ssh ended.
    pub exit: Exit,
    /// What kind of failure its last words tell of, and the most telling line.
    pub fault: CopyFault,
    /// The last words themselves.
    pub text: String,
}

impl Link {
    /// Opens a connection. Needs a tokio runtime with time and IO.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open(url: &SshUrl, with: &OpenWith) -> Result<Self, OpenError> {
        let prepare = |source| OpenError::Prepare { to: url.to_string(), source };
        let known_hosts = match command::known_hosts_line(url) {
            Some(line) => Some(pin(&line, with).map_err(prepare)?),
            None => None,
        };
        let file = known_hosts.as_ref().map(|folder| folder.path().join(KNOWN_HOSTS));
        let changed = with.env.iter().rev().find(|(name, _)| name == "NIX_SSHOPTS");
        let options = changed.map_or_else(|| std::env::var_os("NIX_SSHOPTS"), |(_, value)| value.clone());
        let mut spec = command::command(url, file.as_deref(), &options.unwrap_or_default());
        spec.env.changes.clone_from(&with.env);
        spec.grace = GRACE;
        spec.stderr_tail = SAID_BYTES;
        let talk = talk(&spec).await.map_err(|source| OpenError::Start { to: url.to_string(), source })?;
        let stream = talk.stream().map_err(prepare)?;
        stream.set_read_timeout(Some(with.silent)).map_err(prepare)?;
        stream.set_write_timeout(Some(with.silent)).map_err(prepare)?;
        let mut link = Self { remote: None, talk, stream, _known_hosts: known_hosts };
        let (theirs, speech, who) = (link.talk.stream().map_err(prepare)?, url.speech, url.to_string());
        let greeting = on_thread(move || Remote::greet(theirs, speech, who));
        match timeout_at(Instant::now() + HANDSHAKE_MAX, greeting).await {
            Ok(Ok(Ok(remote))) => {
                link.remote = Some(remote);
                Ok(link)
            }
            Ok(Ok(Err(source))) => {
                let LastWords { exit, fault, .. } = link.end().await;
                let exit = Some(exit).filter(|exit| *exit != Exit::Cancelled);
                Err(OpenError::Failed { to: url.to_string(), exit, fault, source })
            }
            Ok(Err(source)) => Err(prepare(source)),
            Err(_) => Err(OpenError::Slow { to: url.to_string(), fault: link.end().await.fault }),
        }
    }

    /// The number of the child that carries it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.talk.pid()
    }

    /// Does something with the conversation on a thread of its own; when the future is dropped the connection is cut,
    /// and that ends soon.
    ///
    /// # Errors
    /// When no thread can be started, or the conversation is lost already.
    pub async fn with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Remote) -> T + Send + 'static,
    ) -> io::Result<T> {
        let lost = || io::Error::other("the conversation was given up before");
        let mut remote = self.remote.take().ok_or_else(lost)?;
        let mut cut = CutUnless { stream: &self.stream, done: false };
        let (remote, result) = on_thread(move || {
            let result = work(&mut remote);
            (remote, result)
        })
        .await?;
        cut.done = true;
        drop(cut);
        self.remote = Some(remote);
        Ok(result)
    }

    /// Hangs up, and gives the last words.
    pub async fn end(mut self) -> LastWords {
        self.remote = None;
        match self.talk.end().await {
            Ok(Outcome { exit, stderr_tail, .. }) => {
                LastWords { exit, fault: classify(&stderr_tail.bytes), text: stderr_tail.text() }
            }
            Err(error) => LastWords {
                exit: Exit::Cancelled,
                fault: classify(error.to_string().as_bytes()),
                text: String::new(),
            },
        }
    }
}

/// Whoever gives up waiting ends the conversation, so that the thread that has it ends too.
struct CutUnless<'a> {
    stream: &'a UnixStream,
    done: bool,
}

impl Drop for CutUnless<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.stream.shutdown(std::net::Shutdown::Both); // the other end has gone already
        }
    }
}

const KNOWN_HOSTS: &str = "known_hosts";

/// A folder with the only key that is believed.
fn pin(line: &str, with: &OpenWith) -> io::Result<Scratch> {
    let folder = Scratch::new(&with.scratch)?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(folder.path().join(KNOWN_HOSTS))?;
    file.write_all(line.as_bytes())?;
    Ok(folder)
}

/// A thread for something that blocks for as long as another machine likes.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (reply, answer) = oneshot::channel();
    let thread = thread::Builder::new().name("ssh".into());
    thread.spawn(move || {
        let _ = reply.send(work()); // nobody waits for it any more
    })?;
    answer.await.map_err(|_| io::Error::other("the thread that had the conversation failed"))
}
