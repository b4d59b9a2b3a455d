//! `status`, `list` and `show`: what is there, chosen by any property, for people and for programs.

use serde_json::Value;
use test_kit::wait;

use crate::world::{SOON, World, run};

/// Three paths under two tags: the first delivered to `main`, the second dead there, all three held at `later`.
fn stage() -> (World, Vec<String>) {
    let refuse = "case $OUT_PATHS in *-p1*) echo no such thing here >&2; exit 65;; esac";
    let caches = [World::command_cache("main", refuse, ""), World::command_cache("later", "", "")].concat();
    let mut world = World::new(&caches);
    let mut paths = world.valid_paths(3);
    paths.sort_by_key(|path| path[path.len() - 2..].to_owned());
    world.start();
    assert_eq!(world.ask(&["pause", "later"]).code, 0);
    for (path, tag) in paths.iter().zip(["one", "one", "two"]) {
        let said = run(world.hook_command().args(["--tag", tag, path]), b"");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
    world.until("main", "done", 2);
    world.until("main", "dead", 1);
    (world, paths)
}

/// The paths and destinations of a list, as `pN@ID`.
fn names(rows: &[Value]) -> Vec<String> {
    let name = |row: &Value| {
        let path = row["path"].as_str().unwrap();
        format!("{}@{}", &path[path.len() - 2..], row["destination"].as_str().unwrap())
    };
    rows.iter().map(name).collect()
}

#[test]
fn a_list_is_chosen_by_any_property_and_by_several_together() {
    let (world, paths) = stage();
    let list = |flags: &[&str]| {
        let mut found = names(&world.list(flags));
        found.sort();
        found
    };
    assert_eq!(list(&[]), ["p0@later", "p0@main", "p1@later", "p1@main", "p2@later", "p2@main"]);
    assert_eq!(list(&["--state", "done"]), ["p0@main", "p2@main"]);
    assert_eq!(list(&["--state", "done", "--state", "dead"]), ["p0@main", "p1@main", "p2@main"]);
    assert_eq!(list(&["--state", "gone"]), [""; 0]);
    assert_eq!(list(&["--destination", "later"]), ["p0@later", "p1@later", "p2@later"]);
    assert_eq!(list(&["--tag", "two"]), ["p2@later", "p2@main"]);
    assert_eq!(list(&[&paths[0], &paths[1], "--destination", "main"]), ["p0@main", "p1@main"]);
    assert_eq!(list(&["--tag", "one", "--state", "queued"]), ["p0@later", "p1@later"]);
    assert_eq!(list(&["--newer-than", "1h"]).len(), 6);
    assert_eq!(list(&["--older-than", "1h"]), [""; 0]);
    assert_eq!(list(&["--older-than", "0s", "--newer-than", "1h"]).len(), 6);
    assert_eq!(world.list(&["--limit", "4"]).len(), 4);
    // Oldest first.
    let ordered = names(&world.list(&["--destination", "later"]));
    assert_eq!(ordered, ["p0@later", "p1@later", "p2@later"]);
    // Wildcards and quotes are characters like others.
    for odd in ["%", "*", "o'ne", "one\u{0}".trim_end_matches('\u{0}').to_uppercase().as_str()] {
        assert_eq!(list(&["--tag", odd]), [""; 0]);
    }
}

#[test]
fn a_long_list_comes_whole() {
    let mut world = World::in_memory(&World::command_cache("main", "", ""));
    let paths = crate::chaos::registered_paths(&world, "long", 1_234);
    world.start();
    world.ask(&["pause"]);
    assert_eq!(world.ask_with_input(&["push", "-"], paths.join("\n").as_bytes()).code, 0);
    assert_eq!(world.list(&[]).len(), 1_234);
    assert_eq!(world.list(&["--limit", "501"]).len(), 501);
}

/// The documented keys of one line, and how people see the same.
#[test]
fn the_lines_of_a_list_and_of_show() {
    let (world, paths) = stage();
    let dead = world.list(&["--state", "dead"]).remove(0);
    let keys: Vec<&str> = dead.as_object().unwrap().keys().map(String::as_str).collect();
    let documented = [
        "attempts",
        "destination",
        "drv",
        "last_error",
        "not_before",
        "path",
        "queued_at",
        "receipt",
        "state",
        "tag",
    ];
    assert_eq!(keys, documented);
    assert_eq!(dead["last_error"], "/bin/sh exited 65: no such thing here");
    assert_eq!((&dead["attempts"], &dead["tag"], &dead["receipt"]), (&1.into(), &"one".into(), &Value::Null));
    let done = world.list(&["--state", "done"]).remove(0);
    assert_eq!(done["receipt"], serde_json::json!({ "kind": "command", "exit": 0 }));

    let all = [world.ask(&["list"]).out, world.ask(&["show", &paths[1]]).out].join("\n---\n");
    insta::assert_snapshot!(steady(&world, &all));
    let shown: Vec<Value> = world
        .ask(&["show", "--json", &paths[1]])
        .out
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(names(&shown), ["p1@later", "p1@main"]);
    assert_eq!(
        (&shown[1]["last_output"], &shown[1]["last_class"]),
        (&"no such thing here\n".into(), &"refused".into())
    );
    assert_eq!(shown[0]["requests"][0]["source"], "hook");
}

#[test]
fn to_show_what_was_never_queued_is_3() {
    let (world, paths) = stage();
    let other = format!("{}x", paths[0]);
    for path in [other.as_str(), "", "no path", "'; DROP TABLE delivery; --"] {
        let said = world.ask(&["show", path]);
        assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
        assert!(said.err.contains("was never queued here"), "{said:?}");
    }
    assert_eq!(world.list(&[]).len(), 6);
}

#[test]
fn status_counts_everything() {
    let (world, _) = stage();
    wait::until(SOON, || world.status()["gc_roots"] == 3);
    let mut status = world.status();
    for changing in ["uptime_seconds", "oldest_queued_seconds"] {
        assert!(status[changing].is_u64(), "{status}");
        status[changing] = 0.into();
    }
    status["destinations"]["later"]["oldest_queued_seconds"] = 0.into();
    status["version"] = "VERSION".into();
    let text = world.ask(&["status"]).out;
    let pretty = serde_json::to_string_pretty(&status).unwrap();
    insta::assert_snapshot!(steady(&world, &format!("{text}\n---\n{pretty}")));
}

/// A destination that left the configuration is still there while it is owed something.
#[test]
fn a_removed_destination_is_shown_until_it_is_empty() {
    let (mut world, _) = stage();
    assert_eq!(world.stop(), 0);
    world.configure("", &World::command_cache("main", "", ""));
    world.start();
    let later = &world.status()["destinations"]["later"];
    assert_eq!((&later["configured"], &later["queued"]), (&false.into(), &3.into()));
    assert!(world.ask(&["status"]).out.contains("removed"));
    assert_eq!(world.ask(&["drop", "--destination", "later"]).code, 0);
    assert!(world.status()["destinations"].get("later").is_none());
}

/// Text without what differs from run to run: folders, hashes, times, ages.
fn steady(world: &World, text: &str) -> String {
    let text = text.replace(world.path("").to_str().unwrap(), "$W/");
    let mut steady = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(steady_word).collect();
        steady += words.join(" ").trim_end();
        steady.push('\n');
    }
    steady
}

fn steady_word(word: &str) -> String {
    let is_time =
        word.len() >= 20 && word.starts_with("20") && word.trim_end_matches([',', ')']).ends_with('Z');
    if let Some(at) = word.find("nix/store/") {
        let hash = at + "nix/store/".len();
        format!("{}HASH{}", &word[..hash], &word[hash + 32..])
    } else if is_time {
        "TIME".into()
    } else if word.trim_end_matches(',').strip_suffix('s').is_some_and(|n| n.parse::<u32>().is_ok()) {
        "AGE".into()
    } else if word == env!("CARGO_PKG_VERSION") {
        "VERSION".into()
    } else {
        word.into()
    }
}
