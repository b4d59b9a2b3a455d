//! Every task has a parent, a name and an end. In: futures with names. Out: one verdict when all have ended. A
//! task that fails, panics or ends before it was asked to stops the whole program and is named. Leaves out
//! restarting: the service manager does that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::clock::Clock;
use crate::shutdown::Stop;
use crate::telemetry::chain;

/// A boxed error of a task.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// The tasks of a program; clones are handles on the same set.
#[derive(Debug, Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: Stop,
    state: Mutex<State>,
    /// Told whenever a task ends.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    live: BTreeMap<u64, Live>,
    failure: Option<TaskFailure>,
    /// Nothing starts any more; what still runs is being aborted.
    closed: bool,
}

#[derive(Debug)]
struct Live {
    name: Cow<'static, str>,
    abort: Option<AbortHandle>,
}

/// A task ended in a way that brings the program down.
#[derive(Debug, thiserror::Error)]
pub enum TaskFailure {
    /// It gave an error.
    #[error("task {name} failed")]
    Failed {
        /// The task's name.
        name: Cow<'static, str>,
        /// What it gave.
        source: TaskError,
    },
    /// It ended although nobody had asked it to.
    #[error("task {name} ended before it was asked to; this is a bug, please report it")]
    EndedEarly {
        /// The task's name.
        name: Cow<'static, str>,
    },
    /// It panicked.
    #[error("task {name} panicked; this is a bug, please report it")]
    Panicked {
        /// The task's name.
        name: Cow<'static, str>,
    },
}

/// How long a task is meant to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Until the stop is requested.
    Service,
    /// Until its work is done.
    Errand,
}

