//! Where nothing of somebody else's code is evaluated, and what is said then.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use test_kit::proc::Guard;
use test_kit::wait;

use super::world::{SOON, World, jobs};
use crate::program::Said;
use crate::stage::Stage;

fn filled(world: &World) {
    world.write("default.nix", &jobs(&[("good", "")]));
    world.commit();
}

#[track_caller]
fn assert_refused(said: &Said, remedy: &str) {
    assert_eq!((said.code, said.out.as_str()), (3, ""), "{said:?}");
    assert!(said.err.contains(remedy) && !said.err.contains("evaluating"), "{said:?}");
}

#[test]
fn without_bubblewrap_nothing_is_evaluated() {
    let Some(world) = World::new() else { return };
    filled(&world);
    std::fs::create_dir(world.stage.path("programs")).unwrap();
    for program in ["git", "nix-instantiate", "nix-store", "nix-build"] {
        let found = world.stage.script("", &format!("command -v {program}")).out;
        symlink(found.trim(), world.stage.path("programs").join(program)).unwrap();
    }
    let mut command = world.command(&["--untrusted"]);
    let (program, path) = (env!("CARGO_BIN_EXE_ekaci"), world.stage.path("programs"));
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    command = world.stage.command(program, "theirs");
    command.args(arguments).env("PATH", path);
    assert_refused(&world.stage.run(command), "install the package bubblewrap");
}

#[test]
fn with_a_daemon_that_does_not_confine_its_builds_nothing_is_evaluated() {
    for (config, remedy) in [
        ("sandbox = false", "set `sandbox = true`, not `relaxed`, in its nix.conf"),
        ("sandbox = true\ntrusted-users = *", " out of `trusted-users`"),
    ] {
        let Some(world) = World::with_daemon(config) else { return };
        filled(&world);
        assert_refused(&world.run(&["--untrusted"]), remedy);
    }
}

#[test]
fn a_socket_that_a_daemon_left_behind_is_told_from_a_daemon() {
    let Some(mut world) = World::new() else { return };
    filled(&world);
    world.end_daemon();
    for arguments in [&["--untrusted"][..], &["--sandbox", "on"]] {
        let remedy = "its socket is left of one that has ended; start nix-daemon again";
        assert_refused(&world.run(arguments), remedy);
    }
    std::fs::remove_file(world.stage.path("nix/var/daemon-socket/socket")).unwrap();
    assert_refused(
        &world.run(&["--untrusted"]),
        "(No such file or directory (os error 2)); start nix-daemon",
    );
    // Who locks nothing in needs none.
    assert_eq!(world.run(&[]).code, 0);
}

#[test]
fn an_interrupt_does_not_wait_for_a_daemon_that_says_nothing() {
    let Some(mut world) = World::new() else { return };
    filled(&world);
    world.end_daemon();
    let socket = world.stage.path("nix/var/daemon-socket/socket");
    std::fs::remove_file(&socket).unwrap();
    let silent = UnixListener::bind(&socket).unwrap();
    silent.set_nonblocking(true).unwrap();
    let mut command = world.command(&["--untrusted"]);
    let mut run =
        Guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())).unwrap();
    // One looks whether anybody listens, the other is the client that builds the first canary.
    let mut came = Vec::new();
    wait::until(SOON, || {
        came.extend(silent.accept());
        came.len() == 2
    });
    kill_process(Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap(), Signal::INT).unwrap();
    assert_eq!(run.wait(SOON).code(), Some(130));
    let (client, _) = came.pop().unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    // It says its first words, and then it is gone.
    std::io::copy(&mut &client, &mut std::io::sink()).unwrap();
}

#[test]
fn what_would_say_nothing_or_too_much_is_wrong_usage() {
    let stage = Stage::new();
    stage.script("", "mkdir theirs && cd theirs && git init --quiet --initial-branch=main");
    for (arguments, what) in [
        (&["--untrusted", "--sandbox", "off"][..], "leave --sandbox off out"),
        (&["--allow-uri", "https://a.example"], "add --untrusted or --sandbox on"),
        (&["--allow-uri", "https://a.example", "--sandbox", "off"], "add --untrusted or --sandbox on"),
        (&["--untrusted", "--allow-private-hosts"], "--allow-uri <PREFIX>"),
        (&["--untrusted", "--allow-uri", "ssh://a.example"], "write https://HOST/PATH"),
        (&["--untrusted", "--allow-uri", "https://me:word@a.example"], "leave out what stands before the @"),
    ] {
        let mut command = stage.command("ekaci", "theirs");
        command.args(["run", "--eval-only"]).args(arguments);
        let said = stage.run(command);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {said:?}");
        assert!(said.err.contains(what), "{arguments:?}: {said:?}");
    }
}
