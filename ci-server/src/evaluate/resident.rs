//! A process comes in; how much memory it and its descendants hold goes out. What has ended holds nothing. Who holds too
//! much is killed here, and judged elsewhere.

use std::fs;

/// Most processes that are looked at.
const PROCESSES_MAX: usize = 64;

/// What a process and its descendants hold, in bytes. Memory that they share counts for each.
pub(crate) fn bytes(leader: u32) -> u64 {
    let mut family = vec![leader];
    let (mut next, mut bytes) = (0, 0);
    while let Some(pid) = family.get(next) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        bytes += resident(&status).unwrap_or(0);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let children: Vec<u32> = lists
            .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect();
        family.extend(children.into_iter().take(PROCESSES_MAX.saturating_sub(family.len())));
        next += 1;
    }
    bytes
}

/// Kills an evaluator's group: `leader` is the evaluator, which nobody has waited for yet.
pub(super) fn kill_group(leader: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let Some(leader) = i32::try_from(leader).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process_group(leader, Signal::KILL) {
        tracing::debug!("an evaluator with too much memory is not killed at once: {error}"); // it ends all the same
    }
}

/// Of one process, as the kernel shows it.
fn resident(status: &str) -> Option<u64> {
    let kibibytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kibibytes.trim().parse::<u64>().ok()?.checked_mul(1024)
}
