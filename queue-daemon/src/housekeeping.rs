//! What must happen from time to time: retention, GC roots that agree with the table, destinations tidied, signs of life.
//!
//! In flows the clock; out flow forgotten rows and mended links. Nothing waits for it and nothing depends on it but
//! the size of the database.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use nix_types::StorePath;
use service_kit::notify;
use service_kit::shutdown::Stop;
use service_kit::tasks::Tasks;
use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;

use crate::intake::spool;
use crate::lane::Lane;
use crate::queue::Queue;
use crate::roots::release_all;
use crate::store::{RowError, admin, intake};

/// Between two looks at what is too old.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How long a claim that has ended is kept at least, and for as long as the spool holds anything: a request made
/// while it held may still come.
const ENDED_CLAIM_KEPT: Duration = Duration::from_secs(60 * 60);
/// Ended claims forgotten in one transaction.
const CLAIMS_CHUNK: u32 = 500;
/// Between two comparisons of all links with the table.
const ROOTS_EVERY: Duration = Duration::from_secs(60 * 60);
/// Between two rounds of tidying destinations; the first is at the start.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How old the writer's last answer may be before the daemon counts as stuck.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Starts the housekeeping tasks.
pub(crate) fn start(queue: &Arc<Queue>, lanes: Vec<Arc<Lane>>, tasks: &Tasks) {
    let stop = tasks.stop().clone();
    let (for_expiry, for_roots, for_watchdog) = (Arc::clone(queue), Arc::clone(queue), Arc::clone(queue));
    let (a, b, c) = (stop.clone(), stop.clone(), stop);
    tasks.spawn("retention", async move { expire(&for_expiry, &a).await });
    let (for_claims, stop_claims) = (Arc::clone(queue), b.clone());
    tasks.spawn("claims", async move { forget_claims(&for_claims, &stop_claims).await });
    tasks.spawn("gc roots", async move { mend_roots(&for_roots, &b).await });
    let (for_tidying, stop_tidying) = (Arc::clone(queue), c.clone());
    tasks.spawn("tidying", async move { tidy(&for_tidying, &lanes, &stop_tidying).await });
    tasks.spawn("watchdog", async move { watchdog(&for_watchdog, &c).await });
}

async fn expire(queue: &Queue, stop: &Stop) -> Result<(), Infallible> {
    while !stop.is_requested() {
        let config = &queue.config.queue;
        let now = queue.clock.now();
        let (done_before, dead_before) = (now.minus(config.keep_done), now.minus(config.keep_dead));
        let expired =
            queue.db.call(DbLane::Bulk, move |tx| admin::expire(tx, now, done_before, dead_before)).await;
        match expired {
            // There may be more than a chunk.
            Ok((paths, true)) => {
                let paths = paths.iter().filter_map(|path| StorePath::parse(path.as_bytes()).ok()).collect();
                release_all(&queue.roots, paths).await;
            }
            Ok(_) => {
                stop.or(queue.clock.sleep(EXPIRE_EVERY)).await;
            }
            Err(error) => {
                tracing::warn!("old deliveries were not forgotten: {}", chain(&error));
                stop.or(queue.clock.sleep(EXPIRE_EVERY)).await;
            }
        }
    }
    Ok(())
}

async fn forget_claims(queue: &Queue, stop: &Stop) -> Result<(), Infallible> {
    while !stop.is_requested() {
        let before = queue.clock.now().minus(ENDED_CLAIM_KEPT);
        // A backfill must not take for the machine's own what a stranger's pull request built.
        let untrusted_before = queue.clock.now().minus(queue.config.queue.keep_dead.max(ENDED_CLAIM_KEPT));
        let forgotten = if spool::is_empty(&queue.config.queue.spool_dir) {
            queue
                .db
                .call(DbLane::Bulk, move |tx| {
                    intake::forget_claims(tx, before, untrusted_before, CLAIMS_CHUNK)
                })
                .await
        } else {
            Ok(0)
        };
        match forgotten {
            Ok(forgotten) if forgotten == CLAIMS_CHUNK as usize => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!("ended claims were not forgotten: {}", chain(&error)),
        }
        stop.or(queue.clock.sleep(EXPIRE_EVERY)).await;
    }
    Ok(())
}

async fn mend_roots(queue: &Arc<Queue>, stop: &Stop) -> Result<(), Infallible> {
    while !stop.is_requested() {
        let keeper = Arc::clone(&queue.roots);
        let rebuilt = tokio::task::spawn_blocking(move || keeper.rebuild()).await;
        match rebuilt.expect("rebuilding roots does not panic: it returns its errors") {
            Ok(rebuilt) if rebuilt.added + rebuilt.removed > 0 => {
                tracing::info!("GC roots mended: {} added, {} removed", rebuilt.added, rebuilt.removed);
            }
            Ok(_) => {}
            Err(error) => tracing::error!("GC roots cannot be compared with the queue: {}", chain(&error)),
        }
        stop.or(queue.clock.sleep(ROOTS_EVERY)).await;
    }
    Ok(())
}

/// Destinations are tidied beside each other, so that one that does not answer holds no other.
async fn tidy(queue: &Queue, lanes: &[Arc<Lane>], stop: &Stop) -> Result<(), Infallible> {
    while !stop.is_requested() {
        stop.or(join_all(lanes.iter().map(|lane| lane.engine().tidy()))).await;
        stop.or(queue.clock.sleep(TIDY_EVERY)).await;
    }
    Ok(())
}

/// Systemd hears of us only while the writer answers.
async fn watchdog(queue: &Arc<Queue>, stop: &Stop) -> Result<(), notify::NotifyError> {
    if notify::watchdog_period().is_none() {
        stop.requested().await;
        return Ok(());
    }
    let answered = Arc::new(AtomicBool::new(true));
    let (flag, asked) = (Arc::clone(&answered), Arc::clone(queue));
    let ask = async move {
        loop {
            let answer = asked.db.call(DbLane::Urgent, |_| Ok::<(), RowError>(()));
            // A full disk is an answer: restarting would not help.
            let alive = asked.clock.timeout(HEARTBEAT, answer).await.is_ok();
            flag.store(alive, Ordering::Relaxed);
            asked.clock.sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        told = notify::watchdog(&queue.clock, stop, || answered.load(Ordering::Relaxed)) => told,
        () = ask => Ok(()),
    }
}
