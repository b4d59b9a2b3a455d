//! What pushing costs: requests, memory, archives packed, and whom a slow place delays.

use std::fs;
use std::time::{Duration, Instant};

use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_whole, block, delivered, made, made_with_sizes, metric, noise, queue, s3_keys,
    sparse,
};
use crate::chaos::factor;
use crate::world::{SOON, World};

/// P8: a small path whose absence a listing has told costs an archive, a narinfo, and the look whether it is there.
#[test]
fn a_small_path_costs_two_requests_and_the_read_back() {
    const COUNT: usize = 200;
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure(
        "",
        &places.iter().map(|place| place.block("compression=zstd", QUICK)).collect::<String>(),
    );
    let set: Vec<Made> =
        (0..COUNT).map(|i| Made::new(&format!("p{i}"), noise(i as u64, 2_000), &[])).collect();
    let paths = made(&world, &set);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for place in &places[1..] {
        let log = place.server().unwrap().log();
        let count = |method: &str, part: &str| {
            log.iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
        };
        let kind = place.kind();
        assert_eq!(count("PUT", "/nar/"), COUNT, "{kind}");
        assert_eq!(count("PUT", ".narinfo"), COUNT, "{kind}");
        assert_eq!(count("HEAD", ""), 0, "{kind}: archives are not asked for");
        // Plain HTTP has no listing: there each path is asked for once.
        let asked = if kind == "s3" { COUNT } else { 2 * COUNT };
        assert_eq!(count("GET", ".narinfo"), asked, "{kind}");
        let rest = log.len() - 2 * COUNT - asked;
        assert!(rest <= 3 + 8, "{kind}: {rest} requests for the cache itself and its listing");
    }
}

/// P8: batches whose closures overlap. What one batch has read back is not read again for another that waited for it.
#[test]
fn a_path_that_two_batches_want_is_read_back_once() {
    const COUNT: usize = 500;
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    world.configure("", &place.block("compression=zstd", &format!("{QUICK}\nconcurrency = 4")));
    let set: Vec<Made> = (0..COUNT)
        .map(|i| Made::new(&format!("p{i}"), noise(i as u64, 2_000), &[i / 2][..usize::from(i > 0)]))
        .collect();
    let paths = made(&world, &set);
    let server = place.server().unwrap();
    // Slow enough that the batches meet.
    let slow = Fault::Latency(Duration::from_millis(5));
    server.fault(Rule { times: u32::MAX, ..Rule::always("PUT", "/nar/", slow) });
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    queue(&world, &paths);
    assert_eq!(world.ask(&["resume"]).code, 0);
    delivered(&world, "60s");
    let log = server.log();
    let count = |method: &str, part: &str| {
        log.iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    };
    let told = world.log();
    let amiss: Vec<&str> = told.lines().filter(|line| !line.contains(" INFO ")).collect();
    assert_eq!(count("PUT", "/nar/"), COUNT);
    assert_eq!(count("PUT", ".narinfo"), COUNT);
    assert_eq!(count("GET", ".narinfo"), COUNT, "each is read back once");
    assert_eq!(count("HEAD", ""), 0, "as after a try that failed: {amiss:?}");
    assert_eq!(assert_whole(&world, &place.objects()).len(), COUNT);
}

/// A path that is to be delivered while another batch sends it as a need: that batch's word is a receipt, archive and all.
#[test]
fn what_another_batch_sends_is_not_looked_for() {
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    world.configure("", &place.block("compression=zstd", &format!("{QUICK}\nconcurrency = 2")));
    let set = [Made::new("need", noise(1, 2_000), &[]), Made::new("top", noise(2, 2_000), &[0])];
    let paths = made(&world, &set);
    let server = place.server().unwrap();
    // The second batch comes while the first one sends.
    server.fault(Rule::always("PUT", "/nar/", Fault::Latency(2 * SOON)));
    world.start();
    queue(&world, &paths[1..]);
    let count = |method: &str, part: &str| {
        server.log().iter().filter(|seen| seen.method == method && seen.target.contains(part)).count()
    };
    wait::until(SOON, || count("PUT", "/nar/") == 2);
    queue(&world, &paths[..1]);
    wait::until(SOON, || count("GET", ".narinfo") == 3);
    server.let_go();
    delivered(&world, "60s");
    assert_eq!((count("PUT", "/nar/"), count("PUT", ".narinfo")), (2, 2));
    assert_eq!(
        count("GET", ".narinfo"),
        3 + 2,
        "each batch asks for what it may have to send; each is read back once"
    );
    assert_eq!(count("HEAD", ""), 0, "{}", world.log());
}

