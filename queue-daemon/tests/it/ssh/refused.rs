//! What does not arrive, and what is said of it.

use std::fs;

use test_kit::wait;

use super::stage::{Far, SCHEMES, last_errors, told};
use crate::native::stage::{Made, made, noise, queue};
use crate::world::{SOON, World};

const QUICK: &str =
    "breaker = { failures = 1, probe = \"200ms\" }\nbackoff = { min = \"50ms\", max = \"100ms\" }";

#[test]
fn a_machine_that_wants_signatures_says_so_and_what_to_do() {
    let mut world = World::new("");
    let far = Far::new(&world, "require-sigs = true\ntrusted-public-keys =");
    world.configure(
        "",
        &far.block("ssh-ng", "", "attempts_max = 2\nbackoff = { min = \"50ms\", max = \"100ms\" }"),
    );
    far.start_daemon(&mut world);
    // Input-addressed: the content of others proves itself.
    let set = ["a", "b"].map(|name| Made::new(name, name, &[]));
    let paths = made(&world, &set);
    queue(&world, &paths);
    told(&world, "ssh-ng", &["lacks a ", "signing_key_files", "trusted-public-keys"]);
    assert!(paths.iter().all(|path| !far.has(&world, path)));
}

#[test]
fn another_host_key_than_the_known_one_is_refused() {
    for (known, pinned) in [("other-host", None), ("host", Some("other-host"))] {
        let mut world = World::new("");
        let far = Far::new(&world, "require-sigs = false");
        far.know(known);
        let pin = pinned.map(|key| far.pin(key)).unwrap_or_default();
        world.configure("", &far.block("ssh", &pin, QUICK));
        far.start_daemon(&mut world);
        let paths = world.valid_paths(1);
        queue(&world, &paths);
        told(&world, "ssh", &["ssh://", "ost key verification failed", "base64-ssh-public-host-key"]);
        assert_eq!(world.list(&[])[0]["attempts"], 0, "no path is to blame");
        assert!(!far.has(&world, &paths[0]));
    }
}

#[test]
fn a_key_that_is_not_taken_is_told_with_its_remedy() {
    let mut world = World::new("");
    let far = Far::new(&world, "require-sigs = false");
    fs::copy(far.path("other-id.pub"), far.path("authorized_keys")).unwrap();
    world.configure("", &far.block("ssh-ng", "", QUICK));
    far.start_daemon(&mut world);
    queue(&world, &world.valid_paths(1));
    told(&world, "ssh-ng", &["ssh-ng://", "Permission denied", "ssh_key_file", "authorized_keys"]);
    fs::copy(far.path("id.pub"), far.path("authorized_keys")).unwrap();
    world.until("ssh-ng", "done", 1);
}

