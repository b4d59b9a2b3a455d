//! What somebody else's code may fetch: what a person allows, from where they allow it.

use super::world::{Outcome, Server, TEXT, World, jobs};

/// An archive with one file, and the hash of its content.
fn tarball(world: &World) -> (Vec<u8>, String) {
    let making = "mkdir -p tree && echo -n '{ v = \"from the tree\"; }' > tree/default.nix
        tar -czf tree.tar.gz tree && nix-hash --type sha256 --base32 tree";
    let hash = world.stage.script("", making).out.trim().to_owned();
    (std::fs::read(world.stage.path("tree.tar.gz")).unwrap(), hash)
}

fn text(url: &str) -> String {
    format!("builtins.fetchurl {{ url = \"{url}\"; sha256 = builtins.hashString \"sha256\" \"{TEXT}\"; }}")
}

#[test]
fn what_is_allowed_is_fetched_and_nothing_else() {
    let Some(world) = World::new() else { return };
    let (archive, hash) = tarball(&world);
    let server = Server::start(archive);
    world.write("default.nix", &jobs(&[("good", "")]));
    world.commit();
    let tree = |url: String| {
        format!("x = (import (builtins.fetchTarball {{ url = \"{url}\"; sha256 = \"{hash}\"; }})).v;")
    };
    let file = format!("x = {};", text(&server.url("/open/text")));
    let archive = tree(server.url("/open/tree.tar.gz"));
    let thrown = format!("x = throw (builtins.readFile ({}));", text(&server.url("/open/other")));
    let elsewhere = format!("x = {};", text(&server.url("/closed/text")));
    let up = format!("x = {};", text(&server.url("/open/../closed/text")));
    let all: [(&str, &str); 6] = [
        ("good", ""),
        ("file", &file),
        ("archive", &archive),
        ("thrown", &thrown),
        ("elsewhere", &elsewhere),
        ("up", &up),
    ];
    world.write("default.nix", &jobs(&all));
    let open = server.url("/open");

    let without = world.outcome(&["--untrusted"]);
    assert_eq!((without.errors.len(), server.asked()), (5, Vec::new()), "{without:?}");

    // What lies on this machine is not reached by naming it alone.
    let public = world.outcome(&["--untrusted", "--allow-uri", &open]);
    assert!(public.message("file").contains("403"), "{public:?}");
    let told = |text: &str| public.warnings.iter().any(|warning| warning.contains(text));
    assert!(told("an address of this machine itself; --allow-private-hosts, if that is meant"), "{public:?}");
    assert!(told(" about what may not be fetched; --allow-uri names places that you trust."), "{public:?}");
    assert_eq!((public.errors.len(), server.asked()), (5, Vec::new()), "{public:?}");
    assert_eq!(world.recorded_warnings(), public.warnings, "what is recorded is what was printed");

    let with = world.outcome(&["--untrusted", "--allow-uri", &open, "--allow-private-hosts"]);
    assert_eq!(with.added, ["archive", "file"], "{with:?}");
    assert_eq!(with.kind("elsewhere"), "forbidden", "{with:?}");
    assert_eq!(with.message("thrown"), TEXT, "{with:?}");
    assert!(with.errors.contains_key("up"), "{with:?}");
    assert_eq!(server.asked(), ["/open/other", "/open/text", "/open/tree.tar.gz"]);
    // What it came to is not taken for what it comes to without.
    assert_eq!(world.outcome(&["--untrusted"]).errors.len(), 5);

    // A person's own code that is locked in has the same way out, and no other.
    let own = world.outcome(&["--sandbox", "on", "--allow-uri", &open, "--allow-private-hosts"]);
    assert_eq!(own.added, ["archive", "file"], "{own:?}");
    assert!(server.asked().iter().all(|path| path.starts_with("/open/")));
}

