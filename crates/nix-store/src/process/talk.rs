//! A child that is talked with for as long as somebody likes. A [`Spec`] comes in; out comes a [`Talk`], whose stream is
//! the child's standard input and output in one, to be read and written by whoever speaks its language. What it says on
//! standard error is taken as it comes, and its end is kept. Limits in time are the speaker's: of the [`Spec`] only
//! [`Spec::grace`] counts here. A talk that is dropped ends the child's whole group at once.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::run::exit_of;
use super::spawner::{self, Started};
use super::sys::{self, Signal};
use super::tail::Keeper;
use super::{DRAIN_MAX, Exit, Outcome, ProcessError, REAP_MAX, Spec, Tail};

const CHUNK: usize = 4096;

/// A child that is talked with.
pub struct Talk {
    name: String,
    child: Started,
    ended: AsyncFd<OwnedFd>,
    stream: UnixStream,
    said: Arc<Mutex<Keeper>>,
    hearing: JoinHandle<()>,
    grace: Duration,
    begun: Instant,
}

/// Starts a child to talk with. Needs a tokio runtime with time and IO.
///
/// # Errors
/// [`ProcessError`] when it cannot be started or followed.
pub async fn talk(spec: &Spec) -> Result<Talk, ProcessError> {
    let begun = Instant::now();
    let (child, stream, pipes) = spawner::start_talking(spec).await?;
    let lost = |source| ProcessError::Lost { program: spec.name(), source };
    let ended = sys::end_of(child.pid()).map_err(lost)?;
    let stderr = pipes.stderr.map(pipe::Receiver::from_owned_fd).transpose().map_err(lost)?;
    let said = Arc::new(Mutex::new(Keeper::new(spec.stderr_tail)));
    let hearing = tokio::spawn(hear(stderr, Arc::clone(&said)));
    Ok(Talk { name: spec.name(), child, ended, stream, said, hearing, grace: spec.grace, begun })
}

async fn hear(stderr: Option<pipe::Receiver>, said: Arc<Mutex<Keeper>>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(size) = stderr.read(&mut chunk).await {
        if size == 0 {
            break;
        }
        said.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..size]);
    }
}

impl Talk {
    /// The child's number, as long as this is not dropped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its standard input and output. Whoever shuts it down ends the talk for all its clones.
    ///
    /// # Errors
    /// When there are no file numbers left.
    pub fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Ends the talk: hangs up, lets the child end by itself for [`Spec::grace`], and then ends its group. Says how it
    /// ended, [`Exit::Cancelled`] when that took a signal of ours, and the last of what it said.
    ///
    /// # Errors
    /// [`ProcessError::Lost`]; its group was killed.
    pub async fn end(mut self) -> Result<Outcome, ProcessError> {
        let _ = self.stream.shutdown(std::net::Shutdown::Both); // it has hung up already
        let lost = |source| ProcessError::Lost { program: self.name.clone(), source };
        let by_itself = timeout_at(Instant::now() + self.grace, self.ended.readable()).await.is_ok();
        if !by_itself {
            self.child.signal(Signal::Term).map_err(lost)?;
            let _ = timeout_at(Instant::now() + self.grace, self.ended.readable()).await; // then it is killed
        }
        // Also what it left behind in its group, while the number is still its own.
        self.child.signal(Signal::Kill).map_err(lost)?;
        let _ = timeout_at(Instant::now() + REAP_MAX, self.ended.readable()).await; // the reaper waits on
        let _ = timeout_at(Instant::now() + DRAIN_MAX, &mut self.hearing).await; // one outside the group holds the pipe
        self.hearing.abort();
        let status = self.child.reap().map_err(lost)?;
        let usage = status.map(|(_, usage)| usage).unwrap_or_default();
        let exit = status.filter(|_| by_itself).map_or(Exit::Cancelled, |(status, _)| exit_of(status));
        let keeper =
            std::mem::replace(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner), Keeper::new(0));
        let stderr_tail = keeper.finish();
        Ok(Outcome { exit, stdout_tail: Tail::default(), stderr_tail, elapsed: self.begun.elapsed(), usage })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}
