//! A child's number comes in; whether it, or a descendant of it, moved data since the last look goes out. Two things
//! that the kernel shows of every process are compared: how many bytes it read, and how many wait in the queues of
//! its TCP connections. (Bytes sent with `send` are counted for no process, but a queue that a peer empties and a
//! process fills does not stay the same, and one that nobody empties does.) What was written is left out, for it
//! holds what the child says. What cannot be read counts as nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};

use super::MOVED_BYTES_MIN;

/// Most processes looked at.
const PROCESSES_MAX: usize = 256;
/// Most open files of one process looked at.
const FILES_MAX: usize = 4096;
/// How much of the system's list of connections is read: some 100,000 of them.
const CONNECTIONS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Looks at one child again and again.
pub(super) struct Watch {
    leader: u32,
    last: Option<Look>,
}

/// What one look saw. A process or a connection that only one of two looks saw says nothing.
struct Look {
    /// Bytes read, by process.
    read: BTreeMap<u32, u64>,
    /// Bytes to be sent and bytes to be read, by connection.
    queues: BTreeMap<u64, (u64, u64)>,
}

impl Watch {
    /// `leader` must not have been waited for yet, as long as there are looks.
    pub(super) fn new(leader: u32) -> Self {
        Self { leader, last: None }
    }

    /// Did at least [`MOVED_BYTES_MIN`] move since the last look? The first look does not know. Takes milliseconds,
    /// on a machine with very many connections more.
    pub(super) fn moved(&mut self) -> bool {
        let now = Look::at(self.leader);
        let moved = self.last.as_ref().is_some_and(|last| now.since(last) >= MOVED_BYTES_MIN);
        self.last = Some(now);
        moved
    }
}

impl Look {
    fn at(leader: u32) -> Self {
        let processes = family(leader);
        let read = processes.iter().filter_map(|pid| Some((*pid, bytes_read(*pid)?))).collect();
        let sockets: BTreeSet<u64> = processes.iter().flat_map(|pid| sockets(*pid)).collect();
        let mut queues = BTreeMap::new();
        if !sockets.is_empty() {
            for list in ["tcp", "tcp6"] {
                let Ok(file) = File::open(format!("/proc/{leader}/net/{list}")) else { continue };
                let lines = BufReader::new(file.take(CONNECTIONS_BYTES_MAX)).lines().map_while(Result::ok);
                queues.extend(
                    lines.filter_map(|line| connection(&line)).filter(|(at, _)| sockets.contains(at)),
                );
            }
        }
        Self { read, queues }
    }

    /// At least so many bytes moved since `last`.
    fn since(&self, last: &Self) -> u64 {
        let read = self.read.iter().filter_map(|(pid, now)| Some(now.saturating_sub(*last.read.get(pid)?)));
        let queued = self.queues.iter().filter_map(|(at, (send, receive))| {
            let (sent, received) = last.queues.get(at)?;
            Some(send.abs_diff(*sent) + receive.abs_diff(*received))
        });
        read.chain(queued).sum()
    }
}

/// A process and its descendants.
fn family(leader: u32) -> Vec<u32> {
    let mut found = vec![leader];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let texts: Vec<String> =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
        let children = texts.iter().flat_map(|text| text.split_whitespace());
        let children = children.filter_map(|pid| pid.parse::<u32>().ok());
        found.extend(children.take(PROCESSES_MAX.saturating_sub(found.len())));
        next += 1;
    }
    found
}

fn bytes_read(pid: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("rchar: "))?.trim().parse().ok()
}

/// The sockets a process has open, by their number in the kernel.
fn sockets(pid: u32) -> Vec<u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(FILES_MAX);
    let target = files.filter_map(|file| fs::read_link(file.path()).ok());
    target.filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// A line of `/proc/net/tcp`: the connection's number, and its queues' lengths.
fn connection(line: &str) -> Option<(u64, (u64, u64))> {
    let mut words = line.split_whitespace();
    let (send, receive) = words.nth(4)?.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let queues = (number(send)?, number(receive)?);
    Some((words.nth(4)?.parse().ok()?, queues))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Recorded from Linux 6.18: a listener, and both ends of a connection that nobody reads from.
    #[test]
    fn lines_of_the_list() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:8C0F 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2232767 1 00000000ec38dbbd 100 0 0 10 0
   3: 0100007F:9A16 0100007F:8C0F 01 003B2C1B:00000000 01:00000000 00000000     0        0 2232768 2 000000002834fa8a 20 0 0 11 -1
   9: 0100007F:8C0F 0100007F:9A16 01 00000000:0001BA00 00:00000000 00000000     0        0 2232769 2 000000004485bdbb 20 4 0 10 -1
";
        let found: Vec<_> = text.lines().filter_map(connection).collect();
        assert_eq!(found, [(2_232_767, (0, 0)), (2_232_768, (0x3b_2c1b, 0)), (2_232_769, (0, 0x1_ba00))]);
    }

    #[test]
    fn what_waits_for_the_peer_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        sender.set_nonblocking(true).unwrap();
        let waits = |look: &Look| look.queues.values().map(|(send, receive)| send + receive).max().unwrap();
        let me = std::process::id();
        let empty = Look::at(me);
        while sender.write(&[0; 65_536]).is_ok() {}
        let full = Look::at(me);
        assert!(waits(&full) > waits(&empty) + 65_536);
        let only_queues = |look: Look| Look { read: BTreeMap::new(), ..look };
        let (empty, full) = (only_queues(empty), only_queues(full));
        assert!(full.since(&empty) > 65_536);
        assert_eq!(full.since(&full), 0);
        peer.read_exact(&mut [0; 65_536]).unwrap();
        assert!(only_queues(Look::at(me)).since(&full) >= MOVED_BYTES_MIN);
    }

    #[test]
    fn only_what_both_looks_saw_counts() {
        let look = |read: &[(u32, u64)], queues: &[(u64, (u64, u64))]| Look {
            read: read.iter().copied().collect(),
            queues: queues.iter().copied().collect(),
        };
        let before = look(&[(1, 100), (2, 50)], &[(7, (10, 0)), (8, (9, 9))]);
        let after = look(&[(1, 130), (3, 5000)], &[(7, (4, 2)), (9, (9000, 0))]);
        assert_eq!(after.since(&before), 30 + 6 + 2);
    }
}
