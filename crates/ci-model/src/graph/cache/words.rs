//! What operators read about the cache, word for word as it is documented. Counts and the time come in, lines for the log
//! go out. Writing them is for who has a log.

use std::time::Duration;

use nix_types::DrvPath;

/// Least time between two lines of one kind.
pub const REPORT_EVERY: Duration = Duration::from_secs(5 * 60);
/// From so many of a hundred on, a warning.
const ELEVATED_OF_HUNDRED: usize = 80;
/// From so many of a hundred on, another.
const HIGH_OF_HUNDRED: usize = 90;

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportLine {
    /// How it is.
    Info(String),
    /// What should be looked into.
    Warning(String),
}

/// When what was said last.
#[derive(Clone, Debug, Default)]
pub struct CacheReport {
    status: Option<Duration>,
    elevated: Option<Duration>,
    high: Option<Duration>,
}

impl CacheReport {
    /// What is to be said now; `now` is the time since some fixed moment.
    pub fn due(&mut self, now: Duration, nodes: usize, capacity: usize, pinned: usize) -> Vec<ReportLine> {
        let of_hundred = nodes as f64 * 100.0 / capacity.max(1) as f64;
        let reaches = |bound: usize| nodes.saturating_mul(100) >= capacity.max(1).saturating_mul(bound);
        let mut lines = Vec::new();
        if is_due(&mut self.status, now) {
            lines.push(ReportLine::Info(format!(
                "Cache status: {nodes}/{capacity} nodes ({of_hundred:.1}% utilized), {pinned} pinned"
            )));
        }
        if reaches(HIGH_OF_HUNDRED) {
            if is_due(&mut self.high, now) {
                lines.push(ReportLine::Warning(format!(
                    "Cache utilization HIGH ({of_hundred:.1}%): Consider increasing EKA_CI_GRAPH_LRU_CAPACITY (current: {capacity})"
                )));
            }
        } else if reaches(ELEVATED_OF_HUNDRED) && is_due(&mut self.elevated, now) {
            lines.push(ReportLine::Warning(format!(
                "Cache utilization elevated ({of_hundred:.1}%): Monitor for potential capacity issues"
            )));
        }
        lines
    }
}

/// Said whenever a node has to be read again.
#[must_use]
pub fn miss_line(drv: &DrvPath) -> String {
    format!("Cache miss: reloading {drv}")
}

fn is_due(last: &mut Option<Duration>, now: Duration) -> bool {
    let due = last.is_none_or(|last| now.saturating_sub(last) >= REPORT_EVERY);
    if due {
        *last = Some(now);
    }
    due
}
