//! Backups of a queue in use, and what is made of them (R18): each holds what was acknowledged before it began, and a
//! daemon that starts on it finishes all of it, once. What goes wrong in the middle leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hook_wire::{Source, Status};
use serde_json::Value;
use sqlite_kit::rusqlite::Connection;
use test_kit::seed;
use test_kit::tmpfs::Tmpfs;
use test_kit::wait;

use crate::chaos::{Diary, assert_sound, factor, registered_paths};
use crate::frames::Frame;
use crate::inside::ask;
use crate::world::{SOON, Said, World};

#[expect(clippy::disallowed_methods, reason = "plays another program")]
fn open(file: &Path) -> Connection {
    Connection::open(file).unwrap()
}

/// The paths in a database that are done, or are not.
fn paths(file: &Path, condition: &str) -> BTreeSet<String> {
    let conn = open(file);
    let mut rows = conn.prepare(&format!("SELECT path FROM delivery WHERE {condition}")).unwrap();
    let rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn json(said: &Said) -> Value {
    assert_eq!(said.code, 0, "{said:?}");
    serde_json::from_str(&said.out).unwrap()
}

/// Snapshots, or pieces of them, in the state folder.
fn left_over(world: &World) -> Vec<String> {
    let mut names = names(&world.path("state"));
    names.retain(|name| name.contains("backup") || name.contains("restoring"));
    names
}

#[test]
fn each_backup_of_a_busy_queue_restores_to_a_consistent_point() {
    let mut world = World::new("");
    let (mut diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    let all = registered_paths(&world, "b", 600 * factor());
    fs::create_dir(world.path("backups")).unwrap();
    world.start();

    let (acknowledged, made) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let mut backups: Vec<(PathBuf, BTreeSet<String>)> = Vec::new();
    std::thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut client = UnixStream::connect(world.path("enqueue.sock")).unwrap();
            for (place, path) in all.iter().enumerate() {
                // So that there are some in between.
                wait::until(SOON, || made.load(Ordering::Relaxed) >= (3 * place).div_ceil(all.len()));
                let request = Frame::enqueue(Source::Hook).path(path);
                wait::until(SOON, || ask(&mut client, &request) == Status::Queued);
                acknowledged.lock().unwrap().insert(path.clone());
            }
        });
        while !requests.is_finished() {
            let file = world.path(&format!("backups/{}.db", backups.len()));
            let before = acknowledged.lock().unwrap().clone();
            let said = world.ask(&["backup", file.to_str().unwrap()]);
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
            backups.push((file, before));
            made.store(backups.len(), Ordering::Relaxed);
        }
    });
    assert!(backups.len() >= 3, "only {} backups beside {} requests", backups.len(), all.len());
    assert_eq!(world.ask(&["wait", "--all"]).code, 0);
    assert_eq!(world.stop(), 0);
    assert_eq!(left_over(&world), [""; 0]);

    // The first, some in between, the last.
    let step = backups.len().div_ceil(5);
    for (file, before) in backups.iter().rev().step_by(step) {
        let check: String = open(file).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let (held, owed) = (paths(file, "true"), paths(file, "state <> 10"));
        assert!(before.is_subset(&held), "lacks {:?}", before.difference(&held));
        let begun = fs::read_to_string(world.path("main.diary")).unwrap().len();
        let said = world.ask(&["restore", file.to_str().unwrap()]);
        assert_eq!(said.code, 0, "{said:?}");
        world.start();
        assert_eq!(world.ask(&["wait", "--all"]).code, 0);
        assert_eq!(world.count("main", "done"), held.len() as u64);
        assert_eq!(world.stop(), 0);
        assert_sound(&world);
        let mut sent: Vec<String> = Vec::new();
        for line in fs::read_to_string(world.path("main.diary")).unwrap()[begun..].lines() {
            if line.starts_with('+') {
                sent.extend(line.split(' ').skip(2).map(str::to_owned));
            }
        }
        sent.sort();
        assert_eq!(sent, owed.into_iter().collect::<Vec<_>>(), "what was owed, each once, and nothing else");
    }
    diary.look();
    assert_eq!(diary.at_once, [""; 0]);
}