/// A flake can name any content as its input's, and Nix asks its caches for content that is known beforehand.
#[test]
fn no_cache_of_the_machine_is_asked_for_what_it_names() {
    let server = Server::start(Vec::new());
    let caches = format!("sandbox = true\nsubstituters = {}", server.url(""));
    let Some(world) = World::with_daemon(&caches) else { return };
    let url = "https://a.example/tree.tar.gz";
    let locked = format!(r#""type": "tarball", "url": "{url}", "narHash": "sha256-{}=""#, "A".repeat(43));
    world.write(
        "flake.nix",
        &format!(
            r#"{{
              inputs.dep = {{ url = "{url}"; flake = false; }};
              outputs = {{ self, dep }}: {{ packages.x86_64-linux.a = derivation {{
                name = "a"; system = "x86_64-linux"; builder = "/bin/sh"; x = builtins.readFile (dep + "/text");
              }}; }};
            }}"#
        ),
    );
    let lock = format!(
        r#"{{ "version": 7, "root": "root", "nodes": {{ "root": {{ "inputs": {{ "dep": "dep" }} }},
          "dep": {{ "flake": false, "locked": {{ {locked} }}, "original": {{ "type": "tarball", "url": "{url}" }} }} }} }}"#
    );
    world.write("flake.lock", &lock);
    world.write(".ekaci/config.json", r#"{ "flake": { "packages": { "enable": true } } }"#);
    world.commit();
    // Nothing but the daemon's own file says which caches there are.
    let outcome = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("NIX_CONFIG", "download-attempts = 1\n");
        Outcome::of(&world.stage.run(command))
    };
    for arguments in [&["--untrusted", "--no-base"][..], &["--untrusted", "--no-base", "--allow-uri", url]] {
        let outcome = outcome(arguments);
        assert_eq!((outcome.errors.len(), server.asked()), (1, Vec::new()), "{outcome:?}");
    }
    // A person's own flake may have it from there.
    outcome(&["--no-base"]);
    assert!(server.asked().iter().any(|path| path.ends_with(".narinfo")));
}

#[test]
fn a_flake_is_evaluated_purely_and_its_locked_inputs_are_fetched_where_that_is_allowed() {
    let Some(world) = World::new() else { return };
    let (archive, _) = tarball(&world);
    let server = Server::start(archive);
    let flake = |more: &str| {
        format!(
            r#"{{
              inputs.dep = {{ url = "{}"; flake = false; }};
              outputs = {{ self, dep }}: {{ packages.x86_64-linux =
                let job = name: x: derivation {{ inherit name x; system = "x86_64-linux"; builder = "/bin/sh"; }};
                in {{ own = job "own" (builtins.readFile ./flake.nix); {more} }};
              }};
            }}"#,
            server.url("/open/tree.tar.gz")
        )
    };
    world.write("flake.nix", &flake(""));
    world.write(".ekaci/config.json", r#"{ "flake": { "packages": { "enable": true } } }"#);
    // In the store of another Nix: what is locked is not there yet for the evaluation.
    world.stage.script(
        "theirs",
        "for dir in STORE STATE LOG CONF; do export NIX_${dir}_DIR=\"$PWD/../other/$dir\"; done
        nix --extra-experimental-features 'nix-command flakes' flake lock --flake-registry '' path:.",
    );
    world.commit();
    server.asked();
    world.write(
        "flake.nix",
        &flake(&format!(
            "input = job \"input\" (import dep).v;
            clock = job \"clock\" (toString builtins.currentTime);
            outside = job \"outside\" (builtins.readFile \"{}\");
            unhashed = job \"unhashed\" (builtins.readFile (builtins.fetchurl \"{}\"));",
            world.stage.path("theirs/flake.nix").display(),
            server.url("/open/text"),
        )),
    );
    let without = world.outcome(&["--untrusted", "--no-base"]);
    assert_eq!(without.added, ["packages.x86_64-linux.own"], "{without:?}");
    assert_eq!((without.kind("packages.x86_64-linux.input"), server.asked()), ("forbidden", Vec::new()));
    let open = server.url("/open");
    let with = world.outcome(&["--untrusted", "--no-base", "--allow-uri", &open, "--allow-private-hosts"]);
    assert_eq!(with.added, ["packages.x86_64-linux.input", "packages.x86_64-linux.own"], "{with:?}");
    for attr in ["outside", "unhashed"] {
        assert_eq!(with.kind(&format!("packages.x86_64-linux.{attr}")), "forbidden", "{with:?}");
    }
    assert!(with.message("packages.x86_64-linux.clock").contains("currentTime"), "{with:?}");
    assert_eq!(server.asked(), ["/open/tree.tar.gz"]);
}
