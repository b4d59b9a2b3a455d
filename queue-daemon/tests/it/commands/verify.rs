//! `verify`: caches that lose what they were brought, after the receipt.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use test_kit::http_cache::{Cache, Fault, Rule};
use test_kit::wait;

use super::patience::{begin, conversations, end};
use crate::world::{FOLDER_CACHE, SOON, Said, World};

fn hash_part(path: &str) -> &str {
    &path.rsplit('/').next().unwrap()[..32]
}

fn narinfo_of(world: &World, path: &str) -> PathBuf {
    world.path("cache").join(format!("{}.narinfo", hash_part(path)))
}

/// The archive a narinfo names.
fn url_in(narinfo: &str) -> String {
    narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap().to_owned()
}

fn archive_of(world: &World, path: &str) -> PathBuf {
    world.path("cache").join(url_in(&fs::read_to_string(narinfo_of(world, path)).unwrap()))
}

/// `app` needs `mid` needs `lib`; nobody was told of any of them.
fn chain(world: &World) -> [String; 3] {
    let built = world.build_with_hook(
        r#"rec {
          lib = run "lib" { } "echo lib > $out";
          mid = run "mid" { } "echo ${lib} > $out";
          app = run "app" { } "echo ${mid} > $out";
        }"#,
        &world.path("no-hook.sh"),
        "#!/bin/sh\n",
    );
    assert_eq!(built.code, 0, "{built:?}");
    let named = |name: &str| built.out.lines().find(|path| path.ends_with(name)).unwrap().to_owned();
    ["-app", "-mid", "-lib"].map(named)
}

fn push(world: &World, paths: &[String]) {
    let mut arguments = vec!["push"];
    arguments.extend(paths.iter().map(String::as_str));
    assert_eq!(world.ask(&arguments).code, 0);
    delivered(world);
}

