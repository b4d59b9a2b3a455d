//! What must never be published: files that are not what Nix registered, and anything unsigned while there are keys.

use std::fs;

use sqlite_kit::rusqlite::Connection;
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_signed, assert_whole, block, delivered, fields, hashes, key, made, metric,
    narinfo_key, noise, queue,
};
use crate::world::{SOON, World};

/// One small and one large path whose bits have turned, in a set with others and with what needs them.
#[test]
fn what_is_not_registered_so_is_dead_at_once_and_nothing_of_it_is_seen() {
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure("", &places.iter().map(|place| place.block("", "")).collect::<String>());
    let set = [
        Made::new("base", "base", &[]),
        Made::new("small", noise(1, 5_000), &[0]),
        Made::new("large", noise(2, 20 << 20), &[0]),
        Made::new("on-small", "on small", &[1, 0]),
        Made::new("on-large", "on large", &[2]),
        Made::new("good", noise(3, 100_000), &[0]),
        Made::new("good-large", noise(4, 12 << 20), &[0]),
    ];
    let paths = made(&world, &set);
    let mut bad = Vec::new();
    for path in &paths[1..3] {
        bad.extend(hashes(&world, None, std::slice::from_ref(path)));
        let mut bytes = fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
        let found = world.tool("nix-hash").args(["--type", "sha256", "--base32", path]).output().unwrap();
        bad.push(String::from_utf8(found.stdout).unwrap().trim().to_owned());
    }
    for name in &mut bad {
        *name = name.trim_start_matches("sha256:").to_owned();
        assert_eq!(name.len(), 52, "{name}");
    }
    world.start();
    queue(&world, &paths);
    for place in &places {
        let id = place.kind();
        world.until(id, "dead", 4);
        world.until(id, "done", 3);
        let objects = place.objects();
        let mut there = assert_whole(&world, &objects);
        there.sort();
        assert_eq!(there, [&paths[0], &paths[5], &paths[6]].map(String::clone), "{id}");
        // What is whole itself and needs them has its archive there, and is told of by nothing.
        let archives: Vec<&String> = objects.keys().filter(|key| key.starts_with("nar/")).collect();
        assert!(archives.len() <= 5, "{id}: {archives:?}");
        for name in &bad {
            assert!(archives.iter().all(|key| !key.contains(name)), "{id}: {name}: {archives:?}");
        }
        wait::until(SOON, || place.server().is_none_or(|server| server.open_uploads() == 0));
        for row in world.list(&["--destination", id, "--state", "dead"]) {
            let (path, why) = (row["path"].as_str().unwrap(), row["last_error"].as_str().unwrap());
            let bad = if path.ends_with("small") { &paths[1] } else { &paths[2] };
            assert!(why.contains(&format!("{bad} is not what Nix registered")), "{id}: {path}: {why}");
            assert_eq!(why.contains("it needs"), path.contains("-on-"), "{id}: {path}: {why}");
            assert_eq!(row["attempts"], 1, "{id}: {path}");
        }
        assert_eq!(world.status()["destinations"][id]["breaker"], "closed", "{id}");
    }
    assert_eq!(metric(&world, "eka_queue_corrupt_paths_total"), 2 * 3, "each once at each destination");
    // Half written files are gone too.
    wait::until(SOON, || {
        let mut left = fs::read_dir(world.path("cache/nar")).unwrap().map(|entry| entry.unwrap().file_name());
        left.all(|name| !name.to_str().unwrap().starts_with('.'))
    });

    // Mended, one command sends them.
    for (made, path) in set.iter().zip(&paths).take(3) {
        fs::write(path, &made.text).unwrap();
    }
    assert_eq!(world.ask(&["retry", "--state", "dead"]).out, "12 to be tried again\n");
    delivered(&world, "60s");
    assert!(places.iter().all(|place| assert_whole(&world, &place.objects()).len() == 7));
}