impl Tasks {
    /// An empty set whose tasks are asked to end through `stop`.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self { shared: Arc::new(Shared { stop, state: Mutex::default(), changed: Notify::new() }) }
    }

    /// Starts a task that runs until the stop is requested; ending earlier, even well, is a failure.
    pub fn spawn<F, E>(&self, name: impl Into<Cow<'static, str>>, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError> + 'static,
    {
        self.start(name.into(), Life::Service, work);
    }

    /// Starts a task that ends by itself when its work is done, such as one connection; only an error or a
    /// panic is a failure. The caller bounds how many there are.
    pub fn spawn_errand<F, E>(&self, name: impl Into<Cow<'static, str>>, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError> + 'static,
    {
        self.start(name.into(), Life::Errand, work);
    }

    /// The stop that the tasks hear of.
    #[must_use]
    pub fn stop(&self) -> &Stop {
        &self.shared.stop
    }

    /// The names of the tasks that run, in the order of their start.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.shared.state().live.values().map(|live| live.name.to_string()).collect()
    }

    /// Waits for the stop (a failing task requests it too), then for the tasks to end, at most `drain`; what
    /// runs longer is aborted. Gives the names of the aborted tasks.
    ///
    /// # Errors
    /// The first [`TaskFailure`].
    pub async fn finish(self, clock: &Clock, drain: Duration) -> Result<Vec<String>, TaskFailure> {
        self.shared.stop.requested().await;
        let late = match clock.timeout(drain, self.shared.all_ended()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.running(),
        };
        if !late.is_empty() {
            tracing::warn!(
                tasks = late.len(),
                "aborting what did not end within {drain:?}: {}",
                late.join(", ")
            );
        }
        self.shared.abort_all();
        self.shared.all_ended().await;
        let failure = self.shared.state().failure.take();
        failure.map_or(Ok(late), Err)
    }

    fn start<F, E>(&self, name: Cow<'static, str>, life: Life, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<TaskError> + 'static,
    {
        let Some(id) = self.shared.enter(name) else { return };
        let mut guard = Guard { shared: Arc::clone(&self.shared), id, life, end: None };
        let task = tokio::spawn(async move {
            guard.keep(work.await.map_err(Into::into));
        });
        self.shared.entered(id, task.abort_handle());
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` once the set is closed: the work is dropped unstarted, as an abort would.
    fn enter(&self, name: Cow<'static, str>) -> Option<u64> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.next_id += 1;
        let id = state.next_id;
        state.live.insert(id, Live { name, abort: None });
        Some(id)
    }

    /// Notes how to abort a task that has started, or aborts it when the set was closed meanwhile.
    fn entered(&self, id: u64, abort: AbortHandle) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            abort.abort();
        } else if let Some(live) = state.live.get_mut(&id) {
            live.abort = Some(abort);
        }
    }

    /// Closes the set; the tasks leave it as their futures are dropped.
    fn abort_all(&self) {
        let aborts: Vec<AbortHandle> = {
            let mut state = self.state();
            state.closed = true;
            state.live.values_mut().filter_map(|live| live.abort.take()).collect()
        };
        aborts.iter().for_each(AbortHandle::abort);
    }

    async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.state().live.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn ended(&self, id: u64, life: Life, end: Option<Result<(), TaskError>>) {
        let mut state = self.state();
        let Some(Live { name, .. }) = state.live.remove(&id) else { return };
        let failure = match end {
            None if state.closed => None,
            None => Some(TaskFailure::Panicked { name }),
            Some(Err(source)) => Some(TaskFailure::Failed { name, source }),
            Some(Ok(())) if life == Life::Service && !self.stop.is_requested() => {
                Some(TaskFailure::EndedEarly { name })
            }
            Some(Ok(())) => None,
        };
        if let Some(failure) = failure {
            tracing::error!("stopping: {}", chain(&failure));
            state.failure.get_or_insert(failure);
            self.stop.request();
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

/// Reports a task's end however it comes: by return, panic or abort.
struct Guard {
    shared: Arc<Shared>,
    id: u64,
    life: Life,
    end: Option<Result<(), TaskError>>,
}

impl Guard {
    /// A method, so that the task holds the whole guard from its making on.
    fn keep(&mut self, end: Result<(), TaskError>) {
        self.end = Some(end);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.ended(self.id, self.life, self.end.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Time};
    use std::io;

    const DRAIN: Duration = Duration::from_secs(30);

    fn tasks() -> (Tasks, Stop, Clock, ManualClock) {
        let stop = Stop::new();
        let (clock, manual) = Clock::manual(Time::from_ms(0));
        (Tasks::new(stop.clone()), stop, clock, manual)
    }

    /// A task that ends when it is asked to.
    async fn obedient(stop: Stop) -> io::Result<()> {
        stop.requested().await;
        Ok(())
    }

    #[tokio::test]
    async fn tasks_that_end_when_asked_are_no_failure() {
        let (tasks, stop, clock, _manual) = tasks();
        tasks.spawn("intake", obedient(stop.child()));
        tasks.spawn_errand("connection", async { Ok::<_, io::Error>(()) });
        tokio::task::yield_now().await;
        assert_eq!(tasks.running(), ["intake"]);
        stop.request();
        assert_eq!(tasks.finish(&clock, DRAIN).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_error_stops_everybody_and_is_named_with_its_cause() {
        let (tasks, stop, clock, _manual) = tasks();
        tasks.spawn("intake", obedient(stop.child()));
        tasks.spawn("pusher", async { Err(io::Error::other("disk is gone")) });
        let failure = tasks.finish(&clock, DRAIN).await.unwrap_err();
        assert_eq!(chain(&failure), "task pusher failed: disk is gone");
    }

    #[tokio::test]
    async fn a_service_that_ends_early_is_a_failure() {
        let (tasks, _stop, clock, _manual) = tasks();
        tasks.spawn("pusher", async { Ok::<_, io::Error>(()) });
        let failure = tasks.finish(&clock, DRAIN).await.unwrap_err();
        assert!(matches!(failure, TaskFailure::EndedEarly { name } if name == "pusher"));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_of_an_errand_too() {
        let (tasks, _stop, clock, _manual) = tasks();
        tasks.spawn_errand("connection 7", async {
            assert!(std::hint::black_box(false), "this test's own panic");
            Ok::<_, io::Error>(())
        });
        let failure = tasks.finish(&clock, DRAIN).await.unwrap_err();
        assert!(matches!(failure, TaskFailure::Panicked { name } if name == "connection 7"));
    }

    #[tokio::test]
    async fn who_does_not_end_in_time_is_aborted_and_named() {
        let (tasks, stop, clock, manual) = tasks();
        tasks.spawn("deaf", std::future::pending::<io::Result<()>>());
        tasks.spawn("slow", {
            let (stop, clock) = (stop.clone(), clock.clone());
            async move {
                stop.requested().await;
                clock.sleep(DRAIN / 2).await;
                Ok::<_, io::Error>(())
            }
        });
        stop.request();
        let handle = tasks.clone();
        let finished = tokio::spawn(async move { tasks.finish(&clock, DRAIN).await });
        manual.advance(DRAIN / 2).await;
        assert_eq!(handle.running(), ["deaf"]);
        manual.advance(DRAIN / 2).await;
        assert_eq!(finished.await.unwrap().unwrap(), ["deaf"]);
        handle.spawn("too late", obedient(Stop::new()));
        assert!(handle.running().is_empty());
    }
}
