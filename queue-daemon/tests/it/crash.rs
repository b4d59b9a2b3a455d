//! kill -9 of the daemon, of its clients and of both, at random moments and at chosen ones: whatever was
//! acknowledged is delivered, nothing runs twice at once, and the database stays whole.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use eka_queue::config::Config;
use eka_queue::serve::{Setup, start};
use eka_queue::sockets::Inherited;
use hook_wire::Source;
use nix_store::StoreDirs;
use service_kit::clock::Clock;
use test_kit::proc::{Guard, this_test_binary};
use test_kit::seed::{self, Rng};
use test_kit::vfs::{Fault, Shim};
use test_kit::wait;

use crate::chaos::{Diary, assert_sound, factor, open_queue_db, pause, registered_paths};
use crate::frames::{self, Frame};
use crate::world::{SOON, World, lines};

/// Hook calls in flight at once.
const CLIENTS: usize = 4;
/// One kill of the daemon in so many calls, on average.
const CALLS_PER_KILL: usize = 40;
/// One call in so many is killed itself.
const CLIENT_KILLS_OF_HUNDRED: u64 = 5;

/// R1. The clients' own kills happen at any moment of a call; those of the daemon at any moment of its life, its
/// start included.
#[test]
fn nothing_acknowledged_is_lost_over_random_kills() {
    let mut seeded = seed::start();
    let mut world = World::new("");
    world.let_hook_give_up_soon();
    // Some runs take a moment, so that kills meet them.
    let body = format!("[ $((RANDOM % 4)) = 0 ] && {}", pause(&world, "0.02"));
    let (mut diary, cache) = Diary::of(&world, "main", &body, "");
    world.configure("", &cache);
    let calls = 1_000 * factor();
    let sizes: Vec<usize> = (0..calls).map(|_| 1 + seeded.rng.index(5)).collect();
    let mut paths = registered_paths(&world, "c", sizes.iter().sum()).into_iter();
    let requests: Vec<Vec<String>> =
        sizes.into_iter().map(|size| paths.by_ref().take(size).collect()).collect();

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
    // As long as there is more of it.
    let times = u32::try_from(factor()).unwrap();
    wait::until(Duration::from_secs(60) * (1 + times), || world.status()["spool_files"] == 0);
    let patience = format!("{}s", 200 + 100 * times);
    assert_eq!(world.ask(&["wait", "--all", "--timeout", &patience]).code, 0, "{}", world.log());
    wait::until(SOON, || world.status()["gc_roots"] == 0);
    let listed = world.list(&["--state", "done"]).len();
    assert_eq!(world.stop(), 0);
    diary.look();
    println!(
        "{} paths owed of {listed} taken in, {kills} kills of the daemon, {} runs",
        owed.len(),
        diary.ended
    );
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
    let (mut kills, mut over) = (0, false);
    while !over {
        let mut daemon = world.spawn(|_| {});
        for _ in 0..rng.below(4 * CALLS_PER_KILL as u64) {
            over |= steps.recv().is_err();
        }
        let ended = daemon.child().try_wait().unwrap();
        assert!(ended.is_none(), "the daemon ended by itself, {ended:?}: {:?}", world.log().lines().last());
        daemon.kill().unwrap();
        diary.daemon_died();
        kills += 1;
    }
    kills
}

/// A request that was read and not yet committed: the client hears nothing, and keeps it in the spool.
#[test]
fn killed_between_receiving_and_committing() {
    let (mut world, mut diary) = paused_world();
    let path = registered_paths(&world, "p", 1).remove(0);
    // Somebody holds the database, so nothing can be committed.
    let other = open_queue_db(&world);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // A client that does not give up before the daemon does.
    let mut patient = world.hook_command();
    patient.args(["--timeout-ms", "60000", &path]).stdin(Stdio::null()).stderr(Stdio::piped());
    let hook = patient.spawn().unwrap();
    // The root that keeps the path is made when the request is in hand.
    let name = Path::new(&path).file_name().unwrap();
    let folders = fs::read_dir(world.path("nix/var/gcroots/eka-queue")).unwrap();
    let folder = folders.map(|entry| entry.unwrap().path()).next().unwrap();
    wait::until(SOON, || folder.join(name).is_file());
    world.kill();
    let said = hook.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    drop(other);
    world.start();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    assert_delivered_once(&mut world, &mut diary, &path);
}

/// A request that was committed and whose answer got lost: the copy in the spool is known by its key.
#[test]
fn killed_between_committing_and_answering() {
    let (mut world, mut diary) = paused_world();
    let path = registered_paths(&world, "p", 1).remove(0);
    let frame = Frame::enqueue(Source::Hook).path(&path).bytes();
    let mut client = frames::connect(&world);
    client.write_all(&frame).unwrap();
    world.until("main", "queued", 1);
    world.kill();
    drop(client);
    fs::write(world.path("spool/0000000000000001-0000000001-00000007.req"), &frame).unwrap();
    world.start();
    wait::until(SOON, || world.status()["spool_files"] == 0);
    let shown = world.ask(&["show", "--json", &path]).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["requests"].as_array().unwrap().len(), 1, "one request, sent twice");
    assert_delivered_once(&mut world, &mut diary, &path);
}

