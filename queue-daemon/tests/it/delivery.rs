//! What a delivery goes through: once, in order, isolated, and never forgotten.

use std::fs;

use test_kit::wait;

use crate::commands::patience::{begin, conversations, end};
use crate::world::{FOLDER_CACHE, SOON, World, lines};

/// The main job: Nix builds, the hook returns, a second store substitutes with signatures checked.
#[test]
fn a_real_build_reaches_a_signed_cache_and_comes_back() {
    let mut world = World::with_queue("signing_key_files = [\"$W/key.sec\"]", FOLDER_CACHE);
    let (secret, public) = (world.path("key.sec"), world.path("key.pub"));
    let made = world
        .tool("nix-store")
        .arg("--generate-binary-cache-key")
        .arg("test-1")
        .args([&secret, &public])
        .status();
    assert!(made.unwrap().success());
    world.start();
    let built = world.build(
        r#"rec {
          lib = run "lib" { outputs = [ "out" "dev" ]; } "echo lib > $out; echo $out > $dev";
          app = run "app" { } "${bb} mkdir $out; echo ${lib} ${lib.dev} > $out/uses";
        }"#,
    );
    assert_eq!(built.code, 0, "{built:?}");
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "60s"]).code, 0, "{}", world.log());
    let done = world.list(&["--state", "done"]);
    assert_eq!(done.len(), 3, "both outputs of lib, and app: {done:?}");
    assert!(done.iter().all(|row| row["drv"].as_str().unwrap().ends_with(".drv")));

    let paths: Vec<String> = done.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect();
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    let deleted = world.tool("nix-store").arg("--delete").args(&paths).output().unwrap();
    assert!(deleted.status.success(), "nothing may hold them any more: {deleted:?}");
    let realise = |key: &str| {
        let config = format!(
            "substituters = file://{}\ntrusted-public-keys = {key}\nrequire-sigs = true\nbuild-users-group =\n",
            world.path("cache").display()
        );
        world.tool("nix-store").arg("--realise").args(&paths).env("NIX_CONFIG", config).output().unwrap()
    };
    let other = "test-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(!realise(other).status.success(), "a cache signed by another key is refused");
    let back = realise(fs::read_to_string(public).unwrap().trim());
    assert!(back.status.success(), "{back:?}");
    assert_eq!(world.stop(), 0);
}

#[test]
fn the_same_path_fifty_times_is_uploaded_once() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    for _ in 0..50 {
        let said = world.hook(&path, "");
        assert_eq!((said.code, said.err.as_str()), (0, ""));
    }
    world.until("main", "done", 1);
    assert_eq!(world.list(&[]).len(), 1);
    assert_eq!(lines(&world.path("main.log")), [format!("{path} | ")]);
    let shown = world.ask(&["show", "--json", &path]);
    let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["requests"].as_array().unwrap().len(), 50, "every request is remembered");
}

/// One path that can never be sent, before twenty that can.
#[test]
fn one_poison_path_holds_no_other() {
    let poison = "case $OUT_PATHS in *-p7*) echo poisoned >&2; exit 1;; esac";
    let keys = "attempts_max = 3\nbackoff = { min = \"20ms\", max = \"50ms\" }";
    let mut world = World::new(&World::command_cache("main", poison, keys));
    let mut paths = world.valid_paths(21);
    let at = paths.iter().position(|path| path.ends_with("-p7")).unwrap();
    let bad = paths.remove(at);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    // All in one request, the bad one first, so that they share batches.
    let all = format!("{bad} {}", paths.join(" "));
    assert_eq!(world.hook(&all, "").err, "");
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 20);
    world.until("main", "dead", 1);
    let dead = world.list(&["--state", "dead"]);
    assert_eq!(dead[0]["path"], bad.as_str());
    assert_eq!(dead[0]["attempts"], 3);
    assert!(dead[0]["last_error"].as_str().unwrap().contains("poisoned"), "{dead:?}");
    assert_eq!(world.ask(&["wait", "--all"]).code, 1, "some are dead");
}

#[test]
fn a_destination_that_is_down_delays_no_other() {
    let down = World::command_cache("down", "exit 69", "backoff = { min = \"10ms\", max = \"20ms\" }");
    let caches = [World::command_cache("a", "", ""), down, World::command_cache("b", "", "")].concat();
    let mut world = World::new(&caches);
    let paths = world.valid_paths(30);
    world.start();
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    world.until("a", "done", 30);
    world.until("b", "done", 30);
    wait::until(SOON, || world.status()["destinations"]["down"]["breaker"] == "open");
    assert_eq!(world.count("down", "dead"), 0, "an outage kills nothing");
    assert_eq!(world.count("down", "done"), 0);
}

#[test]
fn a_queued_path_survives_the_garbage_collector_and_a_delivered_one_is_free() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let paths = world.valid_paths(2);
    world.start();
    world.ask(&["pause", "main"]);
    world.hook(&paths[0], "");
    let gc = world.tool("nix-store").arg("--gc").output().unwrap();
    assert!(gc.status.success(), "{gc:?}");
    assert!(fs::exists(&paths[0]).unwrap(), "the queued one is kept");
    assert!(!fs::exists(&paths[1]).unwrap(), "the other one is garbage");
    world.ask(&["resume", "main"]);
    world.until("main", "done", 1);
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    assert!(world.tool("nix-store").arg("--gc").output().unwrap().status.success());
    assert!(!fs::exists(&paths[0]).unwrap(), "delivered: nothing holds it any more");
}

#[test]
fn wait_by_tag_gives_the_verdict_over_a_restart_of_the_daemon() {
    let mut world = World::new(&World::command_cache("main", "case $OUT_PATHS in *-p1*) exit 65;; esac", ""));
    let paths = world.valid_paths(2);
    world.start();
    world.ask(&["pause"]);
    for (path, tag) in paths.iter().zip(["good", "bad"]) {
        assert_eq!(crate::world::run(world.hook_command().arg("--tag").arg(tag).arg(path), b"").err, "");
    }
    assert_eq!(world.ask(&["wait", "--tag", "good", "--timeout", "50ms"]).code, 2);
    assert_eq!(world.ask(&["wait", "--tag", "unknown"]).code, 3);
    let waiter = begin(&world, &["wait", "--tag", "good"]);
    wait::until(SOON, || conversations(&world) == 1);
    world.kill();
    world.start();
    wait::until(SOON, || conversations(&world) == 1);
    world.ask(&["resume"]);
    let waited = end(waiter);
    assert_eq!(waited.code, 0, "{waited:?}");
    assert_eq!(world.ask(&["wait", "--tag", "bad"]).code, 1);
}
