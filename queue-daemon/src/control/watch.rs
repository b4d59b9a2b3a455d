//! What `watch` shows: the counts of `status` beside what is on its way at this moment. Blocks: it reads the table.

use super::protocol::{MovingPath, Watched, WatchedDestination};
use super::server::{Control, Trouble};
use crate::config::CacheKind;
use crate::progress::{Moving, Picture};
use crate::store::inspect::DestinationCounts;

/// A time beyond this is no forecast.
const ETA_MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

impl Control {
    pub(crate) fn watched(&self) -> Result<Watched, Trouble> {
        let queue = &self.queue;
        let counts = self.counts()?;
        Ok(Watched {
            destinations: counts
                .iter()
                .map(|(name, counts)| (name.clone(), self.watched_destination(name, counts)))
                .collect(),
            spool_files: self.spool.files(),
            draining: queue.intake_is_closed(),
            uptime_seconds: queue.clock.mono().since(queue.started).as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
        })
    }

    fn watched_destination(&self, name: &str, counts: &DestinationCounts) -> WatchedDestination {
        let status = self.destination_status(name, counts);
        let lane = self.lanes.iter().find(|lane| lane.config.id.as_str() == name);
        let is_counted = lane.is_some_and(|lane| match lane.config.kind {
            CacheKind::Native { .. }
            | CacheKind::Ssh { .. }
            | CacheKind::Attic { .. }
            | CacheKind::Cachix { .. } => true,
            CacheKind::NixCopy { .. }
            | CacheKind::Command { .. }
            | CacheKind::Cli { .. }
            | CacheKind::SignStore => false,
        });
        let picture = self.queue.progress.of(name).map(|progress| progress.picture()).unwrap_or_default();
        let goes_on = !status.paused && status.breaker.as_deref() == Some("closed");
        WatchedDestination {
            status,
            owed_nar_bytes: counts.owed_nar_bytes,
            done_since_start: picture.done_count,
            done_nar_bytes_since_start: picture.done_nar_bytes,
            bytes_per_second: is_counted.then_some(picture.bytes_per_second),
            eta_seconds: if goes_on { eta_seconds(counts.owed_nar_bytes, &picture) } else { None },
            moving: picture.moving.iter().map(moving_path).collect(),
        }
    }
}

fn moving_path(moving: &Moving) -> MovingPath {
    MovingPath {
        path: moving.path.to_string(),
        nar_bytes: moving.nar_bytes,
        sent_bytes: moving.sent_bytes,
        since_seconds: moving.since.as_secs(),
    }
}

/// How long what is owed takes at the present rate, if it can be compressed as well as what was sent lately. `None`
/// when nothing is owed, nothing moves, or nothing is known of its size.
fn eta_seconds(owed_nar_bytes: u64, picture: &Picture) -> Option<u64> {
    let (nar, file) = (u128::from(picture.packed.0), u128::from(picture.packed.1));
    let rate = u128::from(picture.bytes_per_second);
    if owed_nar_bytes == 0 || nar == 0 || rate == 0 {
        return None;
    }
    let packed = |nar_bytes: u64| u128::from(nar_bytes) * file / nar;
    let sent = |moving: &Moving| u128::from(moving.sent_bytes).min(packed(moving.nar_bytes));
    let left = packed(owed_nar_bytes).saturating_sub(picture.moving.iter().map(sent).sum());
    u64::try_from(left.div_ceil(rate)).ok().filter(|seconds| *seconds <= ETA_MAX_SECONDS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix_types::StorePath;

    use super::*;

    fn picture(bytes_per_second: u64, packed: (u64, u64), moving: &[(u64, u64)]) -> Picture {
        let path = StorePath::parse_str("/nix/store/00000000000000000000000000000000-a").unwrap();
        let moving = moving.iter().map(|(nar_bytes, sent_bytes)| Moving {
            path: path.clone(),
            nar_bytes: *nar_bytes,
            sent_bytes: *sent_bytes,
            since: Duration::ZERO,
        });
        Picture { moving: moving.collect(), bytes_per_second, packed, ..Picture::default() }
    }

    #[test]
    fn a_forecast_knows_compression_and_what_is_on_its_way() {
        // 900 bytes are 300 compressed, of which 60 have left.
        assert_eq!(eta_seconds(900, &picture(10, (3_000, 1_000), &[(300, 60)])), Some(24));
        // What was sent twice counts once.
        assert_eq!(eta_seconds(900, &picture(10, (3_000, 1_000), &[(300, 5_000)])), Some(20));
    }

    #[test]
    fn no_forecast_is_better_than_nonsense() {
        assert_eq!(eta_seconds(0, &picture(10, (3, 1), &[])), None, "nothing is owed, or of unknown size");
        assert_eq!(eta_seconds(900, &picture(0, (3, 1), &[])), None, "nothing moves");
        assert_eq!(eta_seconds(900, &picture(10, (0, 0), &[])), None, "nobody knows how it is compressed");
        assert_eq!(eta_seconds(u64::MAX, &picture(1, (1, u64::MAX), &[])), None, "beyond all time");
        assert_eq!(eta_seconds(900, &picture(10, (3_000, 1_000), &[(u64::MAX, u64::MAX)])), Some(0));
    }
}