/// The most memory the daemon has had, in bytes.
fn peak_memory(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// P8: memory does not follow the size of a path. 1 GiB; as chaos 5 GiB and a bit, which one request cannot carry.
#[test]
fn a_huge_path_goes_through_in_little_memory() {
    const MEMORY_MAX: u64 = 128 << 20;
    let bytes = if factor() > 1 { (5 << 30) + 12_345 } else { 1 << 30 };
    let mut world = World::new("");
    let places = Place::all(&world);
    let caches: String = places.iter().map(|place| place.block("compression=zstd", QUICK)).collect();
    world.configure("", &caches);
    let path = sparse(&world, bytes);
    let begun = Instant::now();
    world.start();
    queue(&world, std::slice::from_ref(&path));
    delivered(&world, "900s");
    let peak = peak_memory(&world);
    println!("{bytes} bytes to three places in {:?}, at most {} MiB", begun.elapsed(), peak >> 20);
    assert!(peak <= MEMORY_MAX, "{} MiB", peak >> 20);
    assert_eq!(metric(&world, "eka_queue_packs_total{codec=\"zstd\"}"), 1, "one pack for three places");
    for place in &places {
        let objects = place.objects();
        let narinfo = objects.iter().find(|(key, _)| key.ends_with(".narinfo")).unwrap().1;
        assert!(
            String::from_utf8_lossy(narinfo).contains(&format!("NarSize: {}", bytes + 112)),
            "{}",
            place.kind()
        );
    }
}

/// Incompressible bytes, as the sparse path's are not: several large paths in parts to S3, and one to three places.
#[test]
fn large_paths_in_many_parts_stay_in_the_budget() {
    const MEMORY_MAX: u64 = 128 << 20;
    for (kinds, count, bytes) in [(2..3, 4, 40 << 20), (0..3, 1, 120 << 20)] {
        let mut world = World::new("");
        let places: Vec<Place> = Place::all(&world).into_iter().skip(kinds.start).take(kinds.len()).collect();
        world.configure(
            "",
            &places.iter().map(|place| place.block("compression=zstd", QUICK)).collect::<String>(),
        );
        let set: Vec<Made> = (0..count).map(|i| Made::new(&format!("p{i}"), noise(i, bytes), &[])).collect();
        let paths = made(&world, &set);
        world.start();
        queue(&world, &paths);
        delivered(&world, "300s");
        let peak = peak_memory(&world);
        println!("{count} of {bytes} bytes to {} places: at most {} MiB", places.len(), peak >> 20);
        assert!(peak <= MEMORY_MAX, "{count} to {}: {} MiB", places.len(), peak >> 20);
        for place in &places {
            assert_eq!(assert_whole(&world, &place.objects()), paths, "{}", place.kind());
        }
    }
}

/// Logs are as large as builds make them, and one at a time is in memory.
#[test]
fn long_logs_go_along_in_little_memory() {
    const LOG_BYTES: usize = 12 << 20;
    const PATHS: usize = 24;
    let mut world = World::new("");
    let place = Place::Http(Cache::start());
    world.configure("", &place.block("", &format!("{QUICK}\nupload_logs = true")));
    let set: Vec<Made> = (0..PATHS).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
    let paths = made(&world, &set);
    world.start();
    world.ask(&["pause", "http"]);
    for (i, path) in paths.iter().enumerate() {
        let name = format!("{i:032}-p.drv");
        let folder = world.path(&format!("nix/log/drvs/{}", &name[..2]));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&name[2..]), "said\n".repeat(LOG_BYTES / 5)).unwrap();
        let said = world.hook(path, world.path("nix/store").join(name).to_str().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
    }
    world.ask(&["resume", "http"]);
    delivered(&world, "120s");
    let logs = place.objects().into_iter().filter(|(key, _)| key.starts_with("log/"));
    assert_eq!(logs.filter(|(_, bytes)| bytes.len() == LOG_BYTES / 5 * 5).count(), PATHS);
    let peak = peak_memory(&world);
    println!("{PATHS} logs of {LOG_BYTES} bytes: at most {} MiB", peak >> 20);
    assert!(peak <= 96 << 20, "{} MiB", peak >> 20);
}

/// Parts, and with them memory, follow from what the archive has, also where Nix did not note how much that is.
#[test]
fn a_path_of_unknown_size_goes_in_parts_of_the_usual_size() {
    const PART: usize = 8 << 20;
    for codec in ["none", "zstd"] {
        let mut world = World::new("");
        s3_keys(&world);
        let place = Place::S3(Cache::start());
        world.configure("", &place.block(&format!("compression={codec}"), QUICK));
        let set = [Made::new("large", noise(1, 20 << 20), &[]), Made::new("small", "a", &[])];
        let paths = made_with_sizes(&world, &set, false);
        world.start();
        queue(&world, &paths);
        delivered(&world, "60s");
        assert_eq!(assert_whole(&world, &place.objects()), paths, "{codec}");
        let log = place.server().unwrap().log();
        let parts: Vec<usize> = log
            .iter()
            .filter(|seen| seen.target.contains("partNumber"))
            .map(|seen| seen.body_bytes)
            .collect();
        assert_eq!(parts.len(), 3, "{codec}: {parts:?}");
        assert!(parts.iter().all(|bytes| *bytes <= PART + (1 << 20)), "{codec}: {parts:?}");
    }
}

