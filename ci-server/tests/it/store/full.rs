//! Disks that are full: the error says so and what to do, nothing is damaged, reading goes on, and with space again the
//! same commands go through.

use ci_server::store::{CHUNK_MAX, Class, SqlitePlace, SqliteStore, Store};
use service_kit::clock::{Clock, Time};
use test_kit::seed;
use test_kit::tmpfs::Tmpfs;
use test_kit::vfs::{Fault, Shim};

use super::crash::{assert_sound, commands_of_a_run, world};
use super::rows::{chain, drv_path};
use super::{START_MS, Sqlite};

const DISK_BYTES: u64 = 2 << 20;
const STRIDE: usize = 12;

#[test]
fn a_full_disk_is_said_and_takes_nothing_with_it() {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let (clock, _) = Clock::manual(Time::from_ms(START_MS));
    let place = SqlitePlace { path: disk.path().join("ci.db"), clock, vfs: None };
    let store = SqliteStore::open(&place).unwrap();
    let drvs = chain(5000);
    store.add_drvs(&drvs[..CHUNK_MAX]).unwrap();
    let ballast = disk.fill().unwrap();
    let mut chunks = drvs.chunks(CHUNK_MAX).skip(1);
    let (chunk, error) =
        chunks.find_map(|chunk| store.add_drvs(chunk).err().map(|error| (chunk, error))).unwrap();
    assert!(matches!(error.class(), Class::DiskFull | Class::Retry), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("cannot store 500 derivations in database") && text.contains("ci.db"), "{text}");
    assert!(text.contains("full") || text.contains("no space"), "{text}");
    let asked = [drv_path(1), chunk[0].path.clone()];
    assert_eq!(
        store.known_drvs(&asked).unwrap().len(),
        1,
        "reading goes on, and nothing of the chunk is there"
    );

    ballast.remove().unwrap();
    store.add_drvs(chunk).unwrap();
    assert_eq!(store.known_drvs(&asked).unwrap().len(), 2);
    drop(store);
    assert_sound(&place.path);
}

/// R16, at any write: with a disk that is full from the n-th on, commands fail and say so; with space again, the same
/// ones go through, and all is as if there had always been some.
#[test]
fn full_at_any_write() {
    let mut seeded = seed::start();
    let calm = Sqlite::new();
    let expected = {
        let store = calm.store();
        commands_of_a_run(&store).unwrap();
        world(&store)
    };
    let shim = Shim::install("store-full-at-any-write");
    let mut points = 0;
    for after in (seeded.rng.index(STRIDE)..).step_by(STRIDE) {
        let there = Sqlite::new();
        let place = SqlitePlace { vfs: Some(shim.name().into()), ..there.place() };
        let store = SqliteStore::open(&place).unwrap();
        shim.fail(Fault::Full, after as u64);
        let outcome = commands_of_a_run(&store);
        let hits = shim.heal();
        if let Err(error) = outcome {
            assert!(matches!(error.class(), Class::DiskFull | Class::Retry), "after {after}: {error:?}");
            assert!(hits > 0, "{error:?}");
            points += 1;
        }
        commands_of_a_run(&store).unwrap();
        assert_eq!(world(&store), expected, "after {after} writes");
        drop(store);
        assert_sound(&place.path);
        if hits == 0 {
            break;
        }
    }
    println!("{points} points");
    assert!(points >= 5, "{points}");
}
