//! Where a path has been: what is at one place says nothing of another, whatever the two have in common.

use std::collections::BTreeMap;
use std::fs;

use test_kit::http_cache::Cache;

use super::stage::{
    Made, Place, QUICK, assert_whole, block, delivered, fetch, key, made, narinfo_key, queue, queue_with,
    s3_keys, second_store,
};
use crate::world::World;

/// A path, what it needs, and what that needs.
fn three() -> [Made; 3] {
    [Made::new("c", "c", &[]), Made::new("b", "b", &[0]), Made::new("a", "a", &[1, 0])]
}

fn to_bucket(id: &str, server: &Cache, bucket: &str) -> String {
    block(id, &format!("s3://{bucket}?endpoint={}&region=eu-central-1", server.url()), QUICK)
}

#[test]
fn a_destination_that_moves_gets_everything_at_its_new_place() {
    let (one, two) = (Cache::start(), Cache::start());
    let mut world = World::new(&to_bucket("main", &one, "cache"));
    s3_keys(&world);
    let paths = made(&world, &three());
    world.start();
    queue(&world, &paths[2..]);
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &Place::S3(one).objects()).len(), 3);
    assert_eq!(world.stop(), 0);
    for (place, bucket) in [(two.url(), "cache"), (two.url(), "other")] {
        world.configure("", &block("main", &format!("s3://{bucket}?endpoint={place}"), QUICK));
        world.start();
        queue(&world, &paths[2..]);
        delivered(&world, "60s");
        assert_eq!(world.stop(), 0);
        let there = two.objects();
        for path in &paths {
            assert!(
                there.contains_key(&format!("/{bucket}/{}", narinfo_key(path))),
                "{path}: {:?}",
                there.keys()
            );
        }
    }
}

/// What a tool that remembers presence without the endpoint leaves out, or leaves broken.
#[test]
fn buckets_of_one_name_at_three_endpoints_each_get_a_whole_closure() {
    let servers = [Cache::start(), Cache::start(), Cache::start()];
    let caches: String =
        servers.iter().zip(["one", "two", "three"]).map(|(at, id)| to_bucket(id, at, "cache")).collect();
    let mut world = World::new(&caches);
    s3_keys(&world);
    let paths = made(&world, &three());
    world.start();
    // The first has what the others will need, before they are asked for anything.
    queue_with(&world, &["--to", "one"], &paths[..2]);
    delivered(&world, "60s");
    queue(&world, &paths[2..]);
    delivered(&world, "60s");
    for server in servers {
        assert_eq!(assert_whole(&world, &Place::S3(server).objects()), paths);
    }
}

/// Somebody empties the cache, or puts another one in its place, while the daemon runs.
#[test]
fn a_cache_that_was_swapped_gets_what_is_needed_again() {
    for kind in 0..3 {
        let mut world = World::new("");
        let place = Place::all(&world).into_iter().nth(kind).unwrap();
        world.configure("", &place.block("", QUICK));
        let paths = made(&world, &three());
        world.start();
        queue(&world, &paths[1..2]);
        delivered(&world, "60s");
        match &place {
            Place::Folder(root) => fs::remove_dir_all(root).unwrap(),
            Place::Http(cache) | Place::S3(cache) => {
                cache.objects().keys().for_each(|path| cache.remove(path));
            }
        }
        // The daemon looks at the cache itself again soon, and at once when it starts.
        assert_eq!(world.stop(), 0);
        world.start();
        queue(&world, &paths[2..]);
        delivered(&world, "60s");
        assert_eq!(assert_whole(&world, &place.objects()), paths, "{}", place.kind());
        assert!(world.log().contains("is another one than before"), "{}", world.log());
    }
}

#[test]
fn a_cache_of_another_store_gets_nothing_and_the_reason_is_shown() {
    let mut world = World::new("");
    let places = Place::all(&world);
    for place in &places {
        let text = "StoreDir: /somewhere/else\nPriority: 40\n";
        match place {
            Place::Folder(root) => {
                fs::create_dir(root).unwrap();
                fs::write(root.join("nix-cache-info"), text).unwrap();
            }
            Place::Http(cache) | Place::S3(cache) => cache.insert("/cache/nix-cache-info", text.as_bytes()),
        }
    }
    world.configure("", &places.iter().map(|place| place.block("", QUICK)).collect::<String>());
    let paths = made(&world, &three());
    world.start();
    queue(&world, &paths);
    for place in &places {
        let id = place.kind();
        test_kit::wait::until(crate::world::SOON, || {
            let rows = world.list(&["--destination", id]);
            rows.len() == 3
                && rows.iter().all(|row| {
                    let said = row["last_error"].as_str().unwrap_or_default();
                    said.contains("/somewhere/else") && row["state"] != "done"
                })
        });
        assert_eq!(place.objects().keys().collect::<Vec<_>>(), ["nix-cache-info"], "{id}");
        assert_eq!(world.count(id, "dead"), 0, "{id}: no path is to blame");
    }
    let shown = world.ask(&["show", &paths[0]]).out;
    assert!(shown.contains("/somewhere/else"), "{shown}");
}

/// Folders of one bucket are caches of their own, and leave the rest of it alone.
#[test]
fn folders_of_a_bucket_are_places_of_their_own() {
    let server = Cache::start();
    let to = |id: &str| block(id, &format!("s3://cache/nix/{id}?endpoint={}&region=r", server.url()), QUICK);
    let mut world = World::with_queue("signing_key_files = [\"$W/ours.sec\"]", &[to("a"), to("b")].concat());
    s3_keys(&world);
    let key = key(&world, "ours");
    let paths = made(&world, &three());
    world.start();
    queue_with(&world, &["--to", "a"], &paths[2..]);
    delivered(&world, "60s");
    let place = Place::S3(server);
    let below = |folder: &str| -> BTreeMap<String, Vec<u8>> {
        let objects = place.objects().into_iter();
        objects.filter_map(|(key, bytes)| Some((key.strip_prefix(folder)?.to_owned(), bytes))).collect()
    };
    assert_eq!((assert_whole(&world, &below("nix/a/")).len(), below("nix/b/").len()), (3, 0));
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(below("nix/a/").keys().collect::<Vec<_>>(), below("nix/b/").keys().collect::<Vec<_>>());
    assert_eq!(below("").len(), below("nix/a/").len() + below("nix/b/").len(), "nothing lies elsewhere");
    assert_eq!(world.ask(&["verify"]).code, 0);
    let second = second_store(&world, "second");
    let fetched = fetch(&world, &format!("{}/nix/b", place.read_url()), &second, &key, &paths[2..]);
    assert!(fetched.status.success(), "{fetched:?}");
}