/// More of them than it takes to put a destination in doubt; each tells why, and what is whole goes out beside them.
#[test]
fn files_that_are_absent_or_no_files_kill_their_path_and_cast_no_doubt_on_the_destination() {
    let mut world = World::new("");
    let places = Place::all(&world);
    world.configure("", &places.iter().map(|place| place.block("", QUICK)).collect::<String>());
    let set: Vec<Made> = (0..14).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
    let paths = made(&world, &set);
    for path in &paths[..12] {
        fs::remove_file(path).unwrap();
    }
    for path in &paths[6..12] {
        assert!(crate::world::tool("mkfifo").arg(path).status().unwrap().success());
    }
    world.start();
    queue(&world, &paths[..12]);
    for place in &places {
        let id = place.kind();
        world.until(id, "dead", 12);
        for row in world.list(&["--destination", id]) {
            let (path, why) = (row["path"].as_str().unwrap(), row["last_error"].as_str().unwrap());
            assert!(why.contains(&format!("cannot pack {path}")), "{id}: {why}");
            assert!(why.contains("No such file") || why.contains("a NAR holds only"), "{id}: {why}");
            assert_eq!(row["attempts"], 1, "{id}: {row}");
        }
        assert_eq!(world.status()["destinations"][id]["breaker"], "closed", "{id}");
    }
    queue(&world, &paths[12..]);
    for place in &places {
        world.until(place.kind(), "done", 2);
    }
    assert!(!world.log().contains("is in doubt"), "{}", world.log());
}

/// What Nix knows of it leads to something that is no store path: the rest of its batch is delivered.
#[test]
fn a_path_whose_references_cannot_be_read_is_split_from_its_batch_and_dies_alone() {
    let mut world = World::new("");
    let place = Place::Folder(world.path("cache"));
    world.configure("", &place.block("", QUICK));
    let set: Vec<Made> = (0..20).map(|i| Made::new(&format!("p{i}"), format!("{i}"), &[])).collect();
    let paths = made(&world, &set);
    world.start();
    assert_eq!(world.ask(&["pause", "folder"]).code, 0);
    queue(&world, &paths);
    #[expect(clippy::disallowed_methods, reason = "plays another program")]
    let store = Connection::open(world.path("nix/var/db/db.sqlite")).unwrap();
    let id = |path: &str| -> i64 {
        store.query_row("SELECT id FROM ValidPaths WHERE path = ?1", [path], |row| row.get(0)).unwrap()
    };
    let insert = "INSERT INTO ValidPaths (path, hash, registrationTime) VALUES ('nonsense', 'sha256:0', 0)";
    store.execute(insert, []).unwrap();
    let refer = "INSERT INTO Refs (referrer, reference) VALUES (?1, ?2)";
    store.execute(refer, [id(&paths[7]), id("nonsense")]).unwrap();
    assert_eq!(world.ask(&["resume", "folder"]).code, 0);
    world.until("folder", "done", 19);
    world.until("folder", "dead", 1);
    let dead = &world.list(&["--state", "dead"])[0];
    assert_eq!(dead["path"], paths[7].as_str());
    assert!(dead["last_error"].as_str().unwrap().contains("malformed path"), "{dead}");
    assert!(!world.log().contains("is in doubt"), "{}", world.log());
}