#[test]
fn a_daemon_that_is_killed_leaves_no_half_of_a_backup() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let all = registered_paths(&world, "k", 3_000);
    world.start();
    assert_eq!(world.ask_with_input(&["push", "-"], all.join("\n").as_bytes()).code, 0);
    fs::create_dir(world.path("backups")).unwrap();
    let target = world.path("backups/a.db");
    let mut seeded = seed::start();
    for _ in 0..8 * factor() {
        let delay = std::time::Duration::from_millis(seeded.rng.below(150));
        let (said, world_ref) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| world.ask(&["backup", "--force", target.to_str().unwrap()]));
            // Until then, or until it is over by itself.
            let begun = std::time::Instant::now();
            wait::until(SOON, || begun.elapsed() >= delay || asked.is_finished());
            world.signal("KILL");
            (asked.join().unwrap(), &world)
        });
        match said.code {
            0 => {
                let check =
                    open(&target).query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
                assert_eq!(check.unwrap(), "ok");
                assert_eq!(names(&world_ref.path("backups")), ["a.db"]);
                fs::remove_file(&target).unwrap();
            }
            69 => assert_eq!(names(&world_ref.path("backups")), [""; 0], "{said:?}"),
            _ => panic!("{said:?}"),
        }
        world.kill();
        world.start();
        assert_eq!(left_over(&world), [""; 0]);
    }
}

/// What comes over is believed only when it is all there, and what it was said to be.
#[test]
fn a_snapshot_that_ends_early_or_arrives_damaged_is_no_backup() {
    let world = World::new("");
    let listener = UnixListener::bind(world.path("control.sock")).unwrap();
    let target = world.path("a.db");
    let sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let end = "{\"end\":{\"count\":0,\"refused\":0,\"tally\":null,\"timed_out\":false}}\n";
    let cases = [
        ("hel", "", 69, "hung up in the middle"),
        ("hello", "", 69, "hung up in the middle"),
        ("hallo", end, 1, "came over damaged and was thrown away"),
        ("hello", end, 0, ""),
    ];
    for (bytes, rest, code, message) in cases {
        let head = format!(
            "{{\"snapshot\":{{\"bytes\":5,\"sha256\":\"{sha}\",\"schema\":4,\"version\":\"0\",\"taken_ms\":0,\"push_since_ms\":0}}}}\n"
        );
        let said = std::thread::scope(|scope| {
            let asked = scope.spawn(|| world.ask(&["backup", target.to_str().unwrap()]));
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "{\"command\":\"backup\"}\n");
            write!(stream, "{head}{bytes}{rest}").unwrap();
            drop(stream);
            if code == 0 {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                assert!(line.ends_with("{\"command\":\"backed-up\",\"taken_ms\":0}\n"), "{line}");
                stream.write_all(end.as_bytes()).unwrap();
            }
            asked.join().unwrap()
        });
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.err.contains(message), "{said:?}");
        assert_eq!(target.exists(), code == 0);
    }
}

#[test]
fn a_full_target_is_said_and_nothing_is_left_there() {
    let disk = match Tmpfs::mount(256 << 10) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let mut world = World::new(&World::command_cache("main", "", ""));
    let all = registered_paths(&world, "f", 3_000);
    world.start();
    assert_eq!(world.ask_with_input(&["push", "-"], all.join("\n").as_bytes()).code, 0);
    for daemon in [true, false] {
        let target = disk.path().join("a.db");
        let said = world.ask(&["backup", target.to_str().unwrap()]);
        let begin =
            format!("eka-queue: cannot write the backup {}; nothing is left of it: ", target.display());
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert!(said.err.starts_with(&begin) && said.err.contains("No space left"), "{said:?}");
        assert_eq!(names(disk.path()), [""; 0]);
        assert_eq!(left_over(&world), [""; 0]);
        if daemon {
            assert_eq!(world.ask(&["status"]).code, 0);
            assert_eq!(world.stop(), 0);
        }
    }
}