/// A push under way: the child dies with the daemon, and the path is pushed again.
#[test]
fn killed_during_a_push() {
    let mut world = World::new("");
    let body = format!("while ! [ -e {} ]; do {}; done", world.path("go").display(), pause(&world, "0.01"));
    let (mut diary, cache) = Diary::of(&world, "main", &body, "");
    world.configure("", &cache);
    let path = registered_paths(&world, "p", 1).remove(0);
    world.start();
    assert_eq!(world.hook(&path, "").err, "");
    wait::until(SOON, || {
        diary.look();
        diary.under_way() == [path.clone()]
    });
    world.kill();
    // Fails unless the child ends, for nobody lets it go on.
    diary.daemon_died();
    fs::write(world.path("go"), "").unwrap();
    world.start();
    assert_delivered_once(&mut world, &mut diary, &path);
    let begun = lines(&world.path("main.diary")).iter().filter(|line| line.starts_with('+')).count();
    assert_eq!(begun, 2, "the run that was killed, and the one after it");
}

/// A daemon whose destination is paused, so that nothing but the intake is under way.
fn paused_world() -> (World, Diary) {
    let mut world = World::new("");
    let (diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    (world, diary)
}

/// Lets the destination go on: the path arrives, in one whole run, and the database is whole.
#[track_caller]
fn assert_delivered_once(world: &mut World, diary: &mut Diary, path: &str) {
    assert_eq!(world.ask(&["resume"]).code, 0);
    world.until("main", "done", 1);
    assert_eq!(world.list(&[]).len(), 1);
    assert_eq!(world.stop(), 0);
    diary.look();
    assert_eq!((diary.ended, diary.delivered.iter().next().unwrap().as_str()), (1, path));
    assert_sound(world);
}

/// The daemon dies before its n-th change of a file of the database, from the creation of the tables to the receipt
/// of the first delivery: whatever it had promised is kept by the next one.
#[test]
fn killed_at_each_write_of_the_database() {
    let mut seeded = seed::start();
    let mut world = World::new("");
    let (mut diary, cache) = Diary::of(&world, "main", "", "");
    world.configure("", &cache);
    let paths = registered_paths(&world, "w", 1_000);
    let step = if factor() == 1 { 8 } else { 1 };
    let mut survived = false;
    let mut points = 0;
    for point in (seeded.rng.index(step)..).step_by(step) {
        points += 1;
        let path = &paths[points];
        survived = one_death(&mut world, &mut diary, path, point);
        if survived {
            break;
        }
    }
    println!("died at {} points", points - 1);
    assert!(survived && points > 3);
}

/// Gives whether the daemon came to the end of the story before it came to the point.
fn one_death(world: &mut World, diary: &mut Diary, path: &str, point: usize) -> bool {
    for folder in ["state", "spool"] {
        let _ = fs::remove_dir_all(world.path(folder)); // not there the first time
    }
    let _ = fs::remove_file(world.path("enqueue.sock")); // likewise
    let mut daemon = dying_daemon(world, point);
    let mut dead = || daemon.child().try_wait().unwrap().is_some();
    wait::until(SOON, || world.path("enqueue.sock").exists() || dead());
    let said = world.hook(path, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let done = |world: &World| world.ask(&["list", "--state", "done", path]).out.contains(path);
    wait::until(SOON, || dead() || done(world));
    let survived = !dead();
    daemon.kill().unwrap();
    diary.daemon_died();
    world.start();
    wait::until(SOON, || done(world));
    assert_eq!(world.stop(), 0);
    diary.look();
    assert!(diary.delivered.contains(path));
    assert_sound(world);
    survived
}

/// A daemon that dies before its n-th change of a file of the database, counted from 0.
pub(crate) fn dying_daemon(world: &World, point: usize) -> Guard {
    let mut command = world.at_home(this_test_binary("crash::a_daemon_that_dies"));
    command.env(DIES_AT, point.to_string()).env(CONFIG, world.config_file());
    Guard::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap()
}

const DIES_AT: &str = "EKA_TEST_DIES_AT";
const CONFIG: &str = "EKA_TEST_CONFIG";

/// The child of `dying_daemon`: the daemon, over a disk that kills it.
#[test]
#[ignore = "the child of dying_daemon"]
fn a_daemon_that_dies() {
    let shim = Shim::install("dies");
    shim.fail(Fault::Die, std::env::var(DIES_AT).unwrap().parse().unwrap());
    let config = Config::load(Path::new(&std::env::var_os(CONFIG).unwrap())).unwrap();
    let setup = Setup {
        config,
        clock: Clock::system(),
        dirs: StoreDirs::from_env().unwrap(),
        store: None,
        engines: None,
        vfs: Some(shim.name().into()),
        inherited: Inherited::default(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { start(setup).await.unwrap().finish().await.unwrap() });
}
