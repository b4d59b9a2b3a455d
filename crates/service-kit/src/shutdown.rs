//! When to end. In: a request to stop, from code or by SIGTERM and SIGINT. Out: a token that every task can
//! wait for. Leaves out which tasks there are and how long they may take: `tasks` does that.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to stop, shared by all its clones. A child stops with its parent, or earlier alone.
#[derive(Debug, Clone)]
pub struct Stop {
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    requested: watch::Sender<bool>,
    children: Mutex<Vec<Weak<Node>>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// A token nobody has stopped yet.
    #[must_use]
    pub fn new() -> Self {
        Self::starting(false)
    }

    fn starting(requested: bool) -> Self {
        let node = Node { requested: watch::Sender::new(requested), children: Mutex::default() };
        Self { node: Arc::new(node) }
    }

    /// A token that stops when this one does, and can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut children = self.node.children.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Self::starting(self.is_requested());
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.node));
        child
    }

    /// Asks this token and its children to stop; more than once is the same as once.
    pub fn request(&self) {
        self.node.request();
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.node.requested.borrow()
    }

    /// Ends when stopping is asked for; at once when it was.
    pub async fn requested(&self) {
        let mut requested = self.node.requested.subscribe();
        let waited = requested.wait_for(|requested| *requested).await;
        debug_assert!(waited.is_ok(), "self keeps the sender alive");
    }

    /// Waits for `work`, or gives `None` when stopping is asked for first; `work` is dropped then.
    pub async fn or<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            done = work => Some(done),
        }
    }
}

impl Node {
    fn request(&self) {
        // Held while the flag changes, so that no child is made in between and missed.
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        self.requested.send_replace(true);
        for child in children.iter().filter_map(Weak::upgrade) {
            child.request();
        }
    }
}

/// A signal that asks a program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: the service manager.
    Terminate,
    /// SIGINT: somebody at the terminal.
    Interrupt,
}

impl Signal {
    /// The exit code of a program that ends by this signal at once.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Listens for SIGTERM and SIGINT from its making on.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

/// The signal handlers could not be installed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for SIGTERM and SIGINT; check the limits of the process")]
pub struct SignalError(#[from] io::Error);

impl Signals {
    /// Takes the two signals over: from now on they no longer end the process by themselves. Call it within a
    /// tokio runtime, before the service says it is ready.
    ///
    /// # Errors
    /// [`SignalError`] when the system refuses.
    pub fn listen() -> Result<Self, SignalError> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next of the two signals.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }

    /// Asks `stop` to stop at the first signal; gives the second one, which means "at once". Never ends
    /// otherwise: race it against the program's own end.
    pub async fn stop_then_insist(mut self, stop: &Stop) -> Signal {
        let first = self.next().await;
        tracing::info!(signal = %first, "received {first}, stopping; a second one ends at once");
        stop.request();
        self.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_children_and_grandchildren_but_no_parent() {
        let root = Stop::new();
        let child = root.child();
        let grandchild = child.child();
        let other = root.child();
        child.request();
        grandchild.requested().await;
        assert!(!root.is_requested() && !other.is_requested());
        root.request();
        other.requested().await;
        assert!(root.child().is_requested(), "a child made too late is born stopped");
    }

    #[tokio::test]
    async fn a_waiter_is_woken() {
        let stop = Stop::new();
        let waiter = tokio::spawn({
            let stop = stop.clone();
            async move { stop.or(std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        stop.request();
        assert_eq!(waiter.await.unwrap(), None);
        assert_eq!(Stop::new().or(std::future::ready(7)).await, Some(7));
    }

    #[test]
    fn dead_children_are_forgotten() {
        let root = Stop::new();
        for _ in 0..1000 {
            drop(root.child());
        }
        assert!(root.node.children.lock().unwrap().len() <= 1);
    }
}
