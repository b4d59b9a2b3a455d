//! Several runs of the same change at once, from nothing: each answers as if it were alone. One of them may be killed.

use std::fs::{self, File};
use std::process::Stdio;

use test_kit::proc::Guard;
use test_kit::{seed, wait};

use super::world::{Report, SOON, World, report};
use crate::program::Said;

/// Runs at once.
const RUNS: usize = 4;

/// One of several.
struct Run {
    guard: Guard,
    name: String,
}

fn start(world: &World, name: String) -> Run {
    let file = |kind: &str| File::create(world.stage.path(&format!("{name}.{kind}"))).unwrap();
    let mut command = world.run(&[]);
    command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
    Run { guard: Guard::spawn(&mut command).unwrap(), name }
}

fn end(world: &World, mut run: Run) -> Report {
    let code = run.guard.wait(SOON).code().unwrap();
    let read = |kind: &str| fs::read_to_string(world.stage.path(&format!("{}.{kind}", run.name))).unwrap();
    report(&Said { code, out: read("out"), err: read("err") })
}

/// What killed runs leave: a checkout that was being written, and a look at a repository with and without its lock.
fn leave_behind(world: &World) {
    world.stage.script(
        "",
        "cd home/.cache/ekaci/checkouts
        for n in 1 2 3; do
          mkdir -p trees/draft-$n/source mirrors/look-$n/refs mirrors/look-x$n
          for file in 1 2 3 4 5 6 7 8 9; do echo 1 > trees/draft-$n/source/$file; done
          : > trees/draft-$n.lock; : > mirrors/look-$n/lock
        done",
    );
}

#[test]
fn each_answers_as_if_it_were_alone() {
    let world = World::new();
    let calm = world.report();
    let left = world.checkouts();
    for round in 0..3 {
        if round == 0 {
            world.forget();
        } else {
            leave_behind(&world);
        }
        let runs: Vec<Run> = (0..RUNS).map(|number| start(&world, format!("run{number}"))).collect();
        for run in runs {
            assert_eq!(end(&world, run), calm, "round {round}");
        }
        world.assert_tidy();
        assert_eq!(world.checkouts(), left);
    }
}

#[test]
fn one_is_killed_and_the_others_do_not_notice() {
    let mut seeded = seed::start();
    let world = World::new();
    let calm = world.report();
    let left = world.checkouts();
    for moment in ["checking out", "evaluating packages", "evaluated packages"] {
        world.forget();
        let mut runs: Vec<Run> = (0..RUNS).map(|number| start(&world, format!("run{number}"))).collect();
        let mut killed = runs.swap_remove(seeded.rng.index(RUNS));
        let err = world.stage.path(&format!("{}.err", killed.name));
        wait::until(SOON, || fs::read_to_string(&err).unwrap().contains(moment));
        killed.guard.kill().unwrap();
        for run in runs {
            assert_eq!(end(&world, run), calm, "one was killed when it was {moment}");
        }
        assert_eq!(world.report(), calm);
        world.assert_tidy();
        assert_eq!(world.checkouts(), left);
    }
}
