//! What others wrote at a destination: it is kept where it is good, and never vouched for where it is not.

use std::fs;
use std::process::Command;

use test_kit::http_cache::{Cache, Fault, Rule};

use super::stage::{
    Made, Place, QUICK, assert_signed, assert_whole, block, both_deliver, delivered, fields, key, made,
    narinfo_key, noise, queue, s3_keys,
};
use crate::world::World;

/// Replaces an object, or removes it.
fn tamper(place: &Place, key: &str, bytes: Option<&[u8]>) {
    match (place, bytes) {
        (Place::Folder(root), Some(bytes)) => fs::write(root.join(key), bytes).unwrap(),
        (Place::Folder(root), None) => fs::remove_file(root.join(key)).unwrap(),
        (Place::Http(cache) | Place::S3(cache), Some(bytes)) => cache.insert(&format!("/cache/{key}"), bytes),
        (Place::Http(cache) | Place::S3(cache), None) => cache.remove(&format!("/cache/{key}")),
    }
}

fn caches(places: &[Place], name: &str) -> String {
    let block =
        |place: &Place| block(&format!("{name}-{}", place.kind()), &place.url("compression=zstd"), QUICK);
    places.iter().map(block).collect()
}

/// A narinfo that says of the right archive what Nix did not register gets no signature: it is written anew.
#[test]
fn what_a_cache_made_up_is_not_signed() {
    let mut world = World::new("");
    let places = Place::all(&world);
    let ours = key(&world, "ours");
    world.configure("", &caches(&places, "unsigned"));
    let paths =
        made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[0]), Made::new("c", "c", &[])]);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(world.stop(), 0);
    let good: Vec<_> = places.iter().map(Place::objects).collect();
    for (place, objects) in places.iter().zip(&good) {
        let key = narinfo_key(&paths[1]);
        let text = String::from_utf8(objects[&key].clone()).unwrap();
        let (_, name) = paths[0].rsplit_once('/').unwrap();
        assert!(text.contains(name));
        let evil = text.replace(name, "99999999999999999999999999999999-evil");
        tamper(place, &key, Some(evil.as_bytes()));
    }
    world.configure("signing_key_files = [\"$W/ours.sec\"]", &caches(&places, "signed"));
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for (place, before) in places.iter().zip(&good) {
        let now = place.objects();
        assert_signed(&world, &now, &paths, &ours);
        let key = narinfo_key(&paths[1]);
        assert_eq!(fields(&now[&key])["References"], fields(&before[&key])["References"], "{}", place.kind());
        assert_eq!(assert_whole(&world, &now).len(), paths.len(), "{}", place.kind());
    }
    assert!(world.log().contains("names other references than Nix registered"), "{}", world.log());
}

/// A narinfo whose archive is gone is no receipt: the archive is sent again.
#[test]
fn a_narinfo_without_its_archive_counts_for_nothing() {
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure("", &caches(&places, "first"));
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", noise(1, 9 << 20), &[])]);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(world.stop(), 0);
    for place in &places {
        let objects = place.objects();
        for key in objects.keys().filter(|key| key.starts_with("nar/")) {
            tamper(place, key, None);
        }
    }
    world.configure("", &caches(&places, "second"));
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for place in &places {
        assert_eq!(assert_whole(&world, &place.objects()).len(), paths.len(), "{}", place.kind());
    }
}

/// Two daemons with a key each that push the same paths at once: every path has both signatures in the end.
#[test]
fn two_daemons_with_a_key_each_lose_no_signature() {
    let mut world = World::new("");
    let places = [Place::Http(Cache::start()), Place::S3(Cache::start())];
    s3_keys(&world);
    let set: Vec<Made> = (0..300)
        .map(|i| Made::new(&format!("p{i}"), noise(i as u64, 2_000), &[i / 2][..usize::from(i > 0)]))
        .collect();
    let paths = made(&world, &set);
    let mut second = World::beside(&world);
    s3_keys(&second);
    let (one, other) = (key(&world, "one"), key(&second, "other"));
    world.configure("signing_key_files = [\"$W/one.sec\"]", &caches(&places, "x"));
    second.configure("signing_key_files = [\"$W/other.sec\"]", &caches(&places, "x"));
    world.start();
    second.start();
    both_deliver([&world, &second], &paths);
    for world in [&world, &second] {
        assert_eq!(world.list(&["--state", "done"]).len(), 2 * paths.len());
        assert!(world.list(&[]).iter().all(|row| row["last_error"].is_null()));
    }
    for place in &places {
        let objects = place.objects();
        assert_signed(&world, &objects, &paths, &one);
        assert_signed(&world, &objects, &paths, &other);
        assert_eq!(assert_whole(&world, &objects).len(), paths.len(), "{}", place.kind());
    }
}

