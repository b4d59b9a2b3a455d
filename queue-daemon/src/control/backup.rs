//! `backup`, the daemon's side: a snapshot of the database goes out over the control socket.
//!
//! In flows the request; out flow one line that describes the snapshot, its bytes, and the end. The client writes them
//! where it may: the daemon's own sandbox lets it write almost nowhere. Once it has them on its disk it says so, and
//! the time is noted for `eka_queue_last_backup_timestamp_seconds`.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use service_kit::telemetry::chain;
use sqlite_kit::Lane as DbLane;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::protocol::{End, FailureKind, Reply};
use super::server::{Control, Trouble, say};
use crate::backup::{self, Source};
use crate::store::RowError;

/// Bytes handed over at a time.
const CHUNK_BYTES: u64 = 1 << 18;
/// How long a client may take for each of these: until then the snapshot takes up room on our disk.
const CHUNK_TIME: Duration = Duration::from_secs(60);

/// Sends a snapshot.
pub(super) async fn backup(
    control: &Arc<Control>,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<End, Trouble> {
    let Ok(one) = Arc::clone(&control.backups).try_acquire_owned() else {
        let message = "another backup is under way; wait for it, or end it (Ctrl-C)";
        return Err(Trouble::said(FailureKind::Unavailable, message));
    };
    let queue = Arc::clone(&control.queue);
    let taking = tokio::task::spawn_blocking(move || {
        let config = &queue.config.queue;
        let source = Source::InUse(&queue.reader);
        let taken = backup::take(&source, &config.state_dir, &config.spool_dir, queue.clock.now());
        // Kept until the snapshot is handed over, or nobody waits for it any more.
        (one, taken)
    });
    let (_one, taken) = taking.await.expect("taking a snapshot does not panic: it returns its errors");
    let (file, snapshot) = taken.map_err(|error| {
        Trouble::said(FailureKind::Unavailable, format!("no backup was made: {}", chain(&error)))
    })?;
    let bytes = snapshot.bytes;
    say(writer, &Reply::Snapshot(snapshot)).await?;
    send(control, file, bytes, writer).await?;
    Ok(End::default())
}

async fn send(
    control: &Control,
    mut file: File,
    bytes: u64,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Trouble> {
    let mut left = bytes;
    while left > 0 {
        let reading = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::new();
            (&file).take(CHUNK_BYTES.min(left)).read_to_end(&mut chunk).map(|_| (file, chunk))
        });
        let read = reading.await.expect("reading a file does not panic: it returns its errors");
        let chunk;
        (file, chunk) = read.map_err(|error| {
            // Bytes were promised: whoever counts them sees that they do not come.
            tracing::error!("the snapshot of a backup cannot be read: {error}");
            Trouble::Hangup
        })?;
        if chunk.is_empty() {
            tracing::error!("the snapshot of a backup is {left} bytes shorter than it was");
            return Err(Trouble::Hangup);
        }
        match control.queue.clock.timeout(CHUNK_TIME, writer.write_all(&chunk)).await {
            Ok(written) => written?,
            Err(_) => {
                tracing::warn!("a backup is broken off: its client has taken nothing for {CHUNK_TIME:?}");
                return Err(Trouble::Hangup);
            }
        }
        left -= chunk.len() as u64;
    }
    Ok(())
}

/// Somebody keeps the backup that was taken then.
pub(super) async fn kept(control: &Control, taken_ms: i64) -> Result<End, Trouble> {
    let noted = control
        .queue
        .db
        .call(DbLane::Bulk, move |tx| Ok::<_, RowError>(backup::note_taken(tx, taken_ms)?))
        .await;
    noted.map_err(|error| Trouble::unavailable(&error))?;
    tracing::info!("a backup of the queue was made");
    Ok(End::default())
}