#[test]
fn what_a_backup_is_called_and_who_may_read_it() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let all = registered_paths(&world, "n", 3);
    world.start();
    assert_eq!(world.ask_with_input(&["push", "-"], all.join("\n").as_bytes()).code, 0);
    let folder = world.path("backups");
    fs::create_dir(&folder).unwrap();

    let said = json(&world.ask(&["--json", "backup", folder.to_str().unwrap()]));
    let file = PathBuf::from(said["file"].as_str().unwrap());
    assert_eq!(names(&folder), [file.file_name().unwrap().to_str().unwrap()]);
    assert!(names(&folder)[0].starts_with("eka-queue-2"), "{said}");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.len()), (0o600, said["bytes"].as_u64().unwrap()));
    assert_eq!(
        (said["by_daemon"].as_bool(), said["version"].as_str()),
        (Some(true), Some(env!("CARGO_PKG_VERSION")))
    );
    let sum = world.tool("sha256sum").arg(&file).output().unwrap().stdout;
    assert!(String::from_utf8(sum).unwrap().starts_with(said["sha256"].as_str().unwrap()));
    let metrics = metrics(&world);
    let line = metrics.lines().find(|line| line.starts_with("eka_queue_last_backup_timestamp_seconds "));
    assert!(line.unwrap().split(' ').nth(1).unwrap().parse::<f64>().unwrap() > 1.7e9, "{metrics}");

    let again = world.ask(&["backup", file.to_str().unwrap()]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains("exists; name another file, or say --force"), "{again:?}");
    fs::write(&file, "in the way").unwrap();
    assert_eq!(world.ask(&["backup", "--force", file.to_str().unwrap()]).code, 0);
    assert_eq!(paths(&file, "true").len(), 3);
    let nowhere = world.ask(&["backup", "/nowhere/at/all.db"]);
    assert!(nowhere.code == 1 && nowhere.err.contains("/nowhere/at/all.db"), "{nowhere:?}");

    // A daemon that was killed has what it acknowledged in its log.
    let late = registered_paths(&world, "late", 2);
    assert_eq!(world.ask_with_input(&["push", "-"], late.join("\n").as_bytes()).code, 0);
    world.kill();
    assert!(fs::metadata(world.path("state/queue.db-wal")).unwrap().len() > 0);
    let said = world.ask(&["backup", folder.join("at-rest.db").to_str().unwrap()]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("no daemon runs"), "{said:?}");
    assert_eq!(paths(&folder.join("at-rest.db"), "true").len(), 5);
}

