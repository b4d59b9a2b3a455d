//! Promises about time. `scripts/test` runs these after all others, one by one: on a machine that is busy with other
//! tests a process may not even be scheduled within its deadline.

use std::time::{Duration, Instant};

use test_kit::wait;

use crate::chaos::{open_queue_db, registered_paths};
use crate::commands::patience::{begin, conversations, end};
use crate::world::{SOON, World, lines};

#[test]
fn with_the_daemon_stopped_a_build_succeeds_and_its_paths_arrive_later() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    world.let_hook_give_up_soon();
    // A wrapper that times each call of the hook itself.
    let hook = crate::world::hook_program();
    let text = format!(
        "#!/bin/bash\nt0=${{EPOCHREALTIME/./}}\n{} --config-file {}\ncode=$?\n\
         echo $(( ${{EPOCHREALTIME/./}} - t0 )) >> {}\nexit $code\n",
        hook.display(),
        world.hook_conf().display(),
        world.path("times").display()
    );
    let built = world.build_with_hook(
        r#"builtins.genList (i: run "p${toString i}" { } "echo ${toString i} > $out") 5"#,
        &world.path("timed-hook.sh"),
        &text,
    );
    assert_eq!(built.code, 0, "{built:?}");
    let times: Vec<u64> = lines(&world.path("times")).iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(times.len(), 5);
    assert!(times.iter().all(|us| *us <= 250_000), "hook calls in microseconds: {times:?}");
    world.start();
    world.until("main", "done", 5);
    // What is done stood in the table before its file was removed.
    wait::until(SOON, || world.status()["spool_files"] == 0);
}

/// Ten thousand hook calls of a path each with an uploader that hangs, kill -9, restart.
#[test]
fn ten_thousand_calls_with_a_hanging_uploader_and_nothing_is_lost() {
    const CALLS: usize = 10_000;
    let mut world = World::new(&World::command_cache("main", "exec sleep 600", ""));
    world.let_hook_give_up_soon();
    let paths = registered_paths(&world, "call", CALLS);
    world.start();
    let slowest = std::thread::scope(|scope| {
        let workers: Vec<_> = paths
            .chunks(CALLS / 8)
            .map(|mine| {
                let world = &world;
                scope.spawn(move || {
                    let mut slowest = Duration::ZERO;
                    for path in mine {
                        let said = world.hook(path, "");
                        assert_eq!((said.code, said.err.as_str()), (0, ""));
                        slowest = slowest.max(said.took);
                    }
                    slowest
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap()
    });
    assert!(slowest <= Duration::from_millis(250), "slowest call: {slowest:?}");
    world.kill();
    world.configure("", &World::command_cache("main", "", ""));
    let before = lines(&world.path("main.log")).len();
    let begun = Instant::now();
    world.start();
    wait::until(SOON, || lines(&world.path("main.log")).len() > before);
    let first = begun.elapsed();
    assert!(first <= Duration::from_secs(1), "first delivery after {first:?}");
    wait::until(Duration::from_secs(120), || world.count("main", "done") == CALLS as u64);
    wait::until(SOON, || world.status()["spool_files"] == 0);
}

/// What a time limit may add to itself: the daemon's second, and the start of a process.
const GRACE: Duration = Duration::from_millis(1_500);

/// The daemon may be stopped, swapped out or hung: `--timeout` is a promise of the command.
#[test]
fn a_time_limit_holds_against_a_daemon_that_does_not_answer() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    let path = world.valid_paths(1).remove(0);
    world.start();
    world.signal("STOP");
    for command in [&["wait", "--all"][..], &["drain"]] {
        let begun = Instant::now();
        let said = end(begin(&world, &[command, &["--timeout", "1s"]].concat()));
        let took = begun.elapsed();
        assert_eq!(
            (said.code, said.out.as_str()),
            (2, "the time is over, and no daemon answered\n"),
            "{said:?}"
        );
        assert!(took >= Duration::from_secs(1) && took <= Duration::from_secs(1) + GRACE, "{took:?}");
    }
    world.signal("CONT");
    // It finds both questions now, and that nobody listens any more: the drain is not begun.
    assert_eq!(world.status()["draining"], false);
    wait::until(SOON, || conversations(&world) == 0);
    assert_eq!(world.hook(&path, "").err, "");
    assert_eq!(world.status()["spool_files"], 0);
    world.until("main", "done", 1);
}

/// What lies in the spool counts as asked for, and may take long to come in.
#[test]
fn a_time_limit_holds_while_the_spool_is_taken_in() {
    let mut world = World::new(&World::command_cache("main", "", ""));
    world.let_hook_give_up_soon();
    let paths = world.valid_paths(20);
    world.start();
    let held = open_queue_db(&world);
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    for path in &paths {
        assert_eq!(world.hook(path, "").err, "");
    }
    let begun = Instant::now();
    let said = end(begin(&world, &["wait", "--all", "--timeout", "1s"]));
    let took = begun.elapsed();
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("spool"), "{said:?}");
    assert!(took <= Duration::from_secs(1) + GRACE, "{took:?}");
    held.execute_batch("ROLLBACK").unwrap();
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "60s"]).code, 0, "{}", world.log());
    assert_eq!(world.count("main", "done"), 20);
}

/// Looking at the queue costs those who enqueue nothing, however much there is to look at.
#[test]
fn status_holds_no_hook() {
    const ROOTS: usize = 20_000;
    const CALLS: usize = 4_000;
    let mut world = World::in_memory(&World::command_cache("main", "", ""));
    world.let_hook_give_up_soon();
    let roots = registered_paths(&world, "root", ROOTS);
    let paths = registered_paths(&world, "call", CALLS);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    assert_eq!(world.ask_with_input(&["push", "-"], roots.join("\n").as_bytes()).code, 0);
    assert_eq!(world.status()["gc_roots"], ROOTS);
    let world = &world;
    let (slowest, looks) = std::thread::scope(|scope| {
        let workers: Vec<_> = paths
            .chunks(CALLS / 8)
            .map(|mine| {
                let call = |path: &String| {
                    let said = world.hook(path, "");
                    assert_eq!((said.code, said.err.as_str()), (0, ""));
                    said.took
                };
                scope.spawn(move || mine.iter().map(call).max().unwrap())
            })
            .collect();
        let (every, mut looks) = (Duration::from_millis(50), 0);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let looker = scope.spawn(move || {
            while ended.recv_timeout(every) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                looks += 1;
                assert!(world.status()["gc_roots"].as_u64().unwrap() >= ROOTS as u64);
            }
            looks
        });
        let slowest = workers.into_iter().map(|worker| worker.join().unwrap()).max().unwrap();
        drop(end);
        (slowest, looker.join().unwrap())
    });
    println!("slowest call {slowest:?}, {looks} looks");
    assert!(looks > 0);
    assert!(slowest <= Duration::from_millis(250), "slowest call: {slowest:?}");
    assert_eq!(world.status()["spool_files"], 0);
    assert_eq!(world.count("main", "queued"), (ROOTS + CALLS) as u64);
}
