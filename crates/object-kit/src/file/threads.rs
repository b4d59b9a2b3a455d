//! Threads of one folder's own. In: work on its files. Out: what it came to, or that it stood still for the time-out.
//!
//! A folder on a server that hangs holds whoever touches it, and nothing can call that off. So its work never runs on
//! threads that others need, there are few of them, and one that hangs counts until it comes back: what finds none free
//! for the time-out is stuck too. Nobody waits for these threads when the process ends.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use service_kit::clock::Clock;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::{Class, Fault};

/// Threads of a folder at most, those that hang included.
const THREADS_MAX: usize = 8;
/// How long one without work stays.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// At most 8 threads for the files of one destination; see [`File::on`](super::File::on).
#[derive(Debug)]
pub struct Threads {
    clock: Clock,
    timeout: Duration,
    free: Arc<Semaphore>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job and were not promised one.
    idle: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Threads {
    /// Threads whose every piece of work may take `timeout`, and may wait as long for one that is free. None is started
    /// yet.
    #[must_use]
    pub fn new(clock: Clock, timeout: Duration) -> Self {
        Self { clock, timeout, free: Arc::new(Semaphore::new(THREADS_MAX)), shared: Arc::default() }
    }

    /// Does disk work where it holds up nobody else. What was begun goes on when the future is dropped or the time is
    /// over; its result is then dropped where it was made.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = self.in_time(Arc::clone(&self.free).acquire_owned()).await?.map_err(Fault::local)?;
        let (done, result) = oneshot::channel();
        self.start(permit, move || drop(done.send(work())))?; // nobody may wait any more
        // Without an answer the work panicked, which ends the process in our builds.
        self.in_time(result).await?.map_err(Fault::local)?
    }

    /// Something is stuck that takes longer than the time-out.
    pub(super) async fn in_time<F: Future>(&self, work: F) -> Result<F::Output, Fault> {
        let timeout = self.timeout;
        self.clock.timeout(timeout, work).await.map_err(|_| Fault::new(Class::Stuck, StoodStill(timeout)))
    }

    /// Does work that nobody waits for. Of a folder that hangs, and when the process ends, the sweep does it.
    pub(super) fn later(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else {
            return work(); // on one of these threads
        };
        match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => {
                if self.start(permit, work).is_err() {
                    tracing::debug!("no thread can be started to tidy up a folder: the sweep does it");
                }
            }
            Err(_) => {
                let threads = Arc::clone(self);
                let work = move || {
                    work();
                    Ok(())
                };
                runtime.spawn(async move { threads.run(work).await });
            }
        }
    }

    fn start(&self, permit: OwnedSemaphorePermit, work: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        let job: Job = Box::new(move || {
            work();
            drop(permit);
        });
        let mut state = self.shared.lock();
        if state.idle > 0 {
            state.idle -= 1;
            state.jobs.push_back(job);
            drop(state);
            self.shared.work.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name("folder".into()).spawn(move || shared.work_on(job));
        started.map(drop).map_err(Fault::local)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_on(&self, first: Job) {
        let mut job = first;
        loop {
            job();
            let mut state = self.lock();
            state.idle += 1;
            let waited = self.work.wait_timeout_while(state, IDLE, |state| state.jobs.is_empty());
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            match state.jobs.pop_front() {
                Some(next) => job = next,
                None => {
                    state.idle = state.idle.saturating_sub(1);
                    return;
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the folder did not answer for {0:?}; is the file system below it mounted, and its server up?")]
struct StoodStill(Duration);
