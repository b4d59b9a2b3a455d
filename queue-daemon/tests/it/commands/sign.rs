//! `sign_store = true`: signatures are added to the local store, with or without a cache to push to.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use test_kit::proc::Guard;
use test_kit::wait;

use crate::world::{FOLDER_CACHE, SOON, World};

/// Makes a key of this name in `$W/NAME.sec`.
fn make_key(world: &World, name: &str) {
    let (secret, public) = (world.path(&format!("{name}.sec")), world.path(&format!("{name}.pub")));
    let mut make: Command = world.tool("nix-store");
    let made = make.arg("--generate-binary-cache-key").arg(name).args([&secret, &public]).status();
    assert!(made.unwrap().success());
}

/// The names of the keys that have signed a path.
fn signers(world: &World, path: &str) -> Vec<String> {
    let mut ask = world.tool("nix");
    ask.args(["--extra-experimental-features", "nix-command", "path-info", "--json", path]);
    let output = ask.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let infos: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let signatures = infos[0]["signatures"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        signatures.iter().map(|sig| sig.as_str().unwrap().split(':').next().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn without_any_cache_the_daemon_signs_what_the_hook_reports() {
    let keys = "sign_store = true\nsigning_key_files = [ \"$W/k1.sec\", \"$W/k2.sec\" ]";
    let mut world = World::with_queue(keys, "");
    make_key(&world, "k1");
    make_key(&world, "k2");
    world.start();
    let built = world.build(r#"run "signed" { } "echo $RANDOM > $out""#);
    assert_eq!(built.code, 0, "{built:?}");
    let path = built.out.trim();
    assert_eq!(world.ask(&["wait", path, "--timeout", "30s"]).code, 0, "{}", world.log());
    assert_eq!(signers(&world, path), ["k1", "k2"]);
    let row = world.list(&[]).remove(0);
    assert_eq!(row["destination"], "local-store");
    assert_eq!(row["receipt"]["signed_by"], serde_json::json!(["k1", "k2"]));
}

/// With a cache beside it, the cache gets the path with every signature, whichever lane was first.
#[test]
fn a_cache_gets_what_every_key_has_signed() {
    let keys = "sign_store = true\nsigning_key_files = [ \"$W/k1.sec\", \"$W/k2.sec\" ]";
    let mut world = World::with_queue(keys, FOLDER_CACHE);
    make_key(&world, "k1");
    make_key(&world, "k2");
    let path = world.valid_paths(1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(world.ask(&["wait", &path, "--timeout", "60s"]).code, 0, "{}", world.log());
    let hash = &path.rsplit('/').next().unwrap()[..32];
    let narinfo = fs::read_to_string(world.path(&format!("cache/{hash}.narinfo"))).unwrap();
    let mut sigs: Vec<&str> = narinfo.lines().filter_map(|line| line.strip_prefix("Sig: ")).collect();
    sigs.sort_unstable();
    assert_eq!(sigs.iter().map(|sig| sig.split(':').next().unwrap()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!(signers(&world, &path), ["k1", "k2"]);
}

/// With a Nix daemon nothing is run: the signatures are made here, and it adds them. A program that cannot be found would
/// show.
#[test]
fn beside_a_nix_daemon_no_program_is_started() {
    let keys = "sign_store = true\nsigning_key_files = [ \"$W/k1.sec\", \"$W/k2.sec\" ]";
    let mut world = World::with_queue(keys, "");
    make_key(&world, "k1");
    make_key(&world, "k2");
    let path = world.valid_paths(1).remove(0);
    let mut nix = world.tool("nix-daemon");
    let nix = Guard::spawn(nix.stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
    let socket = world.path("nix/var/daemon-socket/socket");
    wait::until(SOON, || UnixStream::connect(&socket).is_ok());
    let folder = world.path("no-programs-here");
    fs::create_dir(&folder).unwrap();
    world.start_with(|command| {
        command.env("PATH", &folder);
    });
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(world.ask(&["wait", &path, "--timeout", "60s"]).code, 0, "{}", world.log());
    drop(nix);
    assert_eq!(signers(&world, &path), ["k1", "k2"]);
}

/// A key that is away for a while costs time, not deliveries.
#[test]
fn a_key_that_cannot_be_read_is_named_and_the_path_waits_for_it() {
    let keys = "sign_store = true\nsigning_key_files = [ \"$W/k1.sec\" ]";
    let mut world = World::with_queue(keys, "");
    make_key(&world, "k1");
    let path = world.valid_paths(1).remove(0);
    world.start();
    fs::rename(world.path("k1.sec"), world.path("away")).unwrap();
    assert_eq!(world.hook(&path, "").err, "");
    world.until("local-store", "waiting", 1);
    let row = world.list(&[]).remove(0);
    assert!(row["last_error"].as_str().unwrap().contains("k1.sec"), "{row}");
    fs::rename(world.path("away"), world.path("k1.sec")).unwrap();
    assert_eq!(world.ask(&["retry", &path]).code, 0);
    world.until("local-store", "done", 1);
    assert_eq!(signers(&world, &path), ["k1"]);
}
