//! Paths that can never be delivered (R5): each ends as a dead letter with its reason, none is in the way of others,
//! and one command tries them again.

use std::fs;

use test_kit::wait;

use crate::world::{FOLDER_CACHE, SOON, World};

/// Three attempts, quickly.
const QUICK: &str = "attempts_max = 3\nbackoff = { min = \"20ms\", max = \"50ms\" }";

fn sorted(mut paths: Vec<String>) -> Vec<String> {
    paths.sort_by_key(|path| path.rsplit_once("-p").unwrap().1.parse::<u32>().unwrap());
    paths
}

/// The dead letters, as (last part of the name, attempts, reason).
fn dead(world: &World) -> Vec<(String, u64, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let letter = |row: &serde_json::Value| {
        let path = text(&row["path"]);
        let name = path.rsplit('-').next().unwrap().to_owned();
        (name, row["attempts"].as_u64().unwrap(), text(&row["last_error"]))
    };
    let mut letters: Vec<_> = world.list(&["--state", "dead"]).iter().map(letter).collect();
    letters.sort();
    letters
}

/// Queues all of them as one request while nothing runs, so that they share batches.
fn queue_together(world: &World, paths: &[String]) {
    assert_eq!(world.ask(&["pause"]).code, 0);
    let said = world.hook(&paths.join(" "), "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(world.ask(&["resume"]).code, 0);
}

/// A command's four kinds of poison in one batch with twenty good paths.
#[test]
fn every_kind_ends_with_its_own_reason_and_one_command_redrives() {
    let script = "test -e $W/mended && exit 0; case $OUT_PATHS in \
                  *-p0*) echo bad data; echo checksum mismatch >&2; exit 1;; \
                  *-p1\\\\ *|*-p1) echo never >&2; exit 65;; \
                  *-p2\\\\ *|*-p2) kill -9 $$;; \
                  *-p3*) exec 9<> $W/never; read x <&9;; esac";
    let keys = format!("{QUICK}\ntimeout = \"3s\"");
    let mut world = World::new(&World::command_cache("main", script, &keys).replace("/bin/sh", "/bin/bash"));
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    let paths = sorted(world.valid_paths(24));
    world.start();
    queue_together(&world, &paths);
    world.until("main", "done", 20);
    world.until("main", "dead", 4);
    let letter = |name: &str, attempts, why: &str| (name.to_owned(), attempts, format!("/bin/bash {why}"));
    let expected = [
        letter("p0", 3, "exited 1: checksum mismatch"),
        letter("p1", 1, "exited 65: never"),
        letter("p2", 3, "was killed by signal 9"),
        letter("p3", 3, "printed nothing for 3s and was ended"),
    ];
    assert_eq!(dead(&world), expected);
    assert_eq!(world.status()["destinations"]["main"]["breaker"], "closed");
    assert_eq!(world.ask(&["wait", "--all"]).code, 1);
    // Those of the others go soon after their delivery is written down; dead letters keep their paths.
    wait::until(SOON, || world.status()["gc_roots"] == 4);

    fs::write(world.path("mended"), "").unwrap();
    assert_eq!(world.ask(&["retry", "--state", "dead"]).out, "4 to be tried again\n");
    world.until("main", "done", 24);
    assert_eq!(world.ask(&["wait", "--all"]).code, 0);
    wait::until(SOON, || world.status()["gc_roots"] == 0);
}

/// One path that makes its upload stand still, in front of good ones: they wait for it once, and not again for each
/// half of the batch.
#[test]
fn a_path_that_hangs_holds_the_others_for_one_time_out() {
    let script = "echo run $OUT_PATHS >> $W/runs; \
                  case \\\"$OUT_PATHS \\\" in *-p0\\\\ *) exec 9<> $W/never; read x <&9;; esac";
    let keys = format!("{QUICK}\ntimeout = \"3s\"");
    let mut world = World::new(&World::command_cache("main", script, &keys).replace("/bin/sh", "/bin/bash"));
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    let paths = sorted(world.valid_paths(21));
    world.start();
    queue_together(&world, &paths);
    world.until("main", "done", 20);
    world.until("main", "dead", 1);
    let expected = ("p0".to_owned(), 3, "/bin/bash printed nothing for 3s and was ended".to_owned());
    assert_eq!(dead(&world), [expected]);
    assert_eq!(world.status()["destinations"]["main"]["breaker"], "closed");
    let runs = crate::world::lines(&world.path("runs"));
    let together: Vec<usize> = runs.iter().map(|run| run.split(' ').count() - 1).filter(|n| *n > 1).collect();
    assert_eq!(together, [21], "one batch stood still; after it each path went alone: {runs:?}");
    assert_eq!(runs.len(), 1 + 20 + 3);
}

/// More bad paths than it takes to doubt a destination, in front of good ones: the good ones do not wait for that
/// doubt to end, which would take a minute.
#[test]
fn many_bad_paths_in_one_batch_hold_none_of_the_good_ones() {
    let script =
        "for p in $OUT_PATHS; do n=${p##*-p}; test $n -ge 8 || { echo $n is bad >&2; exit 1; }; done";
    let mut world = World::new(&World::command_cache("main", script, ""));
    let paths = sorted(world.valid_paths(24));
    world.start();
    queue_together(&world, &paths);
    world.until("main", "done", 16);
    assert_eq!(world.count("main", "dead"), 0, "they are tried again: a command may mend itself");
    let waiting = world.list(&["--state", "waiting"]);
    assert!(waiting.iter().all(|row| row["last_error"].as_str().unwrap().contains("is bad")), "{waiting:?}");
}

/// Paths that Nix' database calls valid and that cannot be packed: one is not there, one is no file or folder.
#[test]
fn unreadable_paths_are_given_up_and_the_rest_of_their_batch_is_pushed() {
    let mut world = World::new(&format!("{FOLDER_CACHE}{QUICK}\n"));
    let paths = sorted(world.valid_paths(8));
    let intact = [1, 4].map(|i: usize| fs::read(&paths[i]).unwrap());
    for i in [1, 4] {
        fs::remove_file(&paths[i]).unwrap();
    }
    assert!(world.tool("mkfifo").arg(&paths[1]).status().unwrap().success());
    world.start();
    queue_together(&world, &paths);
    world.until("main", "done", 6);
    world.until("main", "dead", 2);
    let letters = dead(&world);
    assert_eq!(
        letters.iter().map(|(name, n, _)| (name.as_str(), *n)).collect::<Vec<_>>(),
        [("p1", 1), ("p4", 1)]
    );
    assert!(letters[0].2.contains("is a FIFO"), "{letters:?}");
    assert!(letters[1].2.contains("No such file or directory"), "{letters:?}");
    assert!(letters[0].2.contains(&paths[1]) && letters[1].2.contains(&paths[4]), "{letters:?}");
    let narinfo =
        |path: &str| world.path(&format!("cache/{}.narinfo", &path.rsplit('/').next().unwrap()[..32]));
    for (i, path) in paths.iter().enumerate() {
        assert_eq!(narinfo(path).exists(), i != 1 && i != 4, "{path}");
    }

    fs::remove_file(&paths[1]).unwrap();
    for (i, bytes) in [1, 4].into_iter().zip(intact) {
        fs::write(&paths[i], bytes).unwrap();
    }
    assert_eq!(world.ask(&["retry", "--state", "dead"]).out, "2 to be tried again\n");
    world.until("main", "done", 8);
    assert!(paths.iter().all(|path| narinfo(path).exists()));
}
