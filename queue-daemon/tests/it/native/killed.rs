//! Uploads that end at any byte, and several daemons at one place: what can be read is whole at every moment.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_whole, block, both_deliver, delivered, made, noise, queue, s3_keys,
};
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

/// An archive that is sent in parts, by its key.
fn archive(letter: &str) -> String {
    format!("nar/{}.nar.zst", letter.repeat(52))
}

/// Uploads in parts of daemons that were killed long ago are aborted at start, before there is anything to push; those of
/// a daemon that may still live, and of other programs, are not touched.
#[test]
fn uploads_in_parts_that_were_left_are_aborted() {
    const LONG_AGO: &str = "2024-02-29T12:00:00.000Z";
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    let server = place.server().unwrap();
    let begin = |key: &str, at: &str| server.begin_upload(&format!("/cache/{key}"), at);
    let old = [begin(&archive("a"), LONG_AGO), begin(&archive("b"), LONG_AGO)];
    let foreign = [begin("nar/backup.nar.zst", LONG_AGO), begin("images/x.img", LONG_AGO)];
    world.configure("", &place.block("", QUICK));
    // One that another daemon has begun just now.
    let now = test_kit::http_cache::now();
    let young = begin(&archive("c"), &now);
    world.start();
    wait::until(SOON, || old.iter().all(|id| !server.has_upload(id)));
    wait::until(SOON, || world.log().contains("aborted 2 uploads that were left over"));
    assert!(server.has_upload(&young) && foreign.iter().all(|id| server.has_upload(id)));
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("large", noise(1, 20 << 20), &[])]);
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &place.objects()), paths);
}

/// What a kill leaves is what the next daemon sees: an upload of ours in parts, too young to be touched.
#[test]
fn an_upload_in_parts_of_a_killed_daemon_is_one_that_is_swept_later() {
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    let server = place.server().unwrap();
    world.configure("bandwidth_limit = 4000000", &place.block("compression=zstd", QUICK));
    let paths = made(&world, &[Made::new("large", noise(1, 40 << 20), &[])]);
    world.start();
    queue(&world, &paths);
    wait::until(SOON, || server.open_uploads() == 1);
    world.kill();
    world.configure("", &place.block("compression=zstd", QUICK));
    world.start();
    delivered(&world, "60s");
    assert_eq!(server.open_uploads(), 1, "it is young: another daemon might be at it");
    let begun = server.log().into_iter().find(|seen| seen.method == "POST").unwrap();
    let key = begun.target.strip_prefix("/cache/").unwrap().split('?').next().unwrap();
    let (hash, codec) = key.strip_prefix("nar/").unwrap().split_once('.').unwrap();
    assert_eq!((hash.len(), codec), (archive("a").len() - "nar/.nar.zst".len(), "nar.zst"));
}

/// A bucket that cannot list uploads, or does not let us: said once, and everything is delivered.
#[test]
fn a_bucket_that_lists_no_uploads_is_pushed_to_all_the_same() {
    for status in [403, 405, 501] {
        let mut world = World::new("");
        let place = Place::all(&world).into_iter().nth(2).unwrap();
        let server = place.server().unwrap();
        server.fault(Rule::always("GET", "uploads", Fault::Answer(status, Vec::new(), String::new())));
        world.configure("", &place.block("", QUICK));
        let paths = made(&world, &[Made::new("a", "a", &[])]);
        world.start();
        queue(&world, &paths);
        delivered(&world, "60s");
        wait::until(SOON, || world.log().contains("left-over uploads stay where they are"));
        let asked = server.log().iter().filter(|seen| seen.target.contains("uploads")).count();
        assert_eq!(asked, 1, "{status}");
        assert_eq!(assert_whole(&world, &place.objects()), paths, "{status}");
    }
}

/// One that does not answer the listing at all holds up nothing.
#[test]
fn a_listing_of_uploads_that_hangs_holds_up_nothing() {
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    place.server().unwrap().fault(Rule::always("GET", "uploads", Fault::Stall));
    world.configure("", &place.block("", QUICK));
    let paths = made(&world, &[Made::new("a", "a", &[])]);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    let server = place.server().unwrap();
    wait::until(SOON, || server.log().iter().any(|seen| seen.target.contains("uploads")));
    assert_eq!(world.stop(), 0, "nor the end");
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
    both_deliver([&world, &second], &paths);
    for place in &places {
        assert_eq!(assert_whole(&world, &place.objects()).len(), paths.len(), "{}", place.kind());
    }
}
