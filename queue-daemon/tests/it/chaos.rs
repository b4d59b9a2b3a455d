//! What the fault suites share: how long they run, many valid paths at little cost, and a destination that keeps a
//! diary of what was brought to it. Knows nothing of any one fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Stdio;

use sqlite_kit::rusqlite::Connection;
use test_kit::wait;

use crate::world::{SOON, World};

/// How much longer than in `make test` the suites run: `EKA_CHAOS_FACTOR`, set by `make chaos`.
pub(crate) fn factor() -> usize {
    let wanted = std::env::var("EKA_CHAOS_FACTOR");
    wanted.map_or(1, |text| text.parse().expect("EKA_CHAOS_FACTOR is a whole number"))
}

/// So many paths that Nix' database holds as valid. There is nothing in the store: good for destinations that look
/// at the names alone, and a hundred times quicker than adding files.
pub(crate) fn registered_paths(world: &World, name: &str, count: usize) -> Vec<String> {
    let store = world.path("nix/store");
    let paths: Vec<String> = (0..count).map(|i| format!("{}/{i:032}-{name}-{i}", store.display())).collect();
    let mut records = String::new();
    for path in &paths {
        // Path, hash, size, deriver, number of references.
        records.push_str(&format!("{path}\nsha256:{:064}\n1000\n\n0\n", 0));
    }
    let mut load = world.tool("nix-store");
    let mut load = load.arg("--load-db").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success(), "nix-store --load-db");
    paths
}

/// Bash that does nothing for so many seconds, in a process that has no child to leave behind when it is killed.
pub(crate) fn pause(world: &World, seconds: &str) -> String {
    let never = world.path("never");
    if !never.exists() {
        assert!(world.tool("mkfifo").arg(&never).status().unwrap().success());
    }
    format!("read -t {seconds} _ <> {}", never.display())
}

/// What a destination did, from the diary its program writes.
pub(crate) struct Diary {
    file: PathBuf,
    read: u64,
    /// Runs that have begun and not ended, by their pid.
    running: BTreeMap<u32, Vec<String>>,
    /// Paths of runs that came to their end.
    pub(crate) delivered: BTreeSet<String>,
    /// Runs that came to their end.
    pub(crate) ended: usize,
    /// Paths that were in two runs at once.
    pub(crate) at_once: Vec<String>,
}

impl Diary {
    /// A diary, and the `[[caches]]` block of the destination `id` that keeps it; `body` is what its program does in
    /// between, in bash.
    pub(crate) fn of(world: &World, id: &str, body: &str, keys: &str) -> (Diary, String) {
        let (file, program) = (world.path(&format!("{id}.diary")), world.path(&format!("{id}.sh")));
        // One write each, so that lines of runs at the same time do not mix.
        let line = |sign: &str| format!("echo \"{sign} $$ $OUT_PATHS\" >> {}", file.display());
        fs::write(&program, format!("{}\n{body}\n{}\n", line("+"), line("-"))).unwrap();
        let cache = format!(
            "[[caches]]\nid = \"{id}\"\ncache_type = \"command\"\ncommand = [\"/bin/bash\", \"{}\"]\n{keys}\n",
            program.display()
        );
        let (running, delivered) = (BTreeMap::new(), BTreeSet::new());
        (Diary { file, read: 0, running, delivered, ended: 0, at_once: Vec::new() }, cache)
    }

    /// Takes in what was written since the last look.
    pub(crate) fn look(&mut self) {
        let Ok(mut file) = fs::File::open(&self.file) else { return };
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        for line in text[..whole].lines() {
            let mut words = line.split(' ');
            let (sign, pid) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            let paths: Vec<String> = words.map(str::to_owned).collect();
            if sign == "+" {
                let running: BTreeSet<&String> = self.running.values().flatten().collect();
                self.at_once.extend(paths.iter().filter(|path| running.contains(path)).cloned());
                self.running.insert(pid, paths);
            } else {
                self.running.remove(&pid);
                self.ended += 1;
                self.delivered.extend(paths);
            }
        }
    }

    /// The paths of runs that have begun and not ended.
    pub(crate) fn under_way(&self) -> Vec<String> {
        self.running.values().flatten().cloned().collect()
    }

    /// The daemon was killed: its children die with it, and their runs are over.
    #[track_caller]
    pub(crate) fn daemon_died(&mut self) {
        wait::until(SOON, || {
            self.look();
            self.running.keys().all(|pid| !is_alive(*pid))
        });
        self.running.clear();
    }
}

/// Whether a process runs; one that only waits to be reaped does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

/// Opens the queue's database as another program does.
#[expect(clippy::disallowed_methods, reason = "plays another program")]
pub(crate) fn open_queue_db(world: &World) -> Connection {
    Connection::open(world.path("state/queue.db")).unwrap()
}

/// A database at rest is whole: SQLite's own check, no row without its owner, no live delivery that is not counted.
#[track_caller]
pub(crate) fn assert_sound(world: &World) {
    let conn = open_queue_db(world);
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let orphans: i64 =
        conn.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0)).unwrap();
    assert_eq!(orphans, 0);
    let counted = "SELECT (SELECT count(*) FROM delivery WHERE state < 10) = coalesce((SELECT sum(live) FROM usage), 0)";
    assert!(
        conn.query_row(counted, [], |row| row.get::<_, bool>(0)).unwrap(),
        "usage differs from the deliveries"
    );
}
