//! The callers' side of the one writer. In goes a closure over a [`Tx`] and a [`Lane`]; out comes its result
//! after the commit that made it durable. The thread's side is `group`.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{CallError, Error, StoreError, chain};
use crate::group::Loop;
use crate::migrate::{self, Migration};
use crate::open::{self, Options};
use crate::queue::{Job, Lane, Queue, Refused};
use crate::stats::{Counters, Stats};

/// A handle to the writer thread of one database. Clones are cheap and share the thread.
#[derive(Clone)]
pub struct Writer {
    shared: Arc<Shared>,
}

/// The thread which owns the write connection and is the only one to checkpoint. Dropping it stops it.
pub struct WriterThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a job sees: the connection inside the group's transaction, at the job's own savepoint. A job must
/// not end the transaction itself (no BEGIN, COMMIT, ROLLBACK) and must not wait for other jobs.
pub struct Tx<'conn> {
    conn: &'conn Connection,
}

pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
}

impl Writer {
    /// Opens or creates the database, migrates it and starts its thread.
    ///
    /// # Errors
    /// See [`Error`]: among others an SQLite that is too old, a file that is not ours or not a database, a
    /// schema newer than `migrations`, and settings that did not take.
    ///
    /// # Panics
    /// When `migrations` are not numbered 1, 2, 3, …
    pub fn open(options: &Options, migrations: &[Migration]) -> Result<(Writer, WriterThread), Error> {
        let mut conn = open::open_writer(options, migrate::target(migrations))?;
        migrate::run(&mut conn, options, migrations)?;
        let shared = Arc::new(Shared { queue: Queue::new(), counters: Counters::default() });
        let mut group = Loop::new(conn, options, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || group.run())
            .map_err(|source| Error::Thread { path: options.path.clone(), source })?;
        let writer = Writer { shared: Arc::clone(&shared) };
        Ok((writer, WriterThread { shared, thread: Some(thread) }))
    }

    /// Queues `job` at once and resolves after the commit of its group, or as soon as its fate is known.
    /// Dropping the future does not take the job back.
    ///
    /// A job must bear being done twice: after [`CallError::Store`] the caller asks again, and it may ask for
    /// something that had reached the disk after all. An error that SQLite gave the job itself comes back as
    /// [`CallError::Job`]; [`crate::StoreKind::of`] says what kind it was.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call<T, E, F>(
        &self,
        lane: Lane,
        job: F,
    ) -> impl Future<Output = Result<T, CallError<E>>> + Send + use<T, E, F>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let queued = self.enqueue(lane, job);
        async move {
            match queued?.await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::Stopped), // the thread died with the job in hand
            }
        }
    }

    /// [`Writer::call`] for plain threads.
    ///
    /// # Errors
    /// See [`CallError`].
    ///
    /// # Panics
    /// When called on a thread that drives an async runtime.
    pub fn call_blocking<T, E, F>(&self, lane: Lane, job: F) -> Result<T, CallError<E>>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.enqueue(lane, job)?.blocking_recv() {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Stopped), // the thread died with the job in hand
        }
    }

    /// Queues a job nobody waits for. When it is refused, says no or its group fails, that is logged under
    /// `what`; the job is not tried again.
    pub fn post<E, F>(&self, lane: Lane, what: &'static str, job: F)
    where
        F: FnOnce(&Tx<'_>) -> Result<(), E> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let posted = Posted { what, job: Some(job), failed: None };
        if let Err(refused) = self.push(lane, Box::new(posted)) {
            let error: CallError<E> = refused_as(refused, lane);
            tracing::error!(what, "posted job was lost: {what}: {}", chain(&error));
        }
    }

    /// What was done so far and what waits now.
    pub fn stats(&self) -> Stats {
        self.shared.counters.read(self.shared.queue.backlog())
    }

    fn enqueue<T, E, F>(&self, lane: Lane, job: F) -> Result<Answer<T, E>, CallError<E>>
    where
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Call { job: Some(job), result: None, reply };
        self.push(lane, Box::new(call)).map_err(|refused| refused_as(refused, lane))?;
        Ok(answer)
    }

    fn push(&self, lane: Lane, job: Box<dyn Job>) -> Result<(), Refused> {
        let pushed = self.shared.queue.push(lane, job);
        if pushed == Err(Refused::Backlog) {
            self.shared.counters.refused();
        }
        pushed
    }
}

impl WriterThread {
    /// Takes nothing more in, does what is queued, empties the log into the database and closes it. Blocks
    /// until then. Every [`Writer`] answers [`CallError::Stopped`] afterwards.
    pub fn stop(mut self) {
        self.finish();
    }

    /// Whether the thread has ended; before [`WriterThread::stop`] that means it died.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn finish(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the database writer's thread had died from a panic in a job");
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("backlog", &self.shared.queue.backlog()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WriterThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterThread").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.finish();
    }
}

impl<'conn> Tx<'conn> {
    pub(crate) fn new(conn: &'conn Connection) -> Tx<'conn> {
        Tx { conn }
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn
    }
}

type Answer<T, E> = oneshot::Receiver<Result<T, CallError<E>>>;

struct Call<T, E, F> {
    job: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, CallError<E>>>,
}

impl<T, E, F> Job for Call<T, E, F>
where
    F: FnOnce(&Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let job = self.job.take().expect("a job is run once: the group takes it out of the queue");
        let result = job(tx);
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn settle(self: Box<Self>, group: Result<(), StoreError>) {
        let answer = match group {
            Err(error) => Err(CallError::Store(error)),
            Ok(()) => self.result.expect("a committed group has run all its jobs").map_err(CallError::Job),
        };
        let _ = self.reply.send(answer); // the caller went away; what was committed stays
    }
}

struct Posted<E, F> {
    what: &'static str,
    job: Option<F>,
    failed: Option<E>,
}

impl<E, F> Job for Posted<E, F>
where
    F: FnOnce(&Tx<'_>) -> Result<(), E> + Send,
    E: std::error::Error + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let job = self.job.take().expect("a job is run once: the group takes it out of the queue");
        self.failed = job(tx).err();
        self.failed.is_none()
    }

    fn settle(self: Box<Self>, group: Result<(), StoreError>) {
        let what = self.what;
        let why = match (group, &self.failed) {
            (Err(error), _) => chain(&error),
            (Ok(()), Some(error)) => chain(error),
            (Ok(()), None) => return,
        };
        tracing::error!(what, "posted job failed: {what}: {why}");
    }
}

fn refused_as<E>(refused: Refused, lane: Lane) -> CallError<E> {
    match refused {
        Refused::Backlog => CallError::Backlog { lane },
        Refused::Stopped => CallError::Stopped,
    }
}
