//! Somebody has had enough: each signal that asks for the end, in each phase of a run. The phase lasts because a program that it
//! waits for hangs.

use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use test_kit::proc::Guard;
use test_kit::wait;

use super::world::{SOON, World};

/// Signals that ask for the end.
const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];
/// A run that ends later than this was ended by its own last resort, which is ten seconds.
const PROMPT: Duration = Duration::from_secs(9);

/// Has a program hang when its words match, and say so in a file.
fn hang(world: &World, program: &str, matches: &str) {
    hang_if(world, program, &format!("case \"$*\" in {matches}) true;; *) false;; esac"));
}

/// Has a program hang when a command of the shell says so.
fn hang_if(world: &World, program: &str, condition: &str) {
    let held = world.stage.path("held").display().to_string();
    world.fake(program, &format!("if {condition}; then : > {held}; exec sleep 600; fi"));
}

/// Starts a run, and gives it a signal when it hangs.
fn interrupted(world: &World, signal: Signal) {
    let held = world.stage.path("held");
    let _ = fs::remove_file(&held); // of the last one, if there was one
    let err = File::create(world.stage.path("err")).unwrap();
    // Whoever runs the tests may have been started by `nohup`.
    let mut command = world.run(&["env", "--default-signal=HUP"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err);
    let mut run = Guard::spawn(&mut command).unwrap();
    assert!(wait::comes_true(SOON, || held.exists()), "it came to its end: {run:?}");
    let pid = Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    assert_eq!(run.wait(PROMPT).code(), Some(130), "{signal:?}");
    let said = fs::read_to_string(world.stage.path("err")).unwrap();
    assert!(said.ends_with("ekaci: interrupted\n"), "{signal:?}: {said}");
    world.assert_tidy();
}

/// Whatever the phase, the run ends, nothing is left, and the next one is as good as any.
fn each_signal(world: &World, hang: impl Fn(&World)) {
    each_of(&SIGNALS, world, hang);
}

fn each_of(signals: &[Signal], world: &World, hang: impl Fn(&World)) {
    let calm = world.report();
    world.forget();
    for signal in signals {
        hang(world);
        interrupted(world, *signal);
    }
    world.unfake();
    assert_eq!(world.report(), calm);
    world.assert_tidy();
}

#[test]
fn while_it_checks_out() {
    each_signal(&World::new(), |world| hang(world, "git", "*cat-file*"));
}

#[test]
fn while_it_evaluates() {
    each_signal(&World::new(), |world| hang(world, "nix-instantiate", "*--eval*"));
}

#[test]
fn while_it_writes_derivations() {
    each_signal(&World::new(), |world| hang(world, "nix-instantiate", "*--read-write-mode*"));
}

#[test]
fn while_it_asks_why_something_fails() {
    let world = World::new();
    // So many that they are asked for together, when it is known which of them are new.
    world.add("many = builtins.listToAttrs (builtins.genList (n: { name = \"n${toString n}\"; value = throw \"${toString n}\"; }) 250) // { recurseForDerivations = true; };");
    let is_comparing = format!("grep --quiet '^comparing' {}", world.stage.path("err").display());
    // It takes long to come there.
    each_of(&[Signal::TERM], &world, |world| hang_if(world, "nix-instantiate", &is_comparing));
}

/// Who starts it with `nohup` wants it to outlive the terminal.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let world = World::new();
    let calm = world.report();
    world.forget();
    hang(&world, "nix-instantiate", "*--read-write-mode*");
    let held = world.stage.path("held");
    let out = File::create(world.stage.path("said.out")).unwrap();
    let mut command = world.run(&["nohup"]);
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null());
    let mut run = Guard::spawn(&mut command).unwrap();
    wait::until(SOON, || held.exists());
    let pid = Pid::from_raw(i32::try_from(run.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    // What hangs is killed, once; it goes on from there.
    world.unfake();
    wait::until(SOON, || {
        for hung in world.processes_named("sleep") {
            let _ = kill_process(hung, Signal::KILL); // it may have ended since
        }
        run.child().try_wait().unwrap().is_some()
    });
    let code = run.wait(SOON).code();
    let out = fs::read_to_string(world.stage.path("said.out")).unwrap();
    let said = crate::program::Said { code: code.unwrap(), out, err: String::new() };
    assert_eq!(super::world::report(&said), calm);
}
