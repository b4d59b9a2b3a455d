//! The promise of an answer, tried at every power cut: what the writer acknowledged is in every image of the
//! disk, whatever became of what was not flushed.

use std::collections::BTreeSet;
use std::path::Path;

use sqlite_kit::rusqlite::{self, Connection};
use sqlite_kit::{Durability, Lane, Options, Writer};
use test_kit::powercut::{Plan, Verdict, fast_dir, images, seeds_wanted, verify};
use test_kit::seed;
use test_kit::vfs::{Log, Recorder};

use crate::kit::{MIGRATIONS, insert_padded, numbers, options};

fn read(conn: &Connection) -> rusqlite::Result<BTreeSet<u64>> {
    Ok(numbers(conn)?.into_iter().map(i64::cast_unsigned).collect())
}

/// Several threads insert and note each answer, from the creation of the file over a stop and a second start
/// to the last stop.
fn run(name: &'static str, durability: Durability, rows: i64, bytes: u32) -> Log {
    let dir = fast_dir();
    let recorder = Recorder::install(name);
    let options = Options { durability, vfs: Some(name.into()), ..options(dir.path()) };
    for start in [0, rows] {
        let (writer, thread) = Writer::open(&options, MIGRATIONS).unwrap();
        std::thread::scope(|scope| {
            for first in 0..4 {
                let writer = writer.clone();
                let numbers = (start + first..start + rows).step_by(4);
                scope.spawn(move || insert_and_ack(&writer, recorder, numbers, bytes));
            }
        });
        thread.stop();
    }
    recorder.log()
}

fn insert_and_ack(writer: &Writer, recorder: Recorder, numbers: impl Iterator<Item = i64>, bytes: u32) {
    for n in numbers {
        writer.call_blocking(Lane::Urgent, move |tx| insert_padded(tx, n, bytes)).unwrap();
        recorder.ack(n.cast_unsigned());
    }
}

/// Images that are sound, and those that are not in words.
fn judge(log: &Log, plan: &Plan, folder: &Path) -> (usize, Vec<String>) {
    let (mut sound, mut others) = (0, Vec::new());
    for image in images(log, plan) {
        match verify(&image, folder, "db", read) {
            Verdict::Sound => sound += 1,
            verdict => others.push(format!("{image}: {verdict:?}")),
        }
    }
    println!("{sound} sound images, {} others, from {} operations", others.len(), log.ops.len());
    (sound, others)
}

#[test]
fn no_cut_loses_what_was_acknowledged() {
    let mut seeded = seed::start();
    let log = run("cut-full", Durability::Full, 60, 40);
    let plan = Plan::exhaustive(seeded.rng.next_u64(), seeds_wanted(4));
    let (sound, others) = judge(&log, &plan, fast_dir().path());
    assert_eq!(others, [] as [String; 0]);
    assert!(sound > 2000, "{sound}");
}

#[test]
fn no_cut_around_a_checkpoint_loses_what_was_acknowledged() {
    let mut seeded = seed::start();
    let log = run("cut-checkpoint", Durability::Full, 90, 30_000);
    let plan = Plan { every_cut: 23, ..Plan::exhaustive(seeded.rng.next_u64(), 1) };
    let (sound, others) = judge(&log, &plan, fast_dir().path());
    assert_eq!(others, [] as [String; 0]);
    assert!(sound > 200, "{sound}");
}

#[test]
fn less_than_full_is_caught() {
    let log = run("cut-normal", Durability::Normal, 20, 40);
    let (_, others) = judge(&log, &Plan::exhaustive(1, 1), fast_dir().path());
    assert!(others.iter().any(|other| other.contains("Lost")), "{others:?}");
    assert!(!others.iter().any(|other| other.contains("Damaged")), "{others:?}");
}
