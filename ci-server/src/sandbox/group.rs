//! A bound on all evaluators of a run together. In: how much memory and how many processes. Out: a control group of the
//! kernel's, version 2 or 1, for children to enter before they become anything; or the reason why there is none. Limits of
//! each process hold in any case: this is the second wall. The group is removed when it is dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a group may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Memory of all its processes together, in bytes, files in their `/tmp` included.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// Where this process may make groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Version 2: one tree for all.
    V2 {
        /// The folder in which they are made.
        folder: PathBuf,
    },
    /// Version 1: a tree for memory, and one for processes.
    V1 {
        /// The folder for memory.
        memory: PathBuf,
        /// The folder for processes.
        pids: PathBuf,
    },
    /// Nowhere.
    Nowhere,
}

/// A group that was made.
#[derive(Debug)]
pub struct Group {
    folders: Vec<PathBuf>,
}

/// Files of groups. The value that is the whole machine is the kernel's.
const V2_FILES: [&str; 3] = ["memory.max", "memory.swap.max", "pids.max"];
/// What a process is written into to be moved.
const MEMBERS: &str = "cgroup.procs";
/// Longest the end of a group waits for the kernel to take its last processes apart.
const REMOVE_MAX: Duration = Duration::from_millis(500);
/// How many names are tried for one group.
const NAMES_MAX: usize = 1000;
/// Controllers that are needed.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

impl Groups {
    /// Looks where this process is, and whether it may make groups there.
    #[must_use]
    pub fn find() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default(); // no such kernel: nowhere
        Self::among(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn among(own: &str, mounts: &str) -> Self {
        let v2 = folder_of(own, mounts, None).and_then(|own| delegated(&own));
        if let Some(folder) = v2 {
            return Self::V2 { folder };
        }
        match (folder_of(own, mounts, Some("memory")), folder_of(own, mounts, Some("pids"))) {
            (Some(memory), Some(pids)) if may_make(&memory) && may_make(&pids) => Self::V1 { memory, pids },
            _ => Self::Nowhere,
        }
    }

    /// Makes a group; `None` where there is no place for one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn make(&self, share: Share) -> io::Result<Option<Group>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let numbers = std::iter::repeat_with(|| COUNT.fetch_add(1, Ordering::Relaxed)).take(NAMES_MAX);
        self.make_one_of(numbers, share)
    }

    /// The same with the first of these numbers that nobody has: in another namespace a process may have our own's.
    fn make_one_of(&self, numbers: impl Iterator<Item = u64>, share: Share) -> io::Result<Option<Group>> {
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in numbers {
            match self.make_named(&format!("eka-{}-{number}", std::process::id()), share) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                made => return made,
            }
        }
        Err(taken)
    }

    fn make_named(&self, name: &str, share: Share) -> io::Result<Option<Group>> {
        let mut group = Group { folders: Vec::new() };
        let Share { memory_bytes, processes } = share;
        match self {
            Self::Nowhere => return Ok(None),
            Self::V2 { folder } => {
                let folder = group.folder(folder, name)?;
                for (file, value) in V2_FILES.into_iter().zip([memory_bytes, 0, processes]) {
                    set(&folder, file, value, file == "memory.swap.max")?;
                }
            }
            Self::V1 { memory, pids } => {
                let memory = group.folder(memory, name)?;
                set(&memory, "memory.limit_in_bytes", memory_bytes, false)?;
                set(&memory, "memory.memsw.limit_in_bytes", memory_bytes, true)?;
                let pids = group.folder(pids, name)?;
                set(&pids, "pids.max", processes, false)?;
            }
        }
        Ok(Some(group))
    }
}

impl Group {
    /// Files into which a child writes `0` to enter.
    #[must_use]
    pub fn entrances(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join(MEMBERS)).collect()
    }

    fn folder(&mut self, base: &Path, name: &str) -> io::Result<PathBuf> {
        sweep(base);
        let folder = base.join(name);
        fs::create_dir(&folder)?;
        self.folders.push(folder.clone());
        Ok(folder)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Version 2 alone has it; in version 1 its members have ended by the end of their namespace.
            let _ = fs::write(folder.join("cgroup.kill"), "1"); // then the removal says so
            if let Err(error) = remove(folder) {
                tracing::warn!(
                    "cannot remove the control group {}, the next run does: {error}",
                    folder.display()
                );
            }
        }
    }
}

/// Removes a group's folder. Its last processes were ended, but the kernel may still be taking them apart.
fn remove(folder: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < REMOVE_MAX => {
                std::thread::yield_now();
            }
            done => return done,
        }
    }
}

/// Removes what runs left that were killed: groups named after processes that are no more.
fn sweep(base: &Path) {
    let names = fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter_map(|name| name.into_string().ok()) {
        let process =
            name.strip_prefix("eka-").and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
        let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if process.filter(is_number).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = fs::remove_dir(base.join(name)); // somebody is in it, or another one was faster: it stays or is gone
        }
    }
}

