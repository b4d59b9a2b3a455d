//! kill -9 of the daemon, of its clients and of both, at random moments and at chosen ones: whatever was
//! acknowledged is delivered, nothing runs twice at once, and the database stays whole.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use test_kit::proc::{Guard, this_test_binary};
use test_kit::seed::{self, Rng};
use test_kit::vfs::{Fault, Shim};
use test_kit::wait;

use crate::chaos::{Diary, assert_sound, factor, is_alive, open_queue_db, registered_paths};
use crate::world::{SOON, World, lines};

/// Hook calls in flight at once.
const CLIENTS: usize = 4;
/// One kill of the daemon in so many calls, on average.
const CALLS_PER_KILL: usize = 100;
/// One call in so many is killed itself.
const CLIENT_KILLS_OF_HUNDRED: u64 = 5;

/// R1. The clients' own kills happen at any moment of a call; those of the daemon at any moment of its life, its
/// start included.
#[test]
fn nothing_acknowledged_is_lost_over_random_kills() {
    let mut seeded = seed::start();
    let mut world = World::new("");
    // Some runs take a moment, so that kills meet them.
    let pause = "[ $((RANDOM % 4)) = 0 ] && read -t 0.02 _ <> $W/never";
    let pause = pause.replace("$W", world.path("").to_str().unwrap());
    let (mut diary, cache) = Diary::of(&world, "main", &pause, "");
    assert!(world.tool("mkfifo").arg(world.path("never")).status().unwrap().success());
    world.configure("", &cache);
    let calls = 3_000 * factor();
    let mut paths = registered_paths(&world, "c", 2 * calls).into_iter();
    let requests: Vec<Vec<String>> =
        (0..calls).map(|_| paths.by_ref().take(1 + seeded.rng.index(3)).collect()).take_while(|r: &Vec<_>| !r.is_empty()).collect();

    let (steps, heard) = channel();
    let (owed, kills) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|first| {
                let (world, steps, rng) = (&world, steps.clone(), Rng::new(seeded.rng.next_u64()));
                let mine = requests.iter().skip(first).step_by(CLIENTS);
                scope.spawn(move || call_all(world, mine, &steps, rng))
            })
            .collect();
        drop(steps);
        let kills = kill_and_restart(&world, &mut diary, &heard, &mut seeded.rng);
        (workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>(), kills)
    });

    world.start();
    wait::until(Duration::from_secs(120), || world.status()["spool_files"] == 0);
    assert_eq!(world.ask(&["wait", "--all", "--timeout", "300s"]).code, 0, "{}", world.log());
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    let listed = world.list(&["--state", "done"]).len();
    assert_eq!(world.stop(), 0);
    diary.look();
    println!("{} paths owed of {listed} taken in, {kills} kills of the daemon, {} runs", owed.len(), diary.ended);
    let lost: Vec<_> = owed.iter().filter(|path| !diary.delivered.contains(*path)).collect();
    assert_eq!(lost, [] as [&String; 0], "acknowledged and not delivered");
    assert_eq!(diary.at_once, [] as [String; 0], "two runs at once for one path");
    assert!(listed >= owed.len() && kills >= calls / CALLS_PER_KILL / 2, "{listed} listed, {kills} kills");
    assert_sound(&world);
}

/// Calls the hook for each request, killing some of the calls; gives the paths that are owed now.
fn call_all<'r>(
    world: &World,
    requests: impl Iterator<Item = &'r Vec<String>>,
    steps: &Sender<()>,
    mut rng: Rng,
) -> Vec<String> {
    let mut owed = Vec::new();
    for request in requests {
        let mut command = world.hook_command();
        command.env("OUT_PATHS", request.join(" ")).stdin(Stdio::null()).stderr(Stdio::piped());
        let _ = steps.send(()); // the killer may have died of a failure of its own
        if rng.chance(CLIENT_KILLS_OF_HUNDRED) {
            let mut call = Guard::spawn(&mut command).unwrap();
            (0..rng.below(400)).for_each(|_| std::thread::yield_now());
            call.kill().unwrap();
            continue;
        }
        let said = command.output().unwrap();
        let _ = steps.send(()); // as above
        let line = String::from_utf8_lossy(&said.stderr);
        // The spool is writable throughout, so every call that lives must end with its paths safe.
        assert!(said.status.success(), "{said:?}");
        assert!(line.is_empty() || line.contains("the request waits in"), "{line}");
        owed.extend(request.iter().cloned());
    }
    owed
}

/// Kills the daemon after a random number of the clients' steps and starts it again at once, until they end.
fn kill_and_restart(world: &World, diary: &mut Diary, steps: &Receiver<()>, rng: &mut Rng) -> usize {
    let mut kills = 0;
    loop {
        let mut daemon = world.spawn(|_| {});
        for _ in 0..rng.below(4 * CALLS_PER_KILL as u64) {
            if steps.recv().is_err() {
                return kills;
            }
        }
        daemon.kill().unwrap();
        diary.daemon_died();
        kills += 1;
    }
}

/// A request that was read and not yet committed: the client hears nothing and keeps it in the spool.
#[test]
fn killed_between_receiving_and_committing() {
    let (mut diary, mut world) = paused_world();
    let path = registered_paths(&world, "p", 1).remove(0);
    // Somebody holds the database, so nothing can be committed.
    let other = open_queue_db(&world);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hook = call_patiently(&world, &path);
    // The link that keeps the path is made when the request is in hand.
    let root = world.path("nix/var/gcroots/eka-queue").join(Path::new(&path).file_name().unwrap());
    wait::until(SOON, || root.is_symlink());
    world.kill();
    assert_accepted(hook);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    world.start();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_delivered_once(&mut world, &mut diary, &path);
}

/// A request that was committed and whose answer got lost: the client's second copy of it changes nothing.
#[test]
fn killed_between_committing_and_answering() {
    let (mut diary, mut world) = paused_world();
    let path = registered_paths(&world, "p", 1).remove(0);
    let hook = call_patiently(&world, &path);
    // Stopped, the client cannot take the answer.
    stop(&hook);
    wait::until(SOON, || world.count("main", "queued") == 1 || !received(&hook));
    world.kill();
    assert_accepted(hook);
    world.start();
    assert_delivered_once(&mut world, &mut diary, &path);
}
