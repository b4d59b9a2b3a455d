//! How long the calling thread has been computing. In: the kernel's count; out: a time that grows only while the thread
//! runs, so that a bound on it holds on a busy machine as well. Leaves out the work of other threads.

use std::fs;
use std::time::Duration;

/// Time this thread spent on a processor since it began, to within a few milliseconds.
///
/// # Panics
/// When the kernel does not count it: tests run on Linux with `/proc`.
pub fn time() -> Duration {
    let text =
        fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts each thread's time in /proc");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first number is the time on a processor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_counts_and_waiting_does_not() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let before = time();
        assert!(receiver.recv_timeout(Duration::from_millis(60)).is_err(), "{sender:?} sends nothing");
        let waited = time() - before;
        assert!(waited < Duration::from_millis(30), "{waited:?}");
        // Ends only if it counts.
        while time() - before < Duration::from_millis(50) {}
    }
}