fn set(folder: &Path, file: &str, value: u64, may_be_absent: bool) -> io::Result<()> {
    match fs::write(folder.join(file), value.to_string()) {
        Err(error) if may_be_absent && error.kind() == io::ErrorKind::NotFound => Ok(()), // a kernel without swap
        Err(error) if may_be_absent && error.kind() == io::ErrorKind::PermissionDenied => Ok(()), // nor its accounting
        done => done,
    }
}

/// The folder of this process' group in one tree; that of version 2 when `controller` is `None`.
fn folder_of(own: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let ours = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        ours.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (system, options) = (kind.next()?, kind.nth(1)?);
        let ours = match controller {
            Some(name) => system == "cgroup" && options.split(',').any(|one| one == name),
            None => system == "cgroup2",
        };
        let mut place = place.split(' ').skip(3);
        let (root, at) = (place.next()?, place.next()?);
        let below = path.strip_prefix(root.trim_end_matches('/'))?;
        ours.then(|| Path::new(at).join(below.trim_start_matches('/')))
    })
}

/// Where groups with limits can be made in the tree of version 2: beside our own group, as in a unit with `Delegate=yes` and
/// `DelegateSubgroup=`, for a group with processes may have no children with limits.
fn delegated(own: &Path) -> Option<PathBuf> {
    let folder = own.parent()?;
    let has = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap_or_default(); // no such group: nothing
        CONTROLLERS.iter().all(|controller| text.split_whitespace().any(|one| one == *controller))
    };
    (has("cgroup.controllers") && has("cgroup.subtree_control") && may_make(folder))
        .then(|| folder.to_owned())
}

fn may_make(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
23 1 0:5 / / rw - ext4 /dev/vda rw
32 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 31 0:36 /part /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn our_own_folders_are_found_in_each_tree() {
        let own = "8:pids,cpu:/part/a\n4:memory:/\n1:name=systemd:/x\n0::/system.slice/eka.service/main\n";
        let folder = |controller| folder_of(own, MOUNTS, controller);
        assert_eq!(folder(Some("memory")).unwrap(), Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(folder(Some("pids")).unwrap(), Path::new("/sys/fs/cgroup/pids/a"));
        assert_eq!(folder(None).unwrap(), Path::new("/sys/fs/cgroup/unified/system.slice/eka.service/main"));
        assert_eq!(folder(Some("blkio")), None);
        assert_eq!(Groups::among("", ""), Groups::Nowhere);
        assert!(Groups::Nowhere.make(Share { memory_bytes: 1, processes: 1 }).unwrap().is_none());
    }

    /// A kernel's tree of version 2, as far as files can be one.
    #[test]
    fn in_version_2_a_group_is_made_beside_ours_where_limits_are_handed_down() {
        let tree = tempfile::tempdir().unwrap();
        let own = tree.path().join("main");
        fs::create_dir(&own).unwrap();
        fs::write(tree.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(tree.path().join("cgroup.subtree_control"), "memory\n").unwrap();
        assert_eq!(delegated(&own), None);
        fs::write(tree.path().join("cgroup.subtree_control"), "memory pids\n").unwrap();
        let groups = Groups::V2 { folder: delegated(&own).unwrap() };
        let group = groups.make(Share { memory_bytes: 7, processes: 3 }).unwrap().unwrap();
        let [entrance] = &group.entrances()[..] else { panic!("one tree, one entrance") };
        let folder = entrance.parent().unwrap().to_owned();
        for (file, value) in [("memory.max", "7"), ("memory.swap.max", "0"), ("pids.max", "3")] {
            assert_eq!(fs::read_to_string(folder.join(file)).unwrap(), value, "{file}");
        }
        drop(group);
        assert_eq!(fs::read_to_string(folder.join("cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn a_name_that_somebody_has_is_passed_over() {
        let tree = tempfile::tempdir().unwrap();
        let named = |number: u64| tree.path().join(format!("eka-{}-{number}", std::process::id()));
        for number in [5, 6] {
            fs::create_dir(named(number)).unwrap();
        }
        let groups = Groups::V2 { folder: tree.path().to_owned() };
        let share = Share { memory_bytes: 7, processes: 3 };
        let group = groups.make_one_of(5..9, share).unwrap().unwrap();
        assert_eq!(group.entrances(), [named(7).join(MEMBERS)]);
        let error = groups.make_one_of(5..7, share).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        drop(group);
        assert!(named(5).exists() && named(6).exists(), "what others made stays");
    }

    #[test]
    fn what_killed_runs_left_is_removed_and_nothing_else() {
        let tree = tempfile::tempdir().unwrap();
        // No process has such a number: the kernel's largest is below it.
        let gone = "eka-4194999-0";
        let ours = format!("eka-{}-7", std::process::id());
        for name in [gone, ours.as_str(), "eka-x-1", "other-4194999-0"] {
            fs::create_dir(tree.path().join(name)).unwrap();
        }
        sweep(tree.path());
        let mut left: Vec<_> = fs::read_dir(tree.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = [ours.as_str(), "eka-x-1", "other-4194999-0"];
        expected.sort();
        assert_eq!(left, expected);
    }
}
