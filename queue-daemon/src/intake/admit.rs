//! Takes requests in: the queue in front of the admission threads, and what they do with a request.
//!
//! In flow parsed requests, over a bounded channel; out flows one answer each, after the commit. One thread asks the
//! store and makes the links (`prepare`) and hands the rows to the writer (`commit`), so that the next request is
//! prepared while the last is being flushed. What may take long goes to a second thread, so that it holds no hook.

use std::sync::Arc;
use std::task::{Context, Waker};

use nix_store::Store;
use sqlite_kit::Lane as DbLane;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::commit::commit;
use super::parse::Parsed;
use super::prepare::Preparer;
use crate::model::{Answer, DestinationId};
use crate::queue::Queue;

/// Requests that wait to be prepared; further ones are told `busy`.
pub(crate) const WAITING_MAX: usize = 4_096;

/// Tells lanes that there may be something to do.
pub(crate) type WakeLanes = Arc<dyn Fn(&[DestinationId]) + Send + Sync>;

/// Hands requests to an admission thread.
#[derive(Clone)]
pub(crate) struct Admission {
    sender: mpsc::Sender<Job>,
}

/// The two admission threads.
pub(crate) struct Admissions {
    /// For those who wait for their answer: hooks.
    pub(crate) urgent: Admission,
    /// For what is large or slow: the spool, pushes, and what the urgent one hands on.
    pub(crate) bulk: Admission,
}

struct Job {
    parsed: Parsed,
    reply: oneshot::Sender<Answer>,
}

impl Admissions {
    /// Starts both threads. Each ends when the last handle of it is gone.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn start(
        queue: &Arc<Queue>,
        store: &Arc<dyn Store>,
        wake_lanes: &WakeLanes,
    ) -> std::io::Result<Self> {
        let worker = |lane, slow| Worker {
            queue: Arc::clone(queue),
            preparer: Preparer::new(Arc::clone(queue), Arc::clone(store)),
            wake_lanes: Arc::clone(wake_lanes),
            lane,
            slow,
        };
        let bulk = Admission::start("admit-bulk", worker(DbLane::Normal, None))?;
        let urgent = Admission::start("admit", worker(DbLane::Urgent, Some(bulk.clone())))?;
        Ok(Self { urgent, bulk })
    }
}

impl Admission {
    fn start(name: &str, worker: Worker) -> std::io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel::<Job>(WAITING_MAX);
        let runtime = Handle::current();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Some(job) = receiver.blocking_recv() {
                worker.take(job, &runtime);
            }
        })?;
        Ok(Self { sender })
    }

    /// Takes a request in and waits for the answer.
    pub(crate) async fn admit(&self, parsed: Parsed) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.put(Job { parsed, reply });
        answer.await.unwrap_or_else(|_| Answer::Busy { why: "the daemon is stopping".into() })
    }

    fn put(&self, job: Job) {
        if let Err(mpsc::error::TrySendError::Full(job)) = self.sender.try_send(job) {
            let why = format!("{WAITING_MAX} requests are waiting already");
            let _ = job.reply.send(Answer::Busy { why }); // the client hung up; nothing was taken
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    preparer: Preparer,
    wake_lanes: WakeLanes,
    lane: DbLane,
    /// Takes what may need long.
    slow: Option<Admission>,
}

impl Worker {
    fn take(&self, job: Job, runtime: &Handle) {
        if let Some(slow) = self.slow.as_ref().filter(|_| self.preparer.may_need_long(&job.parsed.request)) {
            return slow.put(job);
        }
        let answer = match self.preparer.prepare(job.parsed) {
            Ok(prepared) => {
                let (queue, wake, lane) = (Arc::clone(&self.queue), Arc::clone(&self.wake_lanes), self.lane);
                let mut commit =
                    Box::pin(async move { commit(&queue, prepared, lane, &wake, job.reply).await });
                // The first step hands the rows to the writer. It is done here and now: a task that had to be woken
                // for it would cost the client as much as the rest of the intake.
                let _runtime = runtime.enter();
                if commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    runtime.spawn(commit);
                }
                return;
            }
            Err(answer) => answer,
        };
        self.queue.metrics.answered(&answer);
        let _ = job.reply.send(answer); // the client hung up; nothing was taken
    }
}
