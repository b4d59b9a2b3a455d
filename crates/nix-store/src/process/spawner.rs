//! A [`Spec`] comes in, a running child comes out, as a value that cannot be lost: dropping it ends the child's group
//! and has the child waited for. Two threads live here as long as the program. One starts all children, for the
//! kernel ties a child's life to the *thread* that started it; the other waits for children nobody waits for any
//! more.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tokio::sync::oneshot;

use super::family::{self, Member};
use super::sys::{self, Signal};
use super::{Killed, ProcessError, Spec, Stdin, Usage, find};

/// A started child. Until [`Started::reap`] has been called its number is its own.
pub(super) struct Started {
    child: Option<Child>,
    killed: Killed,
    /// Its descendants when it was asked to end.
    family: BTreeSet<Member>,
}

/// Our ends of a child's pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Starts the child.
pub(super) async fn start(spec: &Spec) -> Result<(Started, Pipes), ProcessError> {
    let mut started = launch(spec, command(spec)?).await?;
    let pipes = started.take_pipes();
    Ok((started, pipes))
}

/// Starts the child with a socket in the place of its standard input and output; gives our end of it.
pub(super) async fn start_talking(spec: &Spec) -> Result<(Started, UnixStream, Pipes), ProcessError> {
    let mut command = command(spec)?;
    let failed = |source| ProcessError::Start { program: spec.name(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let same = theirs.try_clone().map_err(failed)?;
    command.stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(same));
    let mut started = launch(spec, command).await?;
    let pipes = started.take_pipes();
    Ok((started, ours, pipes))
}

/// Whoever goes away before the answer comes leaves a child that ends as [`Spec::killed`] says all the same.
async fn launch(spec: &Spec, command: Command) -> Result<Started, ProcessError> {
    let failed = |source| ProcessError::Start { program: spec.name(), source };
    let (reply, answer) = oneshot::channel();
    let order = (command, spec.killed, reply);
    threads().map_err(failed)?.starter.send(order).map_err(|_| failed(thread_is_gone()))?;
    answer.await.map_err(|_| failed(thread_is_gone()))?.map_err(failed)
}

#[expect(clippy::disallowed_methods, reason = "this is the door through which children are started")]
fn command(spec: &Spec) -> Result<Command, ProcessError> {
    let program = find::program(&spec.program, &spec.env)?;
    let mut command = Command::new(program);
    command.args(&spec.args).stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(match spec.stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Bytes(_) => Stdio::piped(),
    });
    if spec.env.clear {
        command.env_clear();
    }
    for name in super::withheld().iter() {
        command.env_remove(name);
    }
    for (name, value) in &spec.env.changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(cwd) = &spec.cwd {
        if !cwd.is_dir() {
            return Err(ProcessError::NoFolder { program: spec.name(), cwd: cwd.clone() });
        }
        command.current_dir(cwd);
    }
    sys::arm(&mut command);
    Ok(command)
}

impl Started {
    fn new(child: Child, killed: Killed) -> Self {
        Self { child: Some(child), killed, family: BTreeSet::new() }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Tells the whole group.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.child {
            Some(child) => sys::signal_group(child.id(), signal),
            None => Ok(()),
        }
    }

    /// Asks the group to end, and remembers who descends from it: who outlives the child cannot be found any more.
    pub(super) fn ask_to_end(&mut self) -> io::Result<()> {
        if self.killed == Killed::Descendants {
            self.family = family::of(self.pid());
        }
        self.signal(Signal::Term)
    }

    /// Ends it, and all that [`Killed`] says.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        if self.killed == Killed::Descendants && self.child.is_some() {
            self.family.extend(family::of(self.pid()));
            family::end(&self.family);
        }
        self.signal(Signal::Kill)
    }

    /// Ends what it left behind. It has ended, or will not.
    pub(super) fn kill_rest(&mut self) -> io::Result<()> {
        if !self.family.is_empty() {
            family::end(&self.family);
        }
        self.signal(Signal::Kill)
    }

    /// Takes the status of a child that has ended; `None` when it has not.
    pub(super) fn reap(&mut self) -> io::Result<Option<(ExitStatus, Usage)>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = sys::reap(child.id())?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn take_pipes(&mut self) -> Pipes {
        let Some(child) = &mut self.child else { return Pipes { stdin: None, stdout: None, stderr: None } };
        Pipes {
            stdin: child.stdin.take().map(OwnedFd::from),
            stdout: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.kill(); // its own child: it cannot be refused, only be too late
        let Some(mut child) = self.child.take() else { return };
        if matches!(child.try_wait(), Ok(None))
            && let Ok(threads) = threads()
        {
            let _ = threads.reaper.send(child); // the thread lives as long as the program
        }
    }
}

type Order = (Command, Killed, oneshot::Sender<io::Result<Started>>);

struct Threads {
    starter: Sender<Order>,
    reaper: Sender<Child>,
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the thread that starts children has ended")
}

/// The two threads, started at first use.
fn threads() -> io::Result<&'static Threads> {
    static THREADS: OnceLock<io::Result<Threads>> = OnceLock::new();
    THREADS
        .get_or_init(start_threads)
        .as_ref()
        .map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

fn start_threads() -> io::Result<Threads> {
    let (starter, orders) = channel::<Order>();
    let (reaper, orphans) = channel::<Child>();
    thread::Builder::new().name("child-starter".into()).spawn(move || {
        for (mut command, killed, reply) in orders {
            let child = command.spawn().map(|child| Started::new(child, killed));
            drop(reply.send(child)); // nobody waits any more: dropping the child ends it
        }
    })?;
    thread::Builder::new().name("child-reaper".into()).spawn(move || {
        for mut child in orphans {
            let _ = child.wait(); // only so that it does not stay a zombie; nobody wants its status
        }
    })?;
    Ok(Threads { starter, reaper })
}