/// A signature that somebody took away is missed by `verify`, and comes back.
#[test]
fn verify_finds_a_lost_signature() {
    let mut world = World::new("");
    let places = Place::all(&world);
    let ours = key(&world, "ours");
    world.configure("signing_key_files = [\"$W/ours.sec\"]", &caches(&places, "x"));
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[])]);
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for place in &places {
        let key = narinfo_key(&paths[0]);
        let text = String::from_utf8(place.objects()[&key].clone()).unwrap();
        let unsigned: String =
            text.lines().filter(|line| !line.starts_with("Sig:")).map(|line| format!("{line}\n")).collect();
        tamper(place, &key, Some(unsigned.as_bytes()));
    }
    let said = world.ask(&["verify"]);
    assert!(said.out.contains("lacks a signature of ours"), "{said:?}");
    delivered(&world, "60s");
    for place in &places {
        assert_signed(&world, &place.objects(), &paths, &ours);
    }
    let said = world.ask(&["verify"]);
    assert_eq!(said.code, 0, "{said:?}");
}

/// A second derivation whose output is a path that was delivered already: what its build is known by goes there too.
#[test]
fn a_further_derivation_of_a_delivered_path_is_known_there() {
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure("", &caches(&places, "x"));
    world.start();
    let config = "sandbox = false\nbuild-users-group =\nsubstituters =\nexperimental-features = nix-command ca-derivations\n";
    let run = |mut command: Command| {
        let said = command.env("NIX_CONFIG", config).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    };
    let mut built = Vec::new();
    for salt in ["one", "two"] {
        let file = world.path(&format!("{salt}.nix"));
        let text = r#"
          let bb = builtins.path { path = /usr/bin; name = "bb"; filter = p: t: baseNameOf p == "busybox"; } + "/busybox";
          in derivation { name = "same"; system = builtins.currentSystem; builder = bb; salt = "SALT";
            __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256";
            args = [ "sh" "-c" "echo same > $out" ]; }"#;
        fs::write(&file, text.replace("SALT", salt)).unwrap();
        let mut instantiate = world.tool("nix-instantiate");
        instantiate.arg(&file);
        let drv = run(instantiate);
        let mut realise = world.tool("nix-store");
        realise.args(["--realise", &drv]);
        let out = run(realise);
        let said = world.hook(&out, &drv);
        assert_eq!(said.code, 0, "{said:?}");
        delivered(&world, "60s");
        built.push((drv, out));
    }
    assert!(built[0].1 == built[1].1 && built[0].0 != built[1].0, "{built:?}");
    for place in &places {
        let objects = place.objects();
        let count = objects.keys().filter(|key| key.starts_with("realisations/")).count();
        assert_eq!(count, 2, "{}: {:?}", place.kind(), objects.keys());
    }
}

/// A log that a destination does not take is left out, and nothing else is.
#[test]
fn a_log_that_is_refused_holds_up_no_path() {
    let mut world = World::new("");
    let cache = Cache::start();
    cache.fault(Rule::always("PUT", "log/", Fault::Answer(413, Vec::new(), String::new())));
    let place = Place::Http(cache);
    world.configure("", &place.block("", &format!("{QUICK}\nupload_logs = true")));
    world.start();
    let built =
        world.build(r#"[ (run "a" { } "echo said; echo > $out") (run "b" { } "echo said; echo b > $out") ]"#);
    assert_eq!(built.code, 0, "{built:?}");
    delivered(&world, "60s");
    let objects = place.objects();
    assert_eq!(assert_whole(&world, &objects).len(), world.list(&["--state", "done"]).len());
    assert!(!objects.keys().any(|key| key.starts_with("log/")), "{:?}", objects.keys());
    assert!(world.log().contains("is left out"), "{}", world.log());
    assert_eq!(world.count("http", "dead"), 0);
}