/// A key that is missing, unreadable in form, or a folder: nothing leaves, nothing is given up, and it goes out signed.
#[test]
fn while_a_key_cannot_be_used_everything_waits() {
    let mut world = World::new("");
    let places = Place::all(&world);
    let public = key(&world, "one");
    let second = key(&world, "two");
    let caches: String = places.iter().map(|place| place.block("", QUICK)).collect();
    world.configure("signing_key_files = [\"$W/one.sec\", \"$W/two.sec\"]", &caches);
    let good = fs::read(world.path("two.sec")).unwrap();
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", noise(1, 12 << 20), &[0])]);
    world.start();
    fs::remove_file(world.path("two.sec")).unwrap();
    queue(&world, &paths);
    let told = |what: &str| {
        wait::until(SOON, || {
            let rows = world.list(&[]);
            rows.len() == 6
                && rows.iter().all(|row| row["last_error"].as_str().is_some_and(|e| e.contains(what)))
        });
    };
    told("cannot be opened");
    fs::write(world.path("two.sec"), "two:not base64 at all").unwrap();
    told("is of no use");
    fs::write(world.path("two.sec"), [0xff; 100]).unwrap();
    told("cannot be read");
    fs::remove_file(world.path("two.sec")).unwrap();
    fs::create_dir(world.path("two.sec")).unwrap();
    told("cannot be read: Is a directory");
    for row in world.list(&[]) {
        let state = row["state"].as_str().unwrap();
        assert!(["waiting", "queued", "leased", "pushing"].contains(&state) && row["attempts"] == 0, "{row}");
    }
    for place in &places {
        assert!(place.objects().is_empty(), "{}: {:?}", place.kind(), place.objects().keys());
    }
    assert!(!world.log().contains("not base64 at all"));
    fs::remove_dir(world.path("two.sec")).unwrap();
    fs::write(world.path("two.sec"), good).unwrap();
    delivered(&world, "60s");
    for place in &places {
        let objects = place.objects();
        assert_eq!(assert_whole(&world, &objects), paths);
        assert_signed(&world, &objects, &paths, &public);
        assert_signed(&world, &objects, &paths, &second);
    }
}

/// Signatures that a path or its narinfo has stay, whoever made them, and ours come to them.
#[test]
fn signatures_are_added_and_none_is_lost() {
    let mut world = World::new("");
    let places = Place::all(&world);
    let (ours, theirs) = (key(&world, "ours"), key(&world, "theirs"));
    let caches = |name: &str| -> String {
        places.iter().map(|place| block(&format!("{name}-{}", place.kind()), &place.url(""), QUICK)).collect()
    };
    world.configure("", &caches("unsigned"));
    let paths =
        made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[0]), Made::new("c", "c", &[])]);
    // One is signed in the store.
    let mut sign = world.tool("nix");
    sign.args(["--extra-experimental-features", "nix-command", "store", "sign", "--key-file"]);
    assert!(sign.arg(world.path("theirs.sec")).arg(&paths[0]).status().unwrap().success());
    world.start();
    queue(&world, &paths[..2]);
    delivered(&world, "60s");
    for place in &places {
        let objects = place.objects();
        assert_signed(&world, &objects, &paths[..1], &theirs);
        assert!(!fields(&objects[&narinfo_key(&paths[1])]).contains_key("Sig"));
    }
    assert_eq!(world.stop(), 0);
    // Destinations that have no receipts yet.
    world.configure("signing_key_files = [\"$W/ours.sec\"]", &caches("signed"));
    // A narinfo of another content: it is not ours to sign.
    let other = format!(
        "StorePath: {}\nURL: nar/x.nar\nCompression: none\nNarHash: sha256:{}\nNarSize: 7\nReferences: \n",
        paths[2],
        "0".repeat(52)
    );
    for place in &places {
        let key = narinfo_key(&paths[2]);
        match place {
            Place::Folder(root) => {
                fs::write(root.join("nar/x.nar"), "another").unwrap();
                fs::write(root.join(key), &other).unwrap();
            }
            Place::Http(cache) | Place::S3(cache) => {
                cache.insert("/cache/nar/x.nar", b"another");
                cache.insert(&format!("/cache/{key}"), other.as_bytes());
            }
        }
    }
    world.start();
    queue(&world, &paths);
    delivered(&world, "60s");
    for place in &places {
        let objects = place.objects();
        assert_signed(&world, &objects, &paths[..2], &ours);
        assert_signed(&world, &objects, &paths[..1], &theirs);
        assert_eq!(fields(&objects[&narinfo_key(&paths[0])])["Sig"].len(), 2);
        assert_eq!(objects[&narinfo_key(&paths[2])], other.as_bytes(), "{}", place.kind());
        assert_eq!(objects.keys().filter(|key| key.starts_with("nar/")).count(), 3, "nothing was sent again");
    }
}
