//! Cachix: what arrives there, who signs it, and what happens when it does not let us.

use std::collections::BTreeMap;
use std::fs;

use nix_types::SecretKey;
use test_kit::cachix::{Cachix, NAME, PART_SECRET, TOKEN};
use test_kit::http_cache::{Fault, Rule};
use test_kit::wait;

use crate::native::stage::{
    Made, QUICK, assert_signed, assert_whole, delivered, fetch, hashes, key, made, narinfo_key, noise, queue,
    second_store,
};
use crate::world::{SOON, World};

/// A world that pushes to a new service, whose public key is given as well.
fn stage(keys: &str) -> (World, Cachix, String) {
    let world = World::new("");
    let name = format!("{NAME}.cachix.org-1");
    let public = key(&world, &name);
    let secret = SecretKey::parse(&secret(&world)).unwrap();
    let store = world.path("nix/store");
    let sign = move |print: &str| secret.sign(print).to_string().rsplit(':').next().unwrap().to_owned();
    let cachix = Cachix::start(store.to_str().unwrap(), Box::new(sign));
    log_in(&world, &cachix, TOKEN, "");
    world.configure("", &block(NAME, keys));
    (world, cachix, public)
}

/// `NAME:BASE64` of the cache's key.
fn secret(world: &World) -> String {
    fs::read_to_string(world.path(&format!("{NAME}.cachix.org-1.sec"))).unwrap().trim().to_owned()
}

fn block(name: &str, keys: &str) -> String {
    format!(
        "[[caches]]\nid = \"main\"\ncache_type = \"cachix\"\ndestination = \"{name}\"\nconfig_file = \"$W/cachix.dhall\"\n{QUICK}\n{keys}\n"
    )
}

/// As `cachix authtoken` and `cachix generate-keypair` do.
fn log_in(world: &World, cachix: &Cachix, token: &str, key: &str) {
    let caches = match key {
        "" => String::new(),
        key => format!(", binaryCaches =\n  [ {{ name = \"{NAME}\", secretKey = \"{key}\" }} ]\n"),
    };
    let text =
        format!("{{ authToken =\n    \"{token}\"\n, hostname = \"{}\"\n{caches}}}\n", cachix.cache.url());
    fs::write(world.path("cachix.dhall"), text).unwrap();
}

fn start(world: &mut World) {
    world.start_with(|command| {
        command.env_remove("CACHIX_AUTH_TOKEN").env_remove("CACHIX_SIGNING_KEY");
    });
}

/// What readers see, by key.
fn objects(cachix: &Cachix) -> BTreeMap<String, Vec<u8>> {
    let below = format!("/{NAME}/");
    let objects = cachix.cache.objects().into_iter();
    objects.filter_map(|(path, stored)| Some((path.strip_prefix(&below)?.to_owned(), stored.bytes))).collect()
}

fn last_error(world: &World) -> String {
    world.list(&[]).iter().filter_map(|line| line["last_error"].as_str()).collect::<Vec<_>>().join("\n")
}

/// Tokens and addresses for parts are nowhere but on the wire.
#[track_caller]
fn assert_untold(world: &World) {
    let told = format!("{}{:?}", world.log(), world.list(&[]));
    assert!(!told.contains(TOKEN) && !told.contains(PART_SECRET), "a secret is told: {told}");
}

#[test]
fn a_closure_arrives_in_parts_is_signed_there_and_a_real_nix_takes_it() {
    let (mut world, cachix, public) = stage("");
    start(&mut world);
    let set = [
        Made::new("a", "a", &[]),
        Made::new("large", noise(7, 21 << 20), &[0]),
        Made::new("c", "c", &[0, 1]),
    ];
    let paths = made(&world, &set);
    queue(&world, &paths);
    delivered(&world, "120s");
    let there = objects(&cachix);
    assert_eq!(assert_whole(&world, &there).len(), 3);
    assert_signed(&world, &there, &paths, &public);
    let kept = cachix.kept();
    assert!(kept.parts_max > 1 && kept.open.is_empty() && kept.refused.is_empty(), "{kept:?}");
    let into = second_store(&world, "second");
    let fetched = fetch(&world, &cachix.read_url(), &into, &public, &paths);
    assert!(fetched.status.success(), "{fetched:?}");
    assert_eq!(hashes(&world, Some(&into), &paths), hashes(&world, None, &paths));
    queue(&world, &paths);
    delivered(&world, "60s");
    let begun = cachix.cache.log().iter().filter(|seen| seen.target.contains("compression=")).count();
    assert_eq!(begun, 3, "what is there is not sent again");
    assert_untold(&world);
}

#[test]
fn who_holds_the_key_signs() {
    let (mut world, cachix, public) = stage("");
    let text = secret(&world);
    let bare = text.rsplit(':').next().unwrap();
    log_in(&world, &cachix, TOKEN, bare);
    start(&mut world);
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[0])]);
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(cachix.kept().signed_by_client, 2);
    assert_signed(&world, &objects(&cachix), &paths, &public);
    assert!(!world.log().contains(bare));
}

