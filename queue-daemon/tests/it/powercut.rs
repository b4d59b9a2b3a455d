//! A power cut at every moment of the daemon's life: whatever a client was told is queued is in the database of
//! every disk that the cut may leave, and the daemon that starts from it delivers it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use eka_queue::delivery::StateName;
use hook_wire::{Source, Status};
use service_kit::clock::Clock;
use sqlite_kit::rusqlite::{self, Connection};
use test_kit::powercut::{Image, Plan, Variant, Verdict, fast_dir, images, verify};
use test_kit::seed;
use test_kit::vfs::{Log, Recorder};
use test_kit::wait;

use crate::chaos::factor;
use crate::frames::Frame;
use crate::inside::{Inside, ask};
use crate::world::SOON;

/// Clients that enqueue at the same time.
const CLIENTS: usize = 4;
/// Images that `make test` tries: R2 asks for 5,000 here, and for a million in all (`make chaos`).
const IMAGES: usize = 5_000;
/// One image in so many is also given to a daemon.
const RESTART_EVERY: usize = 250;

/// R2.
#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let mut seeded = seed::start();
    let (mut inside, log) = record("queue-full", "", 80);
    let plan = plan(&log, IMAGES * factor(), seeded.rng.next_u64());
    let folder = fast_dir();
    let (mut tried, mut wrong) = (0, Vec::new());
    for image in images(&log, &plan) {
        tried += 1;
        match verify(&image, folder.path(), "queue.db", |conn| owed(conn, &inside)) {
            Verdict::Sound => {}
            verdict => wrong.push(format!("{image}: {verdict:?}")),
        }
        // Before the first acknowledgement the database is being made: a start over that is tried more often.
        let every = if image.acked().is_empty() { RESTART_EVERY / 10 } else { RESTART_EVERY };
        if tried % every == 0 {
            go_on_from(&mut inside, &image);
        }
    }
    println!("{tried} images of {} operations", log.ops.len());
    assert_eq!(wrong, [] as [String; 0]);
    assert!(tried >= IMAGES * factor(), "{tried}");
}

/// The check can fail: with less durability than the default, it does.
#[test]
fn a_queue_that_does_not_flush_is_caught() {
    let (inside, log) = record("queue-normal", "durability = \"normal\"", 20);
    let plan = Plan { every_cut: 3, variants: vec![Variant::DropUnsynced], seeds: 1, seed: 0 };
    let folder = fast_dir();
    let lost = images(&log, &plan)
        .map(|image| verify(&image, folder.path(), "queue.db", |conn| owed(conn, &inside)))
        .filter(|verdict| matches!(verdict, Verdict::Lost(_)))
        .count();
    assert!(lost > 0, "nothing was lost without flushes");
}

/// Records two lives of a daemon, with clients that enqueue one path at a time and note each acknowledgement while
/// the destination takes what it is brought.
fn record(vfs: &'static str, queue: &str, paths: usize) -> (Inside, Log) {
    let mut inside = Inside::new(Clock::system(), queue, &["main"]);
    let recorder = Recorder::install(vfs);
    for first in [0, paths] {
        inside.start(Some(vfs));
        let names = inside.valid_paths(first..first + paths);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = inside.connect();
                    while let Some((i, path)) =
                        names.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let number = first + i;
                        let frame = Frame::enqueue(Source::Hook).path(path);
                        assert_eq!(ask(&mut client, &frame), Status::Queued);
                        recorder.ack(number as u64);
                    }
                });
            }
        });
        wait::until(SOON, || inside.count("main", StateName::Done) == (first + paths) as u64);
        inside.stop();
    }
    (inside, recorder.log())
}

/// Variants that are made once for each seed; the others once.
const RANDOM: usize = 2;

/// Every variant, at as many cuts and with as many seeds as make so many images at least.
fn plan(log: &Log, images: usize, seed: u64) -> Plan {
    let all = Plan::exhaustive(seed, 1);
    let moments = log.ops.len() + 1;
    let every_cut = (moments * all.variants.len() / images).max(1);
    // Beyond every moment, more images are more ways to tear each. How many operations there are is up to how many
    // clients share a commit.
    let at_each = images.div_ceil(moments.div_ceil(every_cut));
    let once = all.variants.len() - RANDOM;
    let seeds = at_each.saturating_sub(once).div_ceil(RANDOM).max(1) as u64;
    Plan { every_cut, seeds, ..all }
}

/// The numbers of the paths that the database knows and has not forgotten; what counts as delivered must be there.
fn owed(conn: &Connection, inside: &Inside) -> rusqlite::Result<BTreeSet<u64>> {
    let mut statement = conn.prepare("SELECT path, state FROM delivery")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| {
        let (path, state) = row?;
        let known = StateName::from_code(state).unwrap();
        assert!(
            known.is_live() || (known == StateName::Done && inside.destination("main").has(&path)),
            "{path}: {known:?}"
        );
        Ok(number(&path))
    })
    .collect()
}

fn number(path: &str) -> u64 {
    path.rsplit('-').next().unwrap().parse().unwrap()
}

/// The machine comes up again: the daemon starts from what the disk has, and delivers what it owes.
fn go_on_from(inside: &mut Inside, image: &Image) {
    image.materialise(&inside.state_dir()).unwrap();
    inside.start(None);
    let states = || inside.status().destinations["main"].by_state.clone();
    wait::until(SOON, || states().live() == 0);
    let done = states().of(StateName::Done);
    assert!(
        done >= image.acked().len() as u64,
        "{image}: {done} done of {} acknowledged",
        image.acked().len()
    );
    inside.stop();
}
