//! Follows one child from its start to its end: feeds it, reads it, watches its limits and the caller's cancel, and
//! ends its group. Input is a [`Spec`], output an [`Outcome`].

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::pin::{Pin, pin};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::output::Output;
use super::spawner::{self, Pipes, Started};
use super::sys;
use super::watch::Watch;
use super::{
    DRAIN_MAX, Exit, LOOK_EVERY_MAX, LOOKS, Limit, Outcome, ProcessError, Progress, REAP_MAX, Spec, Stdin,
    Stream, Usage,
};

/// Runs a child to its end. When `cancel` completes, its group is asked to end and killed after [`Spec::grace`]; when
/// the future is dropped, the group is killed at once. Descendants that left the child's group (daemons) are not ours,
/// unless [`Spec::killed`] says so; those in it are killed when the child ends. Needs a tokio runtime with time and IO. Limits are in real time.
///
/// # Errors
/// [`ProcessError`] when the child cannot be started or followed. A child that fails is an [`Outcome`].
pub async fn run(spec: &Spec, cancel: impl Future<Output = ()>) -> Result<Outcome, ProcessError> {
    run_with_lines(spec, cancel, &mut |_, _| {}).await
}

/// [`run`], and gives each line of output to `each` as it comes, lossily decoded, without its end and in pieces of at
/// most [`LINE_BYTES_MAX`](super::LINE_BYTES_MAX). `each` must not block.
///
/// # Errors
/// As [`run`].
pub async fn run_with_lines(
    spec: &Spec,
    cancel: impl Future<Output = ()>,
    each: &mut (dyn FnMut(Stream, &str) + Send),
) -> Result<Outcome, ProcessError> {
    run_heard(spec, cancel, Hearer::Every(each), &mut |_| {}).await
}

/// [`run_with_lines`], where `judge` says of each line whether it is a sign of progress: noise does not keep a child
/// from its [`Spec::silent`].
///
/// # Errors
/// As [`run`].
pub async fn run_judging_lines(
    spec: &Spec,
    cancel: impl Future<Output = ()>,
    judge: &mut (dyn FnMut(Stream, &str) -> bool + Send),
) -> Result<Outcome, ProcessError> {
    run_heard(spec, cancel, Hearer::Judge(judge), &mut |_| {}).await
}

/// [`run_judging_lines`], which tells `started` the child's number as soon as there is one. The number is the child's
/// own until this returns.
///
/// # Errors
/// As [`run`].
pub async fn run_followed(
    spec: &Spec,
    cancel: impl Future<Output = ()>,
    judge: &mut (dyn FnMut(Stream, &str) -> bool + Send),
    started: &mut (dyn FnMut(u32) + Send),
) -> Result<Outcome, ProcessError> {
    run_heard(spec, cancel, Hearer::Judge(judge), started).await
}

async fn run_heard<'a>(
    spec: &'a Spec,
    cancel: impl Future<Output = ()>,
    hearer: Hearer<'a>,
    started: &mut (dyn FnMut(u32) + Send),
) -> Result<Outcome, ProcessError> {
    let begun = Instant::now();
    let (child, pipes) = spawner::start(spec).await?;
    started(child.pid());
    let lost = |source| ProcessError::Lost { program: spec.name(), source };
    let mut follow = Follow::new(spec, child, pipes, begun, hearer).map_err(lost)?;
    let stopped = follow.until_end(pin!(cancel)).await.map_err(lost)?;
    let status = follow.finish().await.map_err(lost)?;
    let usage = status.map(|(_, usage)| usage).unwrap_or_default();
    let exit = match (stopped, status) {
        (Some(stopped), _) => stopped,
        (None, Some((status, _))) => exit_of(status),
        (None, None) => return Err(lost(io::Error::other("it ended without a status"))),
    };
    Ok(Outcome {
        exit,
        stdout_tail: follow.stdout.keeper.finish(),
        stderr_tail: follow.stderr.keeper.finish(),
        elapsed: begun.elapsed(),
        usage,
    })
}

pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Exited(code),
        (None, signal) => Exit::Signaled(signal.unwrap_or(0)),
    }
}

/// Who hears the lines.
enum Hearer<'a> {
    /// Anything said is progress, whole line or not.
    Every(&'a mut (dyn FnMut(Stream, &str) + Send)),
    /// It says which line is.
    Judge(&'a mut (dyn FnMut(Stream, &str) -> bool + Send)),
}

impl Hearer<'_> {
    /// Was it progress?
    fn hear(&mut self, stream: Stream, line: &str) -> bool {
        match self {
            Self::Every(each) => {
                each(stream, line);
                true
            }
            Self::Judge(judge) => judge(stream, line),
        }
    }
}

struct Follow<'a> {
    spec: &'a Spec,
    child: Started,
    ended: AsyncFd<OwnedFd>,
    stdin: Option<Feed<'a>>,
    stdout: Output,
    stderr: Output,
    hearer: Hearer<'a>,
    watch: Option<Watch>,
    begun: Instant,
    /// The last progress.
    progressed: Instant,
    /// The last look of `watch`.
    looked: Instant,
}

impl<'a> Follow<'a> {
    fn new(
        spec: &'a Spec,
        child: Started,
        pipes: Pipes,
        begun: Instant,
        hearer: Hearer<'a>,
    ) -> io::Result<Self> {
        let stdin = match (pipes.stdin, &spec.stdin) {
            (Some(fd), Stdin::Bytes(bytes)) => {
                Some(Feed { pipe: pipe::Sender::from_owned_fd(fd)?, rest: bytes })
            }
            (_, Stdin::Bytes(_) | Stdin::Null) => None,
        };
        Ok(Self {
            ended: sys::end_of(child.pid())?,
            stdout: Output::new(Stream::Stdout, pipes.stdout, spec.stdout_tail, spec.gather)?,
            stderr: Output::new(Stream::Stderr, pipes.stderr, spec.stderr_tail, spec.gather)?,
            watch: (spec.progress == Progress::OutputOrIo && spec.silent.is_some())
                .then(|| Watch::new(child.pid())),
            spec,
            child,
            stdin,
            hearer,
            begun,
            progressed: begun,
            looked: begun,
        })
    }

    /// Returns when the child has ended (or will not, [`REAP_MAX`] after it was killed), with the reason if it was us
    /// who ended it.
    async fn until_end(
        &mut self,
        mut cancel: Pin<&mut impl Future<Output = ()>>,
    ) -> io::Result<Option<Exit>> {
        let mut stopped: Option<(Exit, Instant)> = None;
        let mut killed: Option<Instant> = None;
        loop {
            let running = stopped.is_none();
            let limit = self.next_limit().filter(|_| running);
            let look_at = self.next_look().filter(|_| running);
            let kill_at =
                stopped.and_then(|(_, at)| at.checked_add(self.spec.grace)).filter(|_| killed.is_none());
            let lost_at = killed.map(|at| at + REAP_MAX);
            let stop = tokio::select! {
                ready = self.ended.readable() => {
                    drop(ready?);
                    break;
                }
                () = until(limit.map(|(at, _)| at)) => {
                    // On a busy machine the last looks may be late.
                    let moved = self.look().await?;
                    limit.map(|(_, exit)| exit).filter(|exit| !(moved && is_silent(exit)))
                }
                () = until(look_at) => {
                    self.look().await?;
                    None
                }
                () = cancel.as_mut(), if running => Some(Exit::Cancelled),
                () = until(kill_at) => {
                    self.child.kill()?;
                    killed = Some(Instant::now());
                    None
                }
                () = until(lost_at) => break,
                size = self.stdout.read() => {
                    self.heard(size?, Stream::Stdout);
                    None
                }
                size = self.stderr.read() => {
                    self.heard(size?, Stream::Stderr);
                    None
                }
                () = feed(&mut self.stdin) => None,
            };
            if let Some(exit) = stop {
                stopped = Some((exit, Instant::now()));
                self.child.ask_to_end()?;
            }
        }
        Ok(stopped.map(|(exit, _)| exit))
    }

