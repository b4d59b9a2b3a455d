//! Whatever a place answers, the daemon goes on: it takes nothing for there that is not, and writes nothing twice.

use std::fs;

use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_whole, delivered, fields, made, narinfo_key, noise, queue, s3_keys,
};
use crate::world::{SOON, World};

/// Some bytes of a text turned, doubled or cut.
fn mutated(rng: &mut test_kit::seed::Rng, text: &[u8]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..=rng.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.index(bytes.len());
        match rng.below(4) {
            0 => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..at, rng.next_u64().to_le_bytes())),
            _ => bytes.extend_from_slice(&text[at.min(text.len() - 1)..]),
        }
    }
    bytes
}

/// Narinfo files of any bytes lie there already: what is none of its path is written anew, and nothing else.
#[test]
fn narinfo_files_of_any_bytes_are_replaced_or_believed() {
    const COUNT: usize = 150;
    let mut seeded = test_kit::seed::start();
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure(
        "",
        &places.iter().map(|place| place.block("compression=zstd", QUICK)).collect::<String>(),
    );
    let set: Vec<Made> = (0..COUNT).map(|i| Made::new(&format!("p{i}"), noise(i as u64, 500), &[])).collect();
    let paths = made(&world, &set);
    let old = |path: &str| {
        format!(
            "StorePath: {path}\nURL: nar/x.nar\nCompression: none\nFileHash: sha256:{0}\nFileSize: 7\nNarHash: sha256:{0}\n\
             NarSize: 7\nReferences: {1}-b\nDeriver: {1}-a.drv\nSig: k:AAAA\nCA: text:sha256:{0}\n",
            "0".repeat(52),
            "1".repeat(32)
        )
    };
    let before: Vec<Vec<u8>> =
        paths.iter().map(|path| mutated(&mut seeded.rng, old(path).as_bytes())).collect();
    for place in &places {
        for (path, bytes) in paths.iter().zip(&before) {
            let key = narinfo_key(path);
            match place {
                Place::Folder(root) => {
                    fs::create_dir_all(root).unwrap();
                    fs::write(root.join(key), bytes).unwrap();
                }
                Place::Http(cache) | Place::S3(cache) => cache.insert(&format!("/cache/{key}"), bytes),
            }
        }
    }
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    let mut anew = None;
    for place in &places {
        let mut objects = place.objects();
        // What is the path's own by its form is somebody's other build of it, and is left alone.
        let mut left = 0;
        for (path, bytes) in paths.iter().zip(&before) {
            let key = narinfo_key(path);
            if objects[&key] == *bytes {
                assert_eq!(fields(bytes)["StorePath"][0], *path, "{}", place.kind());
                objects.remove(&key);
                left += 1;
            }
        }
        let there = assert_whole(&world, &objects).len();
        assert_eq!(there + left, COUNT, "{}", place.kind());
        assert_eq!(*anew.get_or_insert(there), there, "every place is read the same way");
    }
    assert!(anew.unwrap() > 0);
    assert!(!world.log().contains(['\u{1b}', '\u{7}', '\0']));
}

/// Pages of a listing that go back, stand still or make no sense.
#[test]
fn listings_that_lead_nowhere_end() {
    let page = |keys: &[&str], more: bool| {
        let entries: String = keys
            .iter()
            .map(|key| format!("<Contents><Key>{key}.narinfo</Key><Size>1</Size><ETag>e</ETag></Contents>"))
            .collect();
        format!(
            "<ListBucketResult>{entries}<IsTruncated>{more}</IsTruncated>\
             <NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
        )
    };
    let middle = format!("{:032}", 60);
    let early = format!("{:032}", 0);
    let answers = [
        vec![page(&[&middle], true), page(&[&early], true), page(&[&middle], true)],
        vec![page(&[], true)],
        vec![page(&[&early], true)],
        vec!["<ListBucketResult>".to_owned()],
        vec!["no listing".to_owned(), page(&["\u{1b}[31m"], false)],
    ];
    for pages in answers {
        let mut world = World::new("");
        let place = Place::all(&world).into_iter().nth(2).unwrap();
        world.configure("", &place.block("compression=zstd&retry-attempts=1", QUICK));
        let server = place.server().unwrap();
        for page in pages {
            let fault = Fault::Answer(200, Vec::new(), page);
            server.fault(Rule::once("GET", "list-type", fault));
        }
        let set: Vec<Made> = (0..80).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
        let paths = made(&world, &set);
        world.start();
        queue(&world, &paths);
        delivered(&world, "60s");
        assert_eq!(assert_whole(&world, &place.objects()), paths);
    }
}

/// A file in the place of `nix-cache-info` that is none: nothing is sent, and the reason is told.
#[test]
fn a_cache_that_says_nonsense_of_itself_gets_nothing() {
    let many = "x".repeat(70_000);
    for (text, told) in
        [("StoreDir /nix/store\n", "nix-cache-info"), ("\u{1b}[31m\n", "nix-cache-info"), (&many, "bytes")]
    {
        let mut world = World::new("");
        let place = Place::all(&world).into_iter().nth(1).unwrap();
        world.configure("", &place.block("retry-attempts=1", QUICK));
        place.server().unwrap().insert("/cache/nix-cache-info", text.as_bytes());
        let paths = made(&world, &[Made::new("a", "a", &[])]);
        world.start();
        queue(&world, &paths);
        wait::until(SOON, || {
            let rows = world.list(&[]);
            rows.iter().any(|row| row["last_error"].as_str().is_some_and(|why| why.contains(told)))
        });
        assert_eq!(place.objects().len(), 1);
        place.server().unwrap().remove("/cache/nix-cache-info");
        world.ask(&["retry", "--state", "dead"]);
        delivered(&world, "60s");
        assert!(!world.log().contains('\u{1b}'));
    }
}

/// Small archives are written on condition; a server that has no conditions gets them all the same.
#[test]
fn a_server_that_refuses_conditions_gets_everything() {
    let mut world = World::new("");
    let places = Place::all(&world);
    for server in places.iter().filter_map(Place::server) {
        for method in ["PUT", "POST"] {
            server.fault(Rule::always(method, "", Fault::NoConditions(501, "")));
        }
    }
    let caches: String =
        places.iter().map(|place| place.block("compression=none&index-debug-info=true", QUICK)).collect();
    world.configure("", &caches);
    // In one chunk, and in several.
    let set = [Made::new("a", "a", &[]), Made::new("b", noise(1, 3 << 20), &[0])];
    let paths = made(&world, &set);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for place in &places {
        assert_eq!(assert_whole(&world, &place.objects()), paths, "{}", place.kind());
    }
}

/// Whoever may not list a bucket asks for each path, however many there are.
#[test]
fn a_bucket_that_may_not_be_listed_takes_a_large_closure() {
    const COUNT: usize = 80;
    let mut world = World::new("");
    s3_keys(&world);
    let place = Place::S3(Cache::start());
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let server = place.server().unwrap();
    server.fault(Rule::always("GET", "list-type", Fault::Answer(403, Vec::new(), denied.into())));
    world.configure("", &place.block("compression=none", QUICK));
    let set: Vec<Made> = (0..COUNT).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
    let paths = made(&world, &set);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &place.objects()).len(), COUNT);
    let lists = server.log().iter().filter(|seen| seen.target.contains("list-type")).count();
    assert_eq!(lists, 1, "it is remembered");
}