/// One small and one large path whose bits have turned, in a set with others and with what needs them.
#[test]
fn what_is_not_what_was_registered_is_dead_at_once_and_never_registered_there() {
    for scheme in SCHEMES {
        let mut world = World::new("");
        let far = Far::new(&world, "require-sigs = false");
        world.configure("", &far.block(scheme, "", ""));
        let set = [
            Made::new("base", "base", &[]),
            Made::new("small", noise(1, 5_000), &[0]),
            Made::new("large", noise(2, 4 << 20), &[0]),
            Made::new("on-small", "on small", &[1, 0]),
            Made::new("on-large", "on large", &[2]),
            Made::new("good", noise(3, 100_000), &[0]),
            Made::new("good-large", noise(4, 3 << 20), &[0]),
        ];
        let paths = made(&world, &set);
        for path in &paths[1..3] {
            let mut bytes = fs::read(path).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        far.start_daemon(&mut world);
        queue(&world, &paths);
        world.until(scheme, "dead", 4);
        world.until(scheme, "done", 3);
        for (place, path) in paths.iter().enumerate() {
            assert_eq!(far.has(&world, path), [0, 5, 6].contains(&place), "{scheme}: {path}");
        }
        far.assert_whole(&world, &[&paths[0], &paths[5], &paths[6]].map(String::clone));
        for row in world.list(&["--state", "dead"]) {
            let (path, why) = (row["path"].as_str().unwrap(), row["last_error"].as_str().unwrap());
            let bad = if path.ends_with("small") { &paths[1] } else { &paths[2] };
            assert!(why.contains(&format!("{bad} is not what Nix registered")), "{scheme}: {path}: {why}");
            assert_eq!(row["attempts"], 1, "{scheme}: {path}");
        }
        assert_eq!(world.status()["destinations"][scheme]["breaker"], "closed", "{scheme}");
    }
}

/// Whatever stands in the place of ssh: what it says is bounded, shown safely, and never taken for Nix.
#[test]
fn a_peer_that_speaks_nonsense_is_told_of_and_let_go() {
    let endless = "#!/bin/sh\nexec tr '\\0' 'x' < /dev/zero\n";
    for (what, text, says) in [
        ("a greeting", "#!/bin/sh\necho 'Welcome to far!'\ncat > /dev/null\n", "it begins with \"Welcome \""),
        ("an endless one", endless, "it begins with \"xxxxxxxx\""),
        ("bytes", "#!/bin/sh\nhead -c 100 /dev/zero\ncat > /dev/null\n", "it greets with 0x0"),
        ("words", "#!/bin/sh\nprintf 'no\\033[31mway' >&2\nexit 3\n", "noway"),
        ("nothing", "#!/bin/sh\nexit 0\n", "it said nothing"),
        ("noise", "#!/bin/sh\nyes error: noise | head -n 1000000 >&2\nexit 255\n", "error: noise"),
        ("no Nix", "#!/bin/sh\necho 'sh: 1: nix-store: not found' >&2\nexit 127\n", "remote-program="),
    ] {
        for scheme in SCHEMES {
            let mut world = World::new("");
            world.configure("", &format!(
                "[[caches]]\nid = \"far\"\ncache_type = \"nix-copy\"\ndestination = \"{scheme}://far\"\n{QUICK}\n"
            ));
            fs::create_dir(world.path("bin")).unwrap();
            test_kit::script::write(&world.path("bin/ssh"), text);
            let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
            world.start_with(|command| {
                command.env("PATH", path);
            });
            queue(&world, &world.valid_paths(2));
            told(&world, "far", &[says]);
            let errors = last_errors(&world, "far");
            assert!(
                errors.iter().all(|why| why.len() < 2_000 && !why.contains('\u{1b}')),
                "{what}: {errors:?}"
            );
            assert!(world.list(&[]).iter().all(|row| row["attempts"] == 0), "{what}, {scheme}");
            assert_eq!(world.stop(), 0, "{what}, {scheme}");
        }
    }
}

/// It greets as it should and then does nothing: its time is up, and its process with it.
#[test]
fn a_peer_that_hangs_is_ended_after_the_time_out() {
    let mut world = World::new("");
    world.configure("", "[[caches]]\nid = \"far\"\ncache_type = \"nix-copy\"\ndestination = \"ssh://far\"\ntimeout = \"3s\"\nbackoff = { min = \"1h\", max = \"2h\" }\n");
    fs::create_dir(world.path("bin")).unwrap();
    let pids = world.path("pids");
    let text = format!(
        "#!/bin/sh\necho $$ >> {}\nprintf '\\313\\356\\122\\124\\0\\0\\0\\0\\007\\002\\0\\0\\0\\0\\0\\0'\nexec sleep 1000\n",
        pids.display()
    );
    test_kit::script::write(&world.path("bin/ssh"), &text);
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    world.start_with(|command| {
        command.env("PATH", path);
    });
    queue(&world, &world.valid_paths(1));
    told(&world, "far", &["nothing moved to or from ssh://far for 3s"]);
    let pid = fs::read_to_string(pids).unwrap().lines().next().unwrap().to_owned();
    wait::until(SOON, || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}
