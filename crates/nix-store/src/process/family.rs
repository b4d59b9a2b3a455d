//! A child's descendants, in whatever group or session they are. The numbers of processes come in; these and all that
//! descend from them are ended. They are stopped first, so that none can start another one unseen, and killed then. Who
//! was orphaned before anybody looked is not found. What the kernel does not let us see or tell is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often all processes are looked at while they are being stopped: each look finds the children that were started
/// before their parent stopped.
const LOOKS_MAX: usize = 16;

/// A process, told apart from a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pid: u32,
    /// When it began, in the kernel's ticks since its start.
    born: u64,
}

/// A process and its descendants, as they are now.
pub(super) fn of(leader: u32) -> BTreeSet<Member> {
    let all = All::look();
    all.member(leader).map(|leader| all.family(&[leader].into())).unwrap_or_default()
}

/// Ends these, as far as they are still there, and their descendants.
pub(super) fn end(roots: &BTreeSet<Member>) {
    let mut stopped = BTreeSet::new();
    for _ in 0..LOOKS_MAX {
        // What was orphaned meanwhile is still among those that were stopped.
        let known: BTreeSet<Member> = roots.union(&stopped).copied().collect();
        let found = All::look().family(&known);
        let new: Vec<Member> = found.difference(&stopped).copied().collect();
        if new.is_empty() {
            break;
        }
        for member in new {
            member.tell(Signal::STOP);
            stopped.insert(member);
        }
    }
    stopped.iter().for_each(|member| member.tell(Signal::KILL));
}

impl Member {
    /// Whoever has its number now and is another one is not told.
    fn tell(self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        // From here on the file stands for one process, whatever becomes of its number.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Stat::read(self.pid).is_some_and(|stat| stat.born == self.born) {
            let _ = pidfd_send_signal(&process, signal); // it has ended, or is not ours to end
        }
    }
}

/// All processes at one moment, near enough.
struct All {
    born: BTreeMap<u32, u64>,
    children: BTreeMap<u32, Vec<u32>>,
}

impl All {
    fn look() -> Self {
        let mut all = Self { born: BTreeMap::new(), children: BTreeMap::new() };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            if let Some(stat) = Stat::read(pid).filter(|stat| !stat.is_over) {
                all.born.insert(pid, stat.born);
                all.children.entry(stat.parent).or_default().push(pid);
            }
        }
        all
    }

    fn member(&self, pid: u32) -> Option<Member> {
        self.born.get(&pid).map(|born| Member { pid, born: *born })
    }

    /// Those of these that are there, and their descendants.
    fn family(&self, roots: &BTreeSet<Member>) -> BTreeSet<Member> {
        let mut found = BTreeSet::new();
        let mut next: Vec<Member> =
            roots.iter().filter(|root| self.born.get(&root.pid) == Some(&root.born)).copied().collect();
        while let Some(member) = next.pop() {
            if found.insert(member) {
                let children = self.children.get(&member.pid).into_iter().flatten();
                next.extend(children.filter_map(|pid| self.member(*pid)));
            }
        }
        found
    }
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    born: u64,
    /// It has ended and was not waited for.
    is_over: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name, in brackets, may hold anything, brackets and blanks too.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut words = rest.split_whitespace();
        let state = words.next()?;
        let parent = words.next()?.parse().ok()?;
        let born = words.nth(17)?.parse().ok()?;
        Some(Self { parent, born, is_over: matches!(state, "Z" | "X" | "x") })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_the_kernel_says() {
        let text = "312 (a) S 1 ) R 7 312 1 34817 312 4194304 165 0 0 0 0 0 0 0 20 0 1 0 88231 5939200 892 18446744073709551615 1 1\n";
        assert_eq!(Stat::parse(text), Some(Stat { parent: 7, born: 88_231, is_over: false }));
        assert_eq!(Stat::parse("312 (a) Z 7"), None);
        let me = std::process::id();
        let of_me = of(me);
        assert!(of_me.iter().any(|member| member.pid == me));
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "what is told to a process is tried here, not how one is started"
    )]
    fn another_process_of_the_same_number_is_not_told() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let born = Stat::read(child.id()).unwrap().born;
        Member { pid: child.id(), born: born + 1 }.tell(Signal::KILL);
        // Had it been told, nobody would answer: a signal is there before whatever is written after it.
        to.write_all(b"still there").unwrap();
        let mut answer = [0; 11];
        from.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"still there");
        Member { pid: child.id(), born }.tell(Signal::KILL);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        drop(to); // held until here, so that nothing else has ended it
    }
}
