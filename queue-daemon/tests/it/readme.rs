//! What a newcomer types first. In: the commands that README.md prints between its marks, run as they stand in an empty
//! folder, with the built programs on the `PATH` and a Nix store of the test's own. Out: a failure unless real Nix
//! takes the path back from the cache with its signature checked. Leaves out the installation as a service.

use std::fs;
use std::path::Path;
use std::process::Command;

use test_kit::http_cache::Cache;
use test_kit::wait;

use crate::native::stage::{narinfo_key, s3_keys};
use crate::pages::{commands, page, script, type_in};
use crate::world::{SOON, World, run};

/// Ends what the commands have started, whatever becomes of them: `$!` is the last one put into the background.
const LIKE_A_TERMINAL: &str = "set -eu\ntrap 'kill ${!:-} 2>/dev/null; wait' EXIT\n";

/// Nix with the settings that it has by itself, its sandbox among them, but for the network and users to build as.
fn as_it_comes(shell: &mut Command) {
    shell.env("NIX_CONFIG", "substituters =\nbuild-users-group =\n");
}

/// The commands of a part of README.md.
fn part(name: &str) -> String {
    script(&page("README.md"), name)
}

#[test]
fn the_five_commands_are_five() {
    let found = commands(&part("five commands"));
    assert_eq!(found.len(), 5, "{found:#?}");
    let joined = found.iter().find(|command| command.contains("; ") && !command.contains('\''));
    assert_eq!(joined, None, "each is one command");
    assert!(found.iter().all(|command| !command.contains("&&")), "each is one command: {found:#?}");
}

#[test]
fn the_five_commands_bring_a_build_to_a_cache_that_nix_takes_it_back_from() {
    let world = World::new("");
    let typed = format!("{LIKE_A_TERMINAL}{}\n{}", part("five commands"), part("ask nix"));
    let said = type_in(&world, &world.path("work"), &typed, as_it_comes);
    let log = || fs::read_to_string(world.path("work/eka-queue.log"));
    assert_eq!(said.code, 0, "{said:?}\n{:?}", log());
    assert!(said.out.lines().any(|line| line == "1 delivered"), "{said:?}");
    let built = said.out.lines().find(|line| line.ends_with("-first")).unwrap();
    assert!(log().unwrap().contains(&format!("delivered {built} to main")), "by the queue: {:?}", log());

    // The build goes, and comes back for whoever trusts the key.
    fs::remove_file(world.path("work/result")).unwrap();
    // What held it goes soon after the delivery is written down.
    let delete = || run(world.tool("nix-store").args(["--delete", built]), b"").code == 0;
    assert!(wait::comes_true(SOON, delete));
    let fetch = |key: &str| {
        let cache = format!("file://{}", world.path("work/cache").display());
        let mut command = world.tool("nix-store");
        command.args(["--realise", built, "--max-jobs", "0", "--option", "substituters", &cache]);
        run(command.args(["--option", "require-sigs", "true", "--option", "trusted-public-keys", key]), b"")
    };
    let other = fetch("my-cache-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=");
    assert!(other.code != 0 && !Path::new(built).exists(), "{other:?}");
    let ours = fetch(fs::read_to_string(world.path("work/key.public")).unwrap().trim());
    assert_eq!((ours.code, ours.out.trim()), (0, built), "{ours:?}");
}

#[test]
fn the_cache_may_be_a_bucket() {
    let world = World::new("");
    let server = Cache::start();
    s3_keys(&world);
    // The bucket of a test is on this machine, which takes a word more.
    let allowed = "[security]\nallow_private_cache_hosts = true\n\n[[caches]]";
    let typed = format!("{LIKE_A_TERMINAL}{}", part("five commands").replacen("[[caches]]", allowed, 1));
    let said = type_in(&world, &world.path("work"), &typed, |shell| {
        as_it_comes(shell);
        shell.env("CACHE", format!("s3://my-bucket?endpoint={}", server.url()));
    });
    assert_eq!(said.code, 0, "{said:?}");
    let built = said.out.lines().find(|line| line.ends_with("-first")).unwrap();
    let narinfo = server.object(&format!("/my-bucket/{}", narinfo_key(built))).unwrap();
    assert!(String::from_utf8(narinfo.bytes).unwrap().contains("\nSig: my-cache-1:"));
    assert!(!world.path("work/cache").exists());
}