#[track_caller]
fn delivered(world: &World) {
    let said = world.ask(&["wait", "--all", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", world.log());
}

#[track_caller]
fn verify(world: &World, arguments: &[&str], code: i32) -> Said {
    let said = world.ask(&[&["verify"], arguments].concat());
    assert_eq!(said.code, code, "{said:?}\n{}", world.log());
    said
}

/// What is said to be missing, by path.
fn missing(said: &Said) -> Vec<(String, String)> {
    let lines = said.out.lines().filter_map(|line| line.strip_prefix("missing   main         "));
    let mut found: Vec<(String, String)> =
        lines.map(|line| line.split_once("  ").unwrap()).map(|(a, b)| (a.into(), b.into())).collect();
    found.sort();
    found
}

fn all_files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn each_kind_of_loss_is_found_and_mended() {
    let mut world = World::new(FOLDER_CACHE);
    let loose = world.valid_paths(5);
    let [app, mid, lib] = chain(&world);
    world.start();
    push(&world, &[&loose[..], std::slice::from_ref(&app)].concat());
    assert_eq!(verify(&world, &[], 0).out, "main: 6 there, 0 missing, 0 queued again\n");
    let whole = all_files(&world.path("cache"));

    fs::remove_file(narinfo_of(&world, &loose[0])).unwrap();
    let archive = archive_of(&world, &loose[1]);
    fs::remove_file(&archive).unwrap();
    let short = archive_of(&world, &loose[2]);
    fs::write(&short, b"short").unwrap();
    fs::copy(narinfo_of(&world, &loose[4]), narinfo_of(&world, &loose[3])).unwrap();
    fs::remove_file(narinfo_of(&world, &lib)).unwrap();
    let below = |archive: &Path| archive.strip_prefix(world.path("cache")).unwrap().display().to_string();
    let mut want = vec![
        (loose[0].clone(), "its narinfo is not there".to_owned()),
        (loose[1].clone(), format!("its archive {} is not there", below(&archive))),
        (loose[2].clone(), format!("its archive {} has 5 bytes instead of ", below(&short))),
        (loose[3].clone(), "its narinfo is of another path".to_owned()),
        (app.clone(), format!("it needs {lib}, which is not whole: its narinfo is not there")),
    ];
    want.sort();
    let found = |said: &Said| {
        let cut = |(path, why): (String, String)| {
            (
                path,
                why.split_once("instead of ").map_or(why.clone(), |(begin, _)| format!("{begin}instead of ")),
            )
        };
        missing(said).into_iter().map(cut).collect::<Vec<_>>()
    };

    let dry = verify(&world, &["--dry-run"], 1);
    assert_eq!(found(&dry), want);
    assert!(dry.out.ends_with("main: 1 there, 5 missing, 0 queued again\n"), "{dry:?}");
    assert_eq!(world.count("main", "done"), 6, "nothing was queued");

    let said = verify(&world, &[], 1);
    assert_eq!(found(&said), want);
    assert!(said.out.ends_with("main: 1 there, 5 missing, 5 queued again\n"), "{said:?}");
    delivered(&world);
    assert_eq!(verify(&world, &[], 0).out, "main: 6 there, 0 missing, 0 queued again\n");
    assert_eq!(all_files(&world.path("cache")), whole, "as it was, to the last byte");

    // Whoever is there and whole, and only needs what is lost, is not sent again; what nobody asked for by name is.
    let of_lib = archive_of(&world, &lib);
    fs::remove_file(&of_lib).unwrap();
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = [&app, &mid].map(|path| inode(&narinfo_of(&world, path)));
    let said = verify(&world, &["--json", &app], 1);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["path"], app, "{said:?}");
    assert_eq!(lines[0]["in_store"], true);
    assert_eq!(lines[1]["requeued"], 1);
    assert_eq!(lines[2], serde_json::json!({ "count": 1, "refused": 0 }));
    delivered(&world);
    assert!(of_lib.exists());
    assert_eq!([&app, &mid].map(|path| inode(&narinfo_of(&world, path))), before);
    verify(&world, &[], 0);
}

#[test]
fn a_folder_that_was_emptied_has_lost_everything_and_gets_it_again() {
    let mut world = World::new(FOLDER_CACHE);
    let paths = world.valid_paths(700);
    world.start();
    push(&world, &paths);
    fs::remove_dir_all(world.path("cache")).unwrap();
    fs::create_dir(world.path("cache")).unwrap();
    // One has left the local store as well: it can only be said.
    assert!(world.tool("nix-store").args(["--delete", &paths[9]]).output().unwrap().status.success());
    let said = verify(&world, &["--destination", "main"], 1);
    assert!(said.out.ends_with("main: 0 there, 700 missing, 700 queued again\n"), "{said:?}");
    let lost = "its narinfo is not there; it has left the local store too and cannot be sent again";
    assert!(missing(&said).contains(&(paths[9].clone(), lost.to_owned())), "{said:?}");
    wait::until(SOON, || world.count("main", "done") == 699 && world.count("main", "gone") == 1);
    assert_eq!(verify(&world, &[], 0).out, "main: 699 there, 0 missing, 0 queued again\n");
    assert!(world.path("cache/nix-cache-info").exists());
    // What is queued again is kept from the garbage collector until it is delivered, and no longer.
    wait::until(SOON, || world.status()["gc_roots"] == 0);
}

#[test]
fn what_is_queued_again_is_kept_from_the_garbage_collector() {
    let mut world = World::new(FOLDER_CACHE);
    let paths = world.valid_paths(1);
    world.start();
    push(&world, &paths);
    assert_eq!(world.ask(&["pause"]).code, 0);
    fs::remove_file(narinfo_of(&world, &paths[0])).unwrap();
    verify(&world, &[], 1);
    let listed = world.list(&[]);
    assert_eq!(
        (&listed[0]["state"], &listed[0]["last_error"]),
        (&"queued".into(), &"its narinfo is not there".into())
    );
    assert!(world.tool("nix-store").arg("--gc").output().unwrap().status.success());
    assert!(Path::new(&paths[0]).exists());
    assert!(world.log().contains(&format!("main has lost {}, which is queued again", paths[0])));
    // It is owed now, and has no receipt that could be verified.
    assert_eq!(verify(&world, &[], 0).out, "main: 0 there, 0 missing, 0 queued again\n");
    assert_eq!(world.ask(&["resume"]).code, 0);
    delivered(&world);
    verify(&world, &[], 0);
}

fn server(cache: &Cache) -> String {
    format!(
        "[[caches]]\nid = \"main\"\ncache_type = \"nix-copy\"\ndestination = \"{}/c?retry-attempts=1\"\n",
        cache.url()
    )
}

#[test]
fn a_server_that_loses_objects_is_found_out() {
    let cache = Cache::start();
    let mut world = World::new(&server(&cache));
    let paths = world.valid_paths(3);
    world.start();
    push(&world, &paths);
    verify(&world, &[], 0);
    let key = |path: &str| format!("/c/{}.narinfo", hash_part(path));
    let archive = |path: &str| {
        let narinfo = String::from_utf8(cache.object(&key(path)).unwrap().bytes).unwrap();
        format!("/c/{}", url_in(&narinfo))
    };
    let whole = cache.objects();
    cache.remove(&archive(&paths[1]));
    cache.insert(&archive(&paths[2]), b"something else");
    cache.remove(&key(&paths[0]));
    assert_eq!(missing(&verify(&world, &[], 1)).len(), 3);
    delivered(&world);
    verify(&world, &[], 0);
    let bytes = |objects: &std::collections::BTreeMap<String, test_kit::http_cache::Stored>| {
        objects.iter().map(|(key, stored)| (key.clone(), stored.bytes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&cache.objects()), bytes(&whole));
}

/// What was lost stays known over a restart: the destination's word alone would say that all is well.
#[test]
fn a_restart_before_the_redelivery_loses_nothing() {
    let mut world = World::new(FOLDER_CACHE);
    let paths = world.valid_paths(1);
    world.start();
    push(&world, &paths);
    let archive = archive_of(&world, &paths[0]);
    fs::remove_file(&archive).unwrap();
    assert_eq!(world.ask(&["pause"]).code, 0);
    verify(&world, &[], 1);
    world.kill();
    world.start();
    assert_eq!(world.ask(&["resume"]).code, 0);
    delivered(&world);
    assert!(archive.exists());
    verify(&world, &[], 0);
}

#[test]
fn a_destination_that_cannot_be_asked_is_said_and_holds_no_other() {
    let cache = Cache::start();
    let folder = FOLDER_CACHE.replace("main", "other");
    let mut world = World::new(&format!("{}{folder}", server(&cache)));
    let paths = world.valid_paths(2);
    world.start();
    push(&world, &paths);
    cache.remove(&format!("/c/{}.narinfo", hash_part(&paths[0])));
    fs::remove_file(narinfo_of(&world, &paths[0])).unwrap();
    cache.fault(Rule::always("GET", &hash_part(&paths[1])[..8], Fault::Reset));
    let said = verify(&world, &[], 69);
    assert!(said.out.contains("main: 0 there, 0 missing, 0 queued again\n"), "{said:?}");
    assert!(said.out.ends_with("other: 1 there, 1 missing, 1 queued again\n"), "{said:?}");
    assert!(
        said.err.starts_with("eka-queue: main cannot be asked, and nothing of it is queued again: "),
        "{said:?}"
    );
    assert_eq!(world.count("main", "done"), 2);
    world.until("other", "done", 2);
    cache.heal();
    assert!(verify(&world, &[], 1).out.contains("main: 1 there, 1 missing, 1 queued again\n"));
    delivered(&world);
    verify(&world, &[], 0);
}

#[test]
fn one_verify_at_a_time_and_it_ends_with_whoever_asked_for_it() {
    let cache = Cache::start();
    let mut world = World::new(&server(&cache));
    let paths = world.valid_paths(2);
    world.start();
    push(&world, &paths);
    let asked = |cache: &Cache| {
        let narinfo = |target: &str| target.ends_with(".narinfo");
        cache.log().iter().filter(|seen| seen.method == "GET" && narinfo(&seen.target)).count()
    };
    cache.remove(&format!("/c/{}.narinfo", hash_part(&paths[0])));
    let before = asked(&cache);
    cache.fault(Rule::always("GET", &hash_part(&paths[1])[..8], Fault::Stall));
    let mut first = begin(&world, &["verify"]);
    wait::until(SOON, || asked(&cache) > before);
    let second = verify(&world, &[], 69);
    assert!(second.err.contains("another verify is under way"), "{second:?}");
    let path = world.valid_paths(1);
    assert_eq!(world.ask(&["push", &path[0]]).code, 0);
    world.until("main", "done", 3); // pushes go on
    first.kill().unwrap();
    wait::until(SOON, || conversations(&world) == 0);
    assert_eq!(world.count("main", "done"), 3, "nothing was queued again");
    cache.heal();
    let said = end(begin(&world, &["verify"]));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.ends_with("main: 2 there, 1 missing, 1 queued again\n"), "{said:?}");
}

#[test]
fn what_nobody_can_be_asked_about_is_said_to_be_unknown() {
    let mut world = World::new(&World::command_cache("a", "", ""));
    let paths = world.valid_paths(2);
    world.start();
    push(&world, &paths[..1]);
    let said = verify(&world, &[], 0);
    assert_eq!(said.out, "a: 0 there, 0 missing, 0 queued again, 1 that nobody can be asked about\n");
    let said = verify(&world, &["--destination", "b"], 3);
    assert_eq!(
        said.err,
        "eka-queue: there is no destination `b`; `eka-queue status` shows those there are\n"
    );
    let said = verify(&world, &[&paths[1]], 3);
    assert!(said.err.contains("has no receipt here"), "{said:?}");
    world.configure("", "");
    assert_eq!(world.stop(), 0);
    world.start();
    let said = verify(&world, &["--destination", "a"], 3);
    assert!(said.err.contains("is not in the configuration any more"), "{said:?}");
}

/// Where Nix itself brings paths, Nix itself is asked.
#[test]
fn a_store_that_lost_a_path_gets_it_again() {
    let url = "local?root=$W/other";
    let mut world = World::new(&FOLDER_CACHE.replace("file://$W/cache", url));
    let paths = world.valid_paths(2);
    world.start();
    push(&world, &paths);
    verify(&world, &[], 0);
    let store = format!("local?root={}", world.path("other").display());
    let deleted = world.tool("nix-store").args(["--store", &store, "--delete", &paths[0]]).output().unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    let said = verify(&world, &[], 1);
    assert_eq!(missing(&said), [(paths[0].clone(), "it is not valid there".to_owned())]);
    delivered(&world);
    verify(&world, &[], 0);
}

/// A path that is there is not delivered while what it needs cannot be brought.
#[test]
fn no_receipt_is_given_again_while_the_hole_is_there() {
    let mut world = World::new(FOLDER_CACHE);
    let [app, _, lib] = chain(&world);
    world.start();
    push(&world, std::slice::from_ref(&app));
    fs::remove_file(archive_of(&world, &lib)).unwrap();
    let whole = fs::read(&lib).unwrap();
    let write = |bytes: &[u8]| {
        let mut permissions = fs::metadata(&lib).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(&lib, permissions.clone()).unwrap();
        fs::write(&lib, bytes).unwrap();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o444);
        fs::set_permissions(&lib, permissions).unwrap();
    };
    write(b"bad\n");
    verify(&world, &[], 1);
    world.until("main", "dead", 1);
    let why = world.list(&[])[0]["last_error"].as_str().unwrap().to_owned();
    assert!(why.starts_with(&format!("it needs {lib}, which could not be sent: ")), "{why}");
    write(&whole);
    assert_eq!(world.ask(&["retry", "--all"]).code, 0);
    delivered(&world);
    verify(&world, &[], 0);
}