    /// The limit that comes first, and how the child ends by it.
    fn next_limit(&self) -> Option<(Instant, Exit)> {
        let exit = |after: Duration, which| Exit::TimedOut { after, which };
        let wall =
            self.spec.wall.and_then(|after| Some((self.begun.checked_add(after)?, exit(after, Limit::Wall))));
        let silent = self
            .spec
            .silent
            .and_then(|after| Some((self.progressed.checked_add(after)?, exit(after, Limit::Silent))));
        wall.into_iter().chain(silent).min_by_key(|(at, _)| *at)
    }

    /// When to look next whether the child moves, if it says nothing until then.
    fn next_look(&self) -> Option<Instant> {
        self.watch.as_ref()?;
        let every = (self.spec.silent? / LOOKS).min(LOOK_EVERY_MAX);
        self.progressed.max(self.looked).checked_add(every)
    }

    /// Looks whether the child moved data since the last look, which is progress.
    async fn look(&mut self) -> io::Result<bool> {
        let Some(mut watch) = self.watch.take() else { return Ok(false) };
        let look = move || {
            let moved = watch.moved();
            (watch, moved)
        };
        let (watch, moved) = spawn_blocking(look).await.map_err(io::Error::other)?;
        self.watch = Some(watch);
        self.looked = Instant::now();
        if moved {
            self.progressed = self.looked;
        }
        Ok(moved)
    }

    /// Ends what is left of the group, reads what is left in the pipes and takes the status. The group is told before
    /// the child is waited for, while its number is still its own.
    async fn finish(&mut self) -> io::Result<Option<(ExitStatus, Usage)>> {
        self.child.kill_rest()?;
        self.stdin = None;
        let end = Instant::now() + DRAIN_MAX;
        self.stdout.gather_no_more(); // there is nobody left to wake us
        self.stderr.gather_no_more();
        while self.stdout.is_open() || self.stderr.is_open() {
            let read = async {
                tokio::select! {
                    size = self.stdout.read() => (size, Stream::Stdout),
                    size = self.stderr.read() => (size, Stream::Stderr),
                }
            };
            match timeout_at(end, read).await {
                Ok((size, stream)) => self.heard(size?, stream),
                Err(_) => break, // a descendant outside of the group holds a pipe open: not our child any more
            }
        }
        for output in [&mut self.stdout, &mut self.stderr] {
            let stream = output.stream;
            output.lines.flush(&mut |line| {
                self.hearer.hear(stream, line); // it has ended: no limit is left that progress would matter for
            });
        }
        self.child.reap()
    }

    fn heard(&mut self, size: usize, stream: Stream) {
        let output = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        if size == 0 {
            output.close();
            return;
        }
        let chunk = &output.buffer[..size];
        output.keeper.push(chunk);
        let mut progress = matches!(self.hearer, Hearer::Every(_));
        output.lines.push(chunk, &mut |line| progress |= self.hearer.hear(stream, line));
        if progress {
            self.progressed = Instant::now();
        }
    }
}

fn is_silent(exit: &Exit) -> bool {
    matches!(exit, Exit::TimedOut { which: Limit::Silent, .. })
}

/// Completes at `at`; never when there is none.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Feed<'a> {
    pipe: pipe::Sender,
    rest: &'a [u8],
}

/// Writes until all is written or the child does not want more, then closes the pipe. Cancel safe.
async fn feed(slot: &mut Option<Feed<'_>>) {
    let Some(feed) = slot else { return std::future::pending().await };
    while !feed.rest.is_empty() {
        if feed.pipe.writable().await.is_err() {
            break;
        }
        match feed.pipe.try_write(feed.rest) {
            Ok(size) => feed.rest = &feed.rest[size..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break, // the child closed its input: it says itself whether that is a failure
        }
    }
    *slot = None;
}