/// Three places that want the same bytes: each path is packed once, small or large.
#[test]
fn a_path_is_packed_once_for_all_places_of_its_codec() {
    let mut world = World::new("");
    let places = Place::all(&world);
    // Slow enough that the beginning of the large one is still there when the last place comes for it.
    let keys = format!("{QUICK}\nbandwidth_limit = 4000000");
    let mut caches: String = places.iter().map(|place| place.block("compression=zstd", &keys)).collect();
    caches.push_str(&block("plain", "file://$W/plain?compression=none", QUICK));
    world.configure("", &caches);
    let set = [
        Made::new("a", "a", &[]),
        Made::new("b", noise(1, 2 << 20), &[]),
        Made::new("c", noise(2, 30 << 20), &[]),
    ];
    let paths = made(&world, &set);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(metric(&world, "eka_queue_packs_total{codec=\"zstd\"}"), 3);
    assert_eq!(metric(&world, "eka_queue_packs_total{codec=\"none\"}"), 3);
    assert_eq!(metric(&world, "eka_queue_packs_total{codec=\"xz\"}"), 0);
}

/// Promises about time.
mod alone {
    use super::*;

    /// One of three places that share a pack takes its bytes slowly: it falls out, and the others do not wait for it.
    #[test]
    fn a_slow_place_falls_out_and_delays_nobody() {
        let mut world = World::new("");
        let places = Place::all(&world);
        let slow = Cache::start();
        let mut caches: String = places.iter().map(|place| place.block("compression=zstd", QUICK)).collect();
        caches.push_str(&block(
            "slow",
            &format!("{}/cache?compression=zstd", slow.url()),
            &format!("{QUICK}\nbandwidth_limit = 2000000"),
        ));
        world.configure("", &caches);
        let paths = made(&world, &[Made::new("large", noise(1, 40 << 20), &[])]);
        world.start();
        let begun = Instant::now();
        queue(&world, &paths);
        for place in &places {
            world.until(place.kind(), "done", 1);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(15), "{took:?}: at the slow place's pace it takes 20 s and more");
        delivered(&world, "60s");
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(15), "{took:?}: 40 MiB at 2 MB/s");
        let packs = metric(&world, "eka_queue_packs_total{codec=\"zstd\"}");
        assert_eq!(packs, 2, "one for the three, one for the slow one");
        assert_eq!(assert_whole(&world, &Place::Http(slow).objects()), paths);
    }

    /// Limits of each place and of all together.
    #[test]
    fn limits_of_bandwidth_hold() {
        let mut world = World::new("");
        s3_keys(&world);
        let (one, two) = (Cache::start(), Cache::start());
        let to = |id: &str, at: &Cache, keys: &str| {
            block(id, &format!("{}/cache?compression=none", at.url()), keys)
        };
        // 12 MB at 4 MB/s, and 24 MB in all at 6 MB/s.
        let caches = to("one", &one, "bandwidth_limit = 4000000") + &to("two", &two, "");
        world.configure("bandwidth_limit = 6000000", &caches);
        let set: Vec<Made> = (0..12).map(|i| Made::new(&format!("p{i}"), noise(i, 1_000_000), &[])).collect();
        let paths = made(&world, &set);
        world.start();
        let begun = Instant::now();
        queue(&world, &paths);
        world.until("one", "done", 12);
        let first = begun.elapsed();
        delivered(&world, "60s");
        let all = begun.elapsed();
        println!("one after {first:?}, all after {all:?}");
        assert!(first >= Duration::from_millis(2_400), "{first:?}");
        assert!(all >= Duration::from_millis(3_500) && all < Duration::from_secs(12), "{all:?}");
    }
}

/// Two batches whose closures share more than a batch has in hand, the small ones that all need last.
#[test]
fn batches_that_share_a_large_closure_do_not_wait_for_each_other() {
    const SHARED: usize = 1_600;
    const TOPS: usize = 300;
    let server = Cache::start();
    server.fault(Rule {
        times: u32::MAX,
        ..Rule::always("PUT", "/nar/", Fault::Latency(Duration::from_millis(1)))
    });
    let mut world = World::in_memory(&block("main", &format!("{}/cache", server.url()), "concurrency = 8"));
    let mut set = vec![Made::new("needed", "", &[])];
    set.extend((0..SHARED).map(|i| Made::new(&format!("s{i}"), noise(i as u64, 600), &[0])));
    let all: Vec<usize> = (1..=SHARED).collect();
    set.push(Made::new("all", "all", &all));
    set.extend((0..TOPS).map(|i| Made::new(&format!("t{i}"), noise(i as u64, 900), &[SHARED + 1])));
    let paths = made(&world, &set);
    world.start();
    assert_eq!(world.ask(&["pause"]).code, 0);
    queue(&world, &paths[SHARED + 2..]);
    assert_eq!(world.ask(&["resume"]).code, 0);
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &Place::Http(server).objects()).len(), paths.len());
}
