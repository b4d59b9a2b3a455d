//! Promises about time. `scripts/test` runs these after all others, one by one: on a machine that is busy with other
//! tests a process may not even be scheduled within its deadline.

use std::time::{Duration, Instant};

use test_kit::wait;

use crate::world::{SOON, World, lines};

#[test]
fn with_the_daemon_stopped_a_build_succeeds_and_its_paths_arrive_later() {
    let mut world = World::new(&World::command_cache("main", "", ""));
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
    assert_eq!(world.status()["spool_files"], 0);
}

/// Ten thousand hook calls with an uploader that hangs, kill -9, restart.
#[test]
fn ten_thousand_calls_with_a_hanging_uploader_and_nothing_is_lost() {
    let mut world = World::new(&World::command_cache("main", "exec sleep 600", ""));
    let paths = world.valid_paths(1_000);
    world.start();
    // Ten paths a call keep the making of the store cheap; each call is one process, one request.
    let slowest = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (world, paths) = (&world, &paths);
                scope.spawn(move || {
                    let mut slowest = Duration::ZERO;
                    for call in 0..1_250 {
                        let path = &paths[(worker * 125 + call) % paths.len()];
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
    wait::until(Duration::from_secs(120), || world.count("main", "done") == 1_000);
    assert_eq!(world.status()["spool_files"], 0);
}