fn metrics(world: &World) -> String {
    let mut stream = UnixStream::connect(world.path("control.sock")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The queue as it was is kept whole, with what only its log knows.
#[test]
fn restore_keeps_what_it_replaces_and_says_what_to_do_next() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let all = registered_paths(&world, "r", 5);
    world.start();
    assert_eq!(world.hook(&all[0], "").err, "");
    world.until("main", "done", 1);
    let file = world.path("a.db");
    let taken = json(&world.ask(&["--json", "backup", file.to_str().unwrap()]));
    assert_eq!(world.ask_with_input(&["push", "-"], all.join("\n").as_bytes()).code, 0);
    world.until("main", "done", 5);

    let busy = world.ask(&["restore", file.to_str().unwrap()]);
    assert_eq!(busy.code, 69, "{busy:?}");
    assert!(busy.err.contains("a queue in use is not restored: state folder"), "{busy:?}");
    world.kill();
    let mode = fs::metadata(world.path("state/queue.db")).unwrap().mode();

    let said = world.ask(&["restore", file.to_str().unwrap()]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let since = taken["push_since"].as_str().unwrap();
    let next = format!("  eka-queue push --all-valid --ultimate --since {since}\n");
    assert!(said.out.ends_with(&next) && said.out.contains(taken["taken_at"].as_str().unwrap()), "{said:?}");
    let kept = names(&world.path("state"));
    let kept = kept.iter().find(|name| name.starts_with("queue.db.before-restore-")).unwrap();
    assert_eq!(paths(&world.path(&format!("state/{kept}")), "state = 10").len(), 5, "its log came along");
    assert_eq!(fs::metadata(world.path("state/queue.db")).unwrap().mode(), mode);
    assert_eq!(paths(&world.path("state/queue.db"), "true").len(), 1);
    world.start();
    assert_eq!(world.count("main", "done"), 1);
    let pushed = world.ask(&["push", "--all-valid", "--ultimate", "--since", since]);
    assert_eq!(pushed.code, 0, "{pushed:?}");
    assert_eq!(world.stop(), 0);
    assert_sound(&world);
    // The way back.
    let back =
        json(&world.ask(&["--json", "restore", world.path(&format!("state/{kept}")).to_str().unwrap()]));
    assert_eq!(back["database"].as_str(), world.path("state/queue.db").to_str());
    assert_eq!(paths(&world.path("state/queue.db"), "state = 10").len(), 5);
}

#[test]
fn what_is_no_backup_is_refused_and_the_queue_stays() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let all = registered_paths(&world, "x", 1_000);
    let file = world.path("a.db");
    let nothing = world.ask(&["restore", "/nowhere.db"]);
    assert!(nothing.code == 1 && nothing.err.contains("there is no state folder"), "{nothing:?}");
    world.start();
    assert_eq!(world.ask_with_input(&["push", "-"], all.join("\n").as_bytes()).code, 0);
    assert_eq!(world.ask(&["wait", "--all"]).code, 0);
    assert_eq!(world.ask(&["backup", file.to_str().unwrap()]).code, 0);
    assert_eq!(world.stop(), 0);
    let before = fs::read(world.path("state/queue.db")).unwrap();
    let spoil = |change: &dyn Fn(&Path)| {
        let spoilt = world.path("spoilt.db");
        fs::copy(&file, &spoilt).unwrap();
        fs::set_permissions(&spoilt, fs::Permissions::from_mode(0o600)).unwrap();
        change(&spoilt);
        let said = world.ask(&["restore", spoilt.to_str().unwrap()]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
        assert_eq!(fs::read(world.path("state/queue.db")).unwrap(), before);
        assert_eq!(left_over(&world), [""; 0]);
        said.err
    };
    let newer = spoil(&|file| open(file).execute_batch("PRAGMA user_version = 9999").unwrap());
    assert!(newer.contains("has schema 9999, this program knows schemas up to"), "{newer}");
    let foreign = spoil(&|file| open(file).execute_batch("PRAGMA application_id = 7").unwrap());
    assert!(foreign.contains("belongs to another program"), "{foreign}");
    let damaged = spoil(&|file| {
        let file = fs::OpenOptions::new().write(true).open(file).unwrap();
        let pages = file.metadata().unwrap().len() / 4096;
        for page in pages / 2..pages {
            file.write_all_at(&[0xa5; 512], page * 4096).unwrap();
        }
    });
    assert!(damaged.contains("was not restored, and the queue is as it was"), "{damaged}");
    let text = spoil(&|file| fs::write(file, "no database".repeat(100)).unwrap());
    assert!(text.contains("is not an SQLite database"), "{text}");
    let empty = spoil(&|file| fs::write(file, "").unwrap());
    assert!(empty.contains("belongs to another program"), "{empty}");
    let absent = world.ask(&["restore", "/nowhere.db"]);
    assert!(absent.code == 1 && absent.err.contains("cannot read /nowhere.db"), "{absent:?}");
}
