//! What somebody else's code reads and reaches: nothing but itself.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::world::{Outcome, World, jobs};

const CANARY: &str = "a canary that nobody sings of";

/// A checkout that tries to get at a file of the machine, a listener, a variable, the daemon and the search path.
fn hostile(world: &World, listener: &TcpListener) {
    let secret = world.stage.path("secret").display().to_string();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    fs::write(&secret, CANARY).unwrap();
    world.write("default.nix", &jobs(&[("good", "")]));
    world.write(".ekaci/config.json", r#"{ "jobs": { "all": { "file": "default.nix" } } }"#);
    world.commit();
    std::os::unix::fs::symlink(&secret, world.stage.path("theirs/link")).unwrap();
    let tries = [
        ("good", String::new()),
        ("better", "src = ./default.nix;".into()),
        ("read", format!("x = builtins.readFile {secret};")),
        ("interpolated", format!("x = \"${{{secret}}}\";")),
        ("linked", "x = builtins.readFile ./link;".into()),
        ("imported", format!("x = import {secret};")),
        (
            "listed",
            format!(
                "x = if builtins.readDir {} ? secret then \"seen\" else abort \"not seen\";",
                world.stage.path("theirs/..").display()
            ),
        ),
        ("fetched", format!("x = builtins.readFile (builtins.fetchurl \"file://{secret}\");")),
        ("dialled", format!("x = builtins.readFile (builtins.fetchurl \"{url}\");")),
        ("cloned", format!("x = builtins.fetchGit \"{url}\";")),
        ("searched", "x = toString <nixpkgs>;".into()),
        ("built", "x = builtins.readFile (job \"inner\" { });".into()),
        ("variable", "x = \"is \" + builtins.getEnv \"HOME\" + builtins.getEnv \"CANARY\";".into()),
    ];
    let tries: Vec<(&str, &str)> = tries.iter().map(|(name, more)| (*name, more.as_str())).collect();
    world.write("default.nix", &jobs(&tries));
}

/// `ekaci` with strace around it and all that it starts.
fn traced(world: &World, arguments: &[&str], log: &Path) -> std::process::Command {
    let plain = world.command(arguments);
    let mut traced = world.stage.command("strace", "theirs");
    let calls = "trace=open,openat,openat2,connect,sendto";
    traced.args(["-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", calls, "-o"]).arg(log).arg("--");
    traced.arg(plain.get_program()).args(plain.get_args());
    traced.env("NIX_CONFIG", "substituters =\n").env("CANARY", CANARY);
    traced
}

fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn an_untrusted_checkout_reads_its_own_files_and_reaches_nobody() {
    let Some(world) = World::new() else { return };
    let listener = listener();
    hostile(&world, &listener);
    let mut command = world.command(&["--untrusted"]);
    command.env("CANARY", CANARY);
    let said = world.stage.run(command);
    let outcome = Outcome::of(&said);
    assert_eq!(outcome.added, ["better", "variable"], "{outcome:?}");
    assert_eq!(outcome.errors.len(), 10, "{outcome:?}");
    for attr in ["read", "interpolated", "imported", "dialled", "built"] {
        assert_eq!(outcome.kind(attr), "forbidden", "{attr}: {outcome:?}");
    }
    // Later releases let folders above the checkout be listed; the sandbox has nothing in them.
    for attr in ["listed", "linked", "fetched", "cloned", "searched"] {
        assert!(outcome.errors.contains_key(attr), "{attr}: {outcome:?}");
    }
    assert!(!said.out.contains(CANARY) && !said.err.contains(CANARY), "{said:?}");
    let written = fs::read_dir(world.stage.path("nix/store")).unwrap().map(|entry| entry.unwrap().path());
    let mut drvs = written.filter(|path| path.to_string_lossy().ends_with("-variable.drv")).peekable();
    assert!(drvs.peek().is_some());
    for drv in drvs {
        assert!(fs::read_to_string(drv).unwrap().contains("\"x\",\"is \""), "a variable came in");
    }
    assert!(listener.accept().is_err(), "somebody came");
}

#[test]
fn nor_does_anything_that_evaluates_it_try_with_success() {
    if !Path::new("/usr/bin/strace").exists() {
        println!("SKIPPED: strace is not installed, which shows what is opened and connected to");
        return;
    }
    let Some(world) = World::new() else { return };
    let listener = listener();
    hostile(&world, &listener);
    let log = world.stage.path("strace.log");
    let said = world.stage.run(traced(&world, &["--untrusted"], &log));
    assert_eq!(Outcome::of(&said).added, ["better", "variable"], "{said:?}");
    assert!(listener.accept().is_err(), "somebody came");
    let log = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let secret = world.stage.path("secret").display().to_string();
    let port = format!("htons({})", listener.local_addr().unwrap().port());
    let gone_well = |line: &&str| !line.contains(" = -1 ") || line.contains("EINPROGRESS");
    let is_bad = |line: &&str| line.contains("open") && line.contains(&secret) || line.contains(&port);
    let bad = log.lines().filter(is_bad).find(gone_well);
    assert_eq!(bad, None);
    // The log is of what it seems to be: the checkout was read.
    assert!(log.lines().any(|line| line.contains("/source/default.nix\"") && gone_well(&line)));
}

#[test]
fn what_came_of_code_that_is_not_trusted_is_for_nobody_else() {
    let Some(world) = World::new() else { return };
    world.write("default.nix", &jobs(&[("good", "")]));
    world.commit();
    let is_reused = |arguments: &[&str]| world.outcome(&[&["--no-base"], arguments].concat()).is_reused;
    let uri = ["--untrusted", "--allow-uri", "https://a.example/"];
    let kinds = [
        &[][..],
        &["--untrusted"],
        &["--sandbox", "on"],
        &uri,
        &[&uri[..], &["--allow-uri", "github:a/b"]].concat(),
        &[&uri[..], &["--allow-private-hosts"]].concat(),
    ];
    for kind in kinds {
        assert!(!is_reused(kind), "{kind:?}");
        assert!(is_reused(kind), "{kind:?}");
    }
    assert!(is_reused(&["--untrusted", "--sandbox", "on"]), "it was locked in before as well");
    assert!(is_reused(&["--sandbox", "off"]), "it was not locked in before either");
}
