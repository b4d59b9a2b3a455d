//! Uploads that end at any byte, and several daemons at one place: what can be read is whole at every moment.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use test_kit::http_cache::Cache;
use test_kit::wait;

use super::stage::{Made, Place, QUICK, assert_whole, block, delivered, made, noise, queue, s3_keys};
use crate::chaos::factor;
use crate::world::{SOON, World};

/// kill -9 at random moments of large uploads that are held back, to every kind of place at once.
#[test]
fn kill_at_any_byte_shows_nothing_by_halves() {
    let kills = 6 * factor();
    let mut seeded = test_kit::seed::start();
    let mut world = World::new("");
    let places = Place::all(&world);
    let caches: String = places.iter().map(|place| place.block("compression=zstd", QUICK)).collect();
    // Slow enough to be met in the middle.
    world.configure("bandwidth_limit = 30000000", &caches);
    let set: Vec<Made> = (0..8)
        .map(|i| {
            let references: Vec<usize> = (i > 0).then(|| i - 1).into_iter().collect();
            Made::new(
                &format!("p{i}"),
                noise(i as u64, if i % 2 == 0 { 14 << 20 } else { 1 << 20 }),
                &references,
            )
        })
        .collect();
    let paths = made(&world, &set);
    let mut seen: Vec<(String, BTreeMap<String, Vec<u8>>)> = Vec::new();
    let mut queued = false;
    for _ in 0..kills {
        world.start();
        if !queued {
            queue(&world, &paths);
            queued = true;
        }
        let span = Duration::from_millis(seeded.rng.below(1_200));
        let begun = std::time::Instant::now();
        wait::until(SOON, || begun.elapsed() >= span);
        world.kill();
        for place in &places {
            let objects = place.objects();
            // A folder may have archives whose narinfo is still to come; what has a narinfo is whole.
            assert_whole(&world, &objects);
            seen.push((place.kind().to_owned(), objects));
        }
    }
    world.configure("", &caches);
    world.start();
    delivered(&world, "120s");
    for place in &places {
        let last = place.objects();
        assert_eq!(assert_whole(&world, &last), paths, "{}", place.kind());
        for (kind, objects) in seen.iter().filter(|(kind, _)| kind == place.kind()) {
            for (key, bytes) in objects {
                assert!(last[key] == *bytes, "{kind}: {key} was there with other contents");
            }
        }
    }
}

/// Files of daemons that were killed long ago are removed; those of others are not touched.
#[test]
fn what_was_left_half_written_is_swept() {
    let mut world = World::new("");
    let place = Place::Folder(world.path("cache"));
    world.configure("", &place.block("", QUICK));
    fs::create_dir_all(world.path("cache/nar")).unwrap();
    let (old, new) =
        (world.path("cache/nar/.x.nar.zst.4000000.0.tmp"), world.path("cache/.y.narinfo.4000000.1.tmp"));
    let foreign = world.path("cache/nar/.somebody-elses");
    for file in [&old, &new, &foreign] {
        fs::write(file, "half").unwrap();
    }
    for file in [&old, &foreign] {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }
    let paths = made(&world, &[Made::new("a", "a", &[])]);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    assert!(!old.exists() && new.exists() && foreign.exists());
}

/// Two daemons on two machines that push the same paths to one cache at once.
#[test]
fn two_daemons_at_one_cache_both_deliver_and_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (http, s3) = (Cache::start(), Cache::start());
    let places = [Place::Folder(folder.path().join("cache")), Place::Http(http), Place::S3(s3)];
    let caches: String =
        places.iter().map(|place| block(place.kind(), &place.url("compression=zstd"), QUICK)).collect();
    let mut world = World::new("");
    s3_keys(&world);
    let set: Vec<Made> = (0..300)
        .map(|i| {
            let size = if i % 100 == 7 { 40 << 20 } else { 2_000 };
            Made::new(
                &format!("p{i}"),
                if size > 1 << 20 { vec![7; size] } else { noise(i as u64, size) },
                &[i / 2][..usize::from(i > 0)],
            )
        })
        .collect();
    let paths = made(&world, &set);
    world.configure("", &caches);
    world.start();
    let mut second = World::beside(&world);
    s3_keys(&second);
    second.configure("cpu_limit = 1", &caches);
    second.start();
    std::thread::scope(|scope| {
        scope.spawn(|| queue(&world, &paths));
        scope.spawn(|| queue(&second, &paths));
    });
    for world in [&world, &second] {
        delivered(world, "120s");
    }
    for place in &places {
        assert_eq!(assert_whole(&world, &place.objects()).len(), paths.len(), "{}", place.kind());
    }
}