#[test]
fn a_token_that_is_wrong_blames_no_path_and_the_environments_comes_first() {
    let (mut world, cachix, _) = stage("");
    world.start_with(|command| {
        command.env("CACHIX_AUTH_TOKEN", "wrong-canary").env_remove("CACHIX_SIGNING_KEY");
    });
    let paths = made(&world, &[Made::new("a", "a", &[])]);
    queue(&world, &paths);
    wait::until(SOON, || {
        let error = last_error(&world);
        error.contains("401") && error.contains("CACHIX_AUTH_TOKEN") && error.contains(NAME)
    });
    assert_eq!(world.count("main", "dead"), 0, "no path is to blame");
    assert_eq!(world.stop(), 0);
    start(&mut world);
    delivered(&world, "60s");
    assert!(objects(&cachix).contains_key(&narinfo_key(&paths[0])));
    assert!(!world.log().contains("wrong-canary"));
    assert_untold(&world);
}

#[test]
fn bad_days_pass_and_nothing_half_is_visible() {
    let (mut world, cachix, _) = stage("");
    let status = |status| Fault::Answer(status, Vec::new(), "{}".to_owned());
    let faults = [
        status(429),
        status(500),
        status(403),
        Fault::Reset,
        Fault::CutAfter(10),
        Fault::LostAnswer,
        Fault::Stall,
    ];
    for (method, target) in [
        ("GET", "/api/v1/cache/team"),
        ("POST", "/narinfo"),
        ("POST", "compression="),
        ("POST", "partNumber="),
        ("PUT", "/parts/"),
        ("POST", "/complete"),
        ("POST", "/abort"),
        ("GET", ".narinfo"),
    ] {
        for fault in &faults {
            cachix.cache.fault(Rule::once(method, target, fault.clone()));
        }
    }
    world.configure("", &block(NAME, "timeout = \"1s\"").replace("attempts_max = 3", "attempts_max = 100"));
    start(&mut world);
    let set = [Made::new("a", "a", &[]), Made::new("b", noise(1, 9 << 20), &[0]), Made::new("c", "c", &[1])];
    let paths = made(&world, &set);
    queue(&world, &paths);
    delivered(&world, "240s");
    assert_eq!(assert_whole(&world, &objects(&cachix)).len(), paths.len());
    assert_eq!(cachix.kept().refused, Vec::<String>::new());
    assert_untold(&world);
}

#[test]
fn files_that_are_not_what_nix_registered_are_never_published_and_their_upload_is_aborted() {
    let (mut world, cachix, _) = stage("");
    start(&mut world);
    let set = [
        Made::new("small", "small", &[]),
        Made::new("large", noise(5, 21 << 20), &[]),
        Made::new("good", "g", &[]),
    ];
    let paths = made(&world, &set);
    fs::write(&paths[0], "SMALL").unwrap();
    fs::write(&paths[1], noise(6, 21 << 20)).unwrap();
    queue(&world, &paths);
    world.until("main", "dead", 2);
    world.until("main", "done", 1);
    assert_eq!(assert_whole(&world, &objects(&cachix)), paths[2..]);
    let kept = cachix.kept();
    assert_eq!((kept.aborted, kept.open.len()), (1, 0), "{kept:?}");
    assert!(last_error(&world).contains("is not what Nix registered"));
}

#[test]
fn a_daemon_that_is_killed_while_it_uploads_leaves_nothing_to_see_and_the_next_one_goes_on() {
    let (mut world, cachix, _) = stage("");
    cachix.cache.fault(Rule::once("PUT", "/parts/nar-1/2", Fault::Stall));
    start(&mut world);
    let paths = made(&world, &[Made::new("large", noise(5, 21 << 20), &[]), Made::new("user", "u", &[0])]);
    queue(&world, &paths);
    wait::until(SOON, || cachix.cache.log().iter().any(|seen| seen.target.contains("/parts/nar-1/2")));
    world.kill();
    assert!(objects(&cachix).is_empty(), "nothing half is visible");
    start(&mut world);
    delivered(&world, "120s");
    assert_eq!(assert_whole(&world, &objects(&cachix)).len(), 2);
}

/// A token and a key from a source: the file only says where the service is.
#[test]
fn credentials_give_token_and_key() {
    let (mut world, cachix, public) =
        stage("credentials = { env = { vars = [\"MY_TOKEN\", \"MY_SIGNING_KEY\"] } }");
    log_in(&world, &cachix, "wrong-canary", "");
    let key = secret(&world);
    world.start_with(|command| {
        command.env("MY_TOKEN", TOKEN).env("MY_SIGNING_KEY", &key).env_remove("CACHIX_AUTH_TOKEN");
    });
    let paths = made(&world, &[Made::new("a", "a", &[])]);
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_signed(&world, &objects(&cachix), &paths, &public);
    assert_eq!(cachix.kept().signed_by_client, 1);
}
