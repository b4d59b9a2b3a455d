//! Nix stores of other machines (`cache_type = "nix-copy"` with `ssh://` and `ssh-ng://`), over connections that stay
//! open.
//!
//! In flows a batch and its closure; out flow the paths the other store lacks, references first, signed on the way, and a
//! report on each path once what is registered there is what was meant. A batch has a connection to itself; as many are
//! open at once as the URL's `max-connections` says. What the other side or ssh says when it fails is told with what to
//! do about it (`faults`). Nothing that is not what Nix registered here is ever completed there (`read`).
//!
//! One batch: `pool` (a connection) → `batch` (what is missing? send it; is it there?) → report.

mod batch;
mod faults;
mod pool;
mod read;

use std::sync::Arc;
use std::time::Duration;

use nix_store::Store;
use nix_store::remote::OpenWith;
use nix_types::{SshUrl, StorePath};
use object_kit::Throttle;
use service_kit::shutdown::Stop;

use super::keys::Ring;
use super::native::limit;
use super::{Batch, Check, Checked, Fault, Push, Pushed, Reports, Rules, Whole, Work, unless_stopped};
use crate::config::CacheConfig;
use crate::progress::Progress;
use crate::queue::Queue;
use pool::Pool;

/// Paths of one batch; their closure may be larger.
const PATHS_MAX: usize = 256;
/// What arrives while a batch is under way waits for its connection; so long it is gathered into one further batch.
const GATHER: Duration = Duration::from_millis(100);

/// The engine.
pub(crate) struct Ssh {
    /// The destination as receipts and messages name it.
    shown: String,
    keys: Arc<Ring>,
    pool: Arc<Pool>,
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    progress: Arc<Progress>,
    /// Limits on what leaves: this destination's, and that of all together.
    throttles: Arc<Vec<Arc<Throttle>>>,
}

impl Ssh {
    /// The engine of a destination. Connects to nothing yet.
    pub(crate) fn new(
        cache: &CacheConfig,
        url: &SshUrl,
        queue: &Arc<Queue>,
        throttle: Option<Arc<Throttle>>,
    ) -> Self {
        let own = cache.bandwidth_limit.map(|rate| Arc::new(limit(&queue.clock, rate)));
        let with = OpenWith {
            scratch: queue.config.queue.state_dir.join("scratch"),
            silent: cache.timeout,
            // A child must not answer systemd for us.
            env: ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(|name| (name.into(), None)).into(),
        };
        let progress = queue.progress.of(cache.id.as_str()).cloned();
        Self {
            shown: url.to_string(),
            keys: Arc::new(Ring::new(&cache.id, queue.config.queue.signing_key_files.clone(), queue)),
            pool: Arc::new(Pool::new(cache.id.clone(), url.clone(), with, queue.clock.clone())),
            queue: Arc::clone(queue),
            store: Arc::clone(&queue.store),
            progress: progress.unwrap_or_else(|| Progress::new(queue.clock.clone())),
            throttles: Arc::new(own.into_iter().chain(throttle).collect()),
        }
    }

    async fn check_all(&self, paths: &[StorePath]) -> Result<Checked, Fault> {
        let (_, valid) = self.pool.ask(paths.to_vec(), false).await?;
        let check = |path: &StorePath| match valid.contains(path) {
            true => Check::There,
            false => Check::Missing("it is not valid there".into()),
        };
        Ok(Checked {
            checks: paths.iter().map(check).collect(),
            lost: paths.iter().filter(|path| !valid.contains(*path)).cloned().collect(),
        })
    }
}

impl Push for Ssh {
    fn kind(&self) -> &'static str {
        "nix-copy"
    }

    fn rules(&self) -> Rules {
        Rules { paths_max: PATHS_MAX, one_drv: false, closure: true, exclusive: true, gather: GATHER }
    }

    fn push<'a>(
        &'a self,
        batch: Batch<'a>,
        reports: &'a Reports,
        stop: &'a Stop,
    ) -> Work<'a, Result<Pushed, Fault>> {
        // Whoever is dropped on the way has its connection cut and ssh's process group ended.
        Box::pin(unless_stopped(stop, batch::run(self, batch, reports)))
    }

    fn check<'a>(
        &'a self,
        paths: &'a [StorePath],
        _: &'a mut Whole,
        stop: &'a Stop,
    ) -> Work<'a, Result<Checked, Fault>> {
        Box::pin(unless_stopped(stop, self.check_all(paths)))
    }
}
