//! A receipt only after the object (R6), at a place that breaks all the time: somebody sees every write there and holds
//! it against what is there already. `EKA_CHAOS_FACTOR=50` makes it a hundred thousand deliveries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use test_kit::http_cache::{Cache, Fault, Rule};

use super::stage::{Made, Place, assert_whole, block, delivered, fields, made, queue, s3_keys};
use crate::chaos::factor;
use crate::world::World;

/// In so many of a thousand requests.
const EACH: u64 = 10;

fn faults() -> Vec<Fault> {
    vec![
        Fault::Answer(500, Vec::new(), String::new()),
        Fault::Reset,
        Fault::CutAfter(200),
        Fault::LostAnswer,
        Fault::Latency(Duration::from_millis(50)),
    ]
}

/// What is wrong with a write, if anything: a narinfo needs its archive and those of its references.
fn wrong(has: impl Fn(&str) -> bool, path: &str, bytes: &[u8]) -> Vec<String> {
    if !path.ends_with(".narinfo") {
        return Vec::new();
    }
    let fields = fields(bytes);
    let own = path.strip_prefix("/cache/").unwrap();
    let mut needs = fields["URL"].clone();
    for reference in fields["References"][0].split(' ').filter(|reference| !reference.is_empty()) {
        needs.push(format!("{}.narinfo", &reference[..32]));
    }
    needs.retain(|key| key != own && !has(&format!("/cache/{key}")));
    needs.into_iter().map(|key| format!("{path} came before {key}")).collect()
}

#[test]
fn every_receipt_has_its_object_at_a_place_that_breaks_all_the_time() {
    let count = 2_000 * factor();
    let seeded = test_kit::seed::start();
    let server = Cache::start_seeded(seeded.rng.clone().next_u64());
    let early = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&early);
    server.witness(move |objects, path, bytes| {
        seen.lock().unwrap().extend(wrong(|key| objects.contains_key(key), path, bytes));
    });
    for fault in faults() {
        server.fault(Rule { method: None, of_thousand: EACH, ..Rule::always("", "/cache", fault) });
    }
    let keys = "attempts_max = 1000\nbackoff = { min = \"10ms\", max = \"100ms\" }\n\
                breaker = { failures = 5, probe = \"50ms\" }\ntimeout = \"10s\"";
    let cache = block("s3", &format!("s3://cache?endpoint={}&compression=zstd", server.url()), keys);
    let mut world = World::in_memory(&cache);
    s3_keys(&world);
    let set: Vec<Made> = (0..count)
        .map(|i| {
            let mut references = vec![i / 3, i / 2, i - (i % 10).min(1)];
            references.retain(|reference| *reference < i);
            references.dedup();
            Made::new(&format!("p{i}"), format!("path {i}"), &references)
        })
        .collect();
    let paths = made(&world, &set);
    world.start();
    let begun = std::time::Instant::now();
    queue(&world, &paths);
    delivered(&world, "3000s");
    println!("{count} deliveries in {:?}, {} requests", begun.elapsed(), server.log().len());
    assert_eq!(*early.lock().unwrap(), Vec::<String>::new());
    assert_eq!(world.count("s3", "done"), count as u64);
    let receipts = world.list(&["--state", "done", "--limit", "0"]);
    assert!(receipts.iter().all(|row| row["receipt"]["asked"] == "narinfo"), "{:?}", receipts.first());
    let mut there = assert_whole(&world, &Place::S3(server).objects());
    there.sort();
    assert_eq!(there, paths, "receipts and objects are the same");
}

/// The checker sees what it is for.
#[test]
fn a_narinfo_that_comes_too_early_is_seen() {
    let text = b"StorePath: /x\nURL: nar/x.nar\nReferences: 00000000000000000000000000000001-b\n";
    let path = "/cache/00000000000000000000000000000002.narinfo";
    assert_eq!(wrong(|_| true, path, text), Vec::<String>::new());
    assert_eq!(wrong(|key| key != "/cache/nar/x.nar", path, text).len(), 1);
    assert_eq!(wrong(|_| false, path, text).len(), 2);
}
