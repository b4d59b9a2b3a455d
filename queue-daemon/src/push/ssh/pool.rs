//! The connections of one destination.
//!
//! In flow wishes for a connection; out flows one that nobody else has: one that was kept, or a new one. At most as many
//! are open at once as the URL says. One that was given back is kept for [`IDLE_MAX`] and then hung up; one that failed is
//! not kept. A kept one may have died meanwhile: the first question shows it, and is asked once more on a new one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix_store::daemon::DaemonError;
use nix_store::remote::{Link, OpenWith, Remote};
use nix_types::{SshUrl, StorePath};
use service_kit::clock::{Clock, Mono};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::faults;
use crate::delivery::FaultClass;
use crate::model::DestinationId;
use crate::push::Fault;

/// How long a connection is kept while nobody needs it.
const IDLE_MAX: Duration = Duration::from_secs(5 * 60);

/// A connection that is older is not used again, unless the URL says otherwise: as long as it lasts, the other Nix keeps
/// what it was sent and asked about from its garbage collector.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// The connections.
pub(super) struct Pool {
    id: DestinationId,
    url: SshUrl,
    with: OpenWith,
    clock: Clock,
    permits: Arc<Semaphore>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that was given back last is at the end.
    idle: Vec<Idle>,
    /// Somebody sees to it that idle ones are hung up.
    watched: bool,
}

struct Idle {
    link: Link,
    opened: Mono,
    since: Mono,
}

/// A connection that one batch has.
pub(super) struct Lent {
    pub(super) link: Link,
    opened: Mono,
    /// It was opened for this batch.
    fresh: bool,
    permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(id: DestinationId, url: SshUrl, with: OpenWith, clock: Clock) -> Self {
        let most = usize::try_from(url.params.max_connections).unwrap_or(1);
        Self { id, url, with, clock, permits: Arc::new(Semaphore::new(most)), kept: Mutex::default() }
    }

    /// Where they lead.
    pub(super) fn url(&self) -> &SshUrl {
        &self.url
    }

    /// How long a conversation may stand still.
    pub(super) fn silent(&self) -> Duration {
        self.with.silent
    }

    /// Asks which of the paths are valid there; `keep` as [`Remote::valid_among`] has it.
    pub(super) async fn ask(
        self: &Arc<Self>,
        paths: Vec<StorePath>,
        keep: bool,
    ) -> Result<(Returned, HashSet<StorePath>), Fault> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("a pool is never closed");
        let mut lent = self.lend(permit).await?;
        loop {
            let asked = paths.clone();
            match lent.do_with(move |remote| remote.valid_among(&asked, keep)).await? {
                Ok(valid) => {
                    let lent = Some(lent);
                    return Ok((Returned { pool: Arc::clone(self), lent }, valid.into_iter().collect()));
                }
                // It died while nobody needed it, and nothing has been sent.
                Err(DaemonError::Broken { .. }) if !lent.fresh => {
                    tracing::debug!(destination = %self.id, "a kept connection to {} is dead", self.url);
                    self.kept().idle.clear(); // the others are as old
                    lent = self.again(lent).await?;
                }
                Err(error) => return Err(self.fault(lent, error).await),
            }
        }
    }

    /// A new connection in the place of one that is of no use any more.
    pub(super) async fn again(&self, lent: Lent) -> Result<Lent, Fault> {
        let Lent { link, permit, .. } = lent;
        drop(link);
        self.open(permit).await
    }

    /// What a broken conversation means, with the last words of whoever carried it.
    pub(super) async fn fault(&self, lent: Lent, error: DaemonError) -> Fault {
        let words = lent.link.end().await;
        faults::of_broken(&self.url, &error, &words, self.silent())
    }

    async fn lend(&self, permit: OwnedSemaphorePermit) -> Result<Lent, Fault> {
        let now = self.clock.mono();
        let age_max = self.url.params.max_connection_age.unwrap_or(AGE_MAX);
        while let Some(Idle { link, opened, .. }) = self.take_idle() {
            if now.since(opened) < age_max {
                return Ok(Lent { link, opened, fresh: false, permit });
            }
            tokio::spawn(link.end());
        }
        self.open(permit).await
    }

    fn take_idle(&self) -> Option<Idle> {
        self.kept().idle.pop()
    }

    async fn open(&self, permit: OwnedSemaphorePermit) -> Result<Lent, Fault> {
        let link =
            Link::open(&self.url, &self.with).await.map_err(|error| faults::of_open(&self.url, &error))?;
        tracing::info!(destination = %self.id, pid = link.pid(), "connected to {}", self.url);
        Ok(Lent { link, opened: self.clock.mono(), fresh: true, permit })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a connection that is in order.
    pub(super) fn keep(self: &Arc<Self>, lent: Lent) {
        let Lent { link, opened, permit, .. } = lent;
        let mut kept = self.kept();
        kept.idle.push(Idle { link, opened, since: self.clock.mono() });
        if !kept.watched {
            kept.watched = true;
            tokio::spawn(watch(Arc::downgrade(self), self.clock.clone()));
        }
        drop(kept);
        drop(permit);
    }

    /// Takes out what has been idle for long; says when the next is due.
    fn overdue(&self) -> (Vec<Idle>, Option<Mono>) {
        let now = self.clock.mono();
        let mut kept = self.kept();
        let (over, idle): (Vec<Idle>, Vec<Idle>) =
            std::mem::take(&mut kept.idle).into_iter().partition(|idle| now.since(idle.since) >= IDLE_MAX);
        kept.idle = idle;
        let next = kept.idle.iter().map(|idle| idle.since + IDLE_MAX).min();
        kept.watched = next.is_some();
        (over, next)
    }
}

/// Hangs up what nobody needs.
async fn watch(pool: Weak<Pool>, clock: Clock) {
    let mut due = clock.mono() + IDLE_MAX;
    loop {
        clock.sleep_until(due).await;
        let Some(pool) = pool.upgrade() else { return };
        let (over, next) = pool.overdue();
        for Idle { link, .. } in over {
            tracing::debug!(destination = %pool.id, "hangs up on {}: nothing to send", pool.url);
            link.end().await;
        }
        let Some(next) = next else { return };
        due = next;
    }
}

impl Lent {
    /// Does something with the conversation; a fault is one of this machine.
    pub(super) async fn do_with<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Remote) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let why = |error| format!("cannot go on with a connection: {error}");
        self.link.with(work).await.map_err(|error| Fault::failed(FaultClass::Unreachable, why(error)))
    }
}

/// A connection that is kept when this is dropped, unless it was taken out.
pub(super) struct Returned {
    pool: Arc<Pool>,
    lent: Option<Lent>,
}

impl Returned {
    /// The connection, whose end is now the caller's.
    pub(super) fn take(mut self) -> Option<Lent> {
        self.lent.take()
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            self.pool.keep(lent);
        }
    }
}
