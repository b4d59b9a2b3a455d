//! Attic: what arrives there, what does not have to, and what happens when it does not let us.

use std::fs;

use nix_types::SecretKey;
use test_kit::attic::{Attic, NAME, PULL_TOKEN, TOKEN};
use test_kit::http_cache::{Fault, Rule};
use test_kit::wait;

use crate::native::stage::{
    Made, QUICK, assert_signed, assert_whole, delivered, fetch, hashes, key, made, narinfo_key, noise, queue,
    second_store,
};
use crate::world::{SOON, World};

/// A world that pushes to a new server, whose public key is given as well.
fn stage(token: &str, keys: &str) -> (World, Attic, String) {
    let world = World::new("");
    let public = key(&world, "server-1");
    let secret = SecretKey::parse(&fs::read_to_string(world.path("server-1.sec")).unwrap()).unwrap();
    let store = world.path("nix/store");
    let sign = move |print: &str| secret.sign(print).to_string();
    let attic = Attic::start(store.to_str().unwrap(), &["upstream-1"], Box::new(sign));
    log_in(&world, &attic, token);
    world.configure("", &block(&format!("{}/{NAME}", attic.cache.url()), keys));
    (world, attic, public)
}

fn block(destination: &str, keys: &str) -> String {
    format!(
        "[[caches]]\nid = \"main\"\ncache_type = \"attic\"\ndestination = \"{destination}\"\n{QUICK}\n{keys}\n"
    )
}

/// As `attic login` does.
fn log_in(world: &World, attic: &Attic, token: &str) {
    fs::create_dir_all(world.path(".config/attic")).unwrap();
    let text = format!("[servers.here]\nendpoint = \"{}/\"\ntoken = \"{token}\"\n", attic.cache.url());
    fs::write(world.path(".config/attic/config.toml"), text).unwrap();
}

fn start(world: &mut World) {
    world.start_with(|command| {
        command.env_remove("XDG_CONFIG_HOME");
    });
}

/// What readers see, by key.
fn objects(attic: &Attic) -> std::collections::BTreeMap<String, Vec<u8>> {
    let below = format!("/{NAME}/");
    let objects = attic.cache.objects().into_iter();
    objects.filter_map(|(path, stored)| Some((path.strip_prefix(&below)?.to_owned(), stored.bytes))).collect()
}

/// The tokens are nowhere but on the wire.
#[track_caller]
fn assert_untold(world: &World) {
    let told = format!("{}{:?}", world.log(), world.list(&[]));
    assert!(!told.contains(TOKEN) && !told.contains(PULL_TOKEN), "a token is told: {told}");
}

fn last_error(world: &World) -> String {
    world.list(&[]).iter().filter_map(|line| line["last_error"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_closure_arrives_is_signed_there_and_a_real_nix_takes_it() {
    let (mut world, attic, public) = stage(TOKEN, "");
    start(&mut world);
    let many: Vec<usize> = (0..90).collect();
    let mut set: Vec<Made> =
        many.iter().map(|i| Made::new(&format!("part-{i}"), format!("part {i}"), &[])).collect();
    set.push(Made::new("all", "all of them", &many)); // too much to be told in a header
    set.push(Made::new("large", noise(7, 9 << 20), &[90])); // larger than the window
    set.push(Made::new("twin", "part 1", &[])); // the same archive
    let paths = made(&world, &set);
    queue(&world, &paths);
    delivered(&world, "120s");
    let there = objects(&attic);
    assert_eq!(assert_whole(&world, &there).len(), paths.len());
    assert_signed(&world, &there, &paths, &public);
    let kept = attic.kept();
    assert_eq!((kept.deduplicated, kept.preambles, kept.refused.as_slice()), (1, 1, [].as_slice()));
    let into = second_store(&world, "second");
    let fetched = fetch(&world, &attic.read_url(), &into, &public, &paths);
    assert!(fetched.status.success(), "{fetched:?}");
    assert_eq!(hashes(&world, Some(&into), &paths), hashes(&world, None, &paths));
    let receipt = &world.list(&["--state", "done"])[0]["receipt"];
    assert_eq!(receipt["signed_by"][0], "server-1", "{receipt}");
    assert_untold(&world);
}

#[test]
fn what_is_there_or_upstream_is_not_sent() {
    let (mut world, attic, _) = stage(TOKEN, "");
    start(&mut world);
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[0])]);
    let _ = key(&world, "upstream-1");
    let mut sign = world.tool("nix");
    sign.args(["--extra-experimental-features", "nix-command", "store", "sign", "--key-file"]);
    assert!(sign.arg(world.path("upstream-1.sec")).arg(&paths[0]).status().unwrap().success());
    queue(&world, &paths);
    delivered(&world, "60s");
    assert!(!objects(&attic).contains_key(&narinfo_key(&paths[0])), "it can be had upstream");
    assert!(objects(&attic).contains_key(&narinfo_key(&paths[1])));
    let uploads = || attic.cache.log().iter().filter(|seen| seen.method == "PUT").count();
    assert_eq!(uploads(), 1);
    queue(&world, &paths);
    delivered(&world, "60s");
    assert_eq!(uploads(), 1, "it was there");
    let verified = world.ask(&["verify"]);
    assert_eq!(verified.code, 0, "what can be had upstream is not missing: {verified:?}");
    delivered(&world, "60s");
    assert_eq!(uploads(), 1, "nothing is sent again: {verified:?}");
}

#[test]
fn a_server_that_attic_login_knows_is_named_by_its_name() {
    let (mut world, attic, _) = stage(TOKEN, "");
    world.configure("", &block(&format!("here:{NAME}"), ""));
    start(&mut world);
    let paths = made(&world, &[Made::new("a", "a", &[])]);
    queue(&world, &paths);
    delivered(&world, "60s");
    assert!(objects(&attic).contains_key(&narinfo_key(&paths[0])));
}

#[test]
fn a_token_that_is_wrong_blames_no_path_and_a_new_one_needs_no_restart() {
    for (token, told) in [("wrong-canary", "401"), (PULL_TOKEN, "403")] {
        let (mut world, attic, _) = stage(token, "");
        start(&mut world);
        let paths = made(&world, &[Made::new("a", "a", &[])]);
        queue(&world, &paths);
        wait::until(SOON, || {
            let error = last_error(&world);
            error.contains(told) && error.contains("attic login") && error.contains(NAME)
        });
        assert_eq!(world.count("main", "dead"), 0, "no path is to blame");
        assert!(objects(&attic).is_empty());
        log_in(&world, &attic, TOKEN);
        delivered(&world, "60s");
        assert!(objects(&attic).contains_key(&narinfo_key(&paths[0])));
        assert!(!world.log().contains("wrong-canary"));
        assert_untold(&world);
    }
}

#[test]
fn a_cache_that_is_not_there_is_named() {
    let (mut world, attic, _) = stage(TOKEN, "");
    world.configure("", &block(&format!("{}/other", attic.cache.url()), ""));
    start(&mut world);
    queue(&world, &made(&world, &[Made::new("a", "a", &[])]));
    wait::until(SOON, || last_error(&world).contains("no cache `other`"));
    assert_eq!(world.count("main", "dead"), 0);
}

#[test]
fn bad_days_pass_and_nothing_half_is_visible() {
    let (mut world, attic, _) = stage(TOKEN, "attempts_max = 50\ntimeout = \"2s\"");
    let status = |status| Fault::Answer(status, Vec::new(), "{}".to_owned());
    let faults = [
        status(429),
        status(500),
        status(503),
        Fault::Reset,
        Fault::CutAfter(100),
        Fault::LostAnswer,
        Fault::Stall,
        Fault::Truncated,
    ];
    for target in ["cache-config", "get-missing-paths", "upload-path", ".narinfo"] {
        let method = match target {
            "get-missing-paths" => "POST",
            "upload-path" => "PUT",
            _ => "GET",
        };
        for fault in &faults {
            attic.cache.fault(Rule::once(method, target, fault.clone()));
        }
    }
    world.configure(
        "",
        &block(&format!("{}/{NAME}", attic.cache.url()), "timeout = \"2s\"")
            .replace("attempts_max = 3", "attempts_max = 50"),
    );
    start(&mut world);
    let set = [Made::new("a", "a", &[]), Made::new("b", noise(1, 9 << 20), &[0]), Made::new("c", "c", &[1])];
    let paths = made(&world, &set);
    queue(&world, &paths);
    delivered(&world, "180s");
    assert_eq!(assert_whole(&world, &objects(&attic)).len(), paths.len());
    assert_eq!(attic.kept().refused, Vec::<String>::new());
}

#[test]
fn what_is_too_large_is_refused_at_once_and_others_get_through() {
    let (mut world, attic, _) = stage(TOKEN, "");
    start(&mut world);
    let paths = made(&world, &[Made::new("large", noise(3, 9 << 20), &[]), Made::new("other", "o", &[])]);
    attic.cache.fault(Rule::once("PUT", "upload-path", Fault::Early(413)));
    queue(&world, &paths[..1]);
    world.until("main", "dead", 1);
    assert!(last_error(&world).contains("413") && last_error(&world).contains("max_nar_size"));
    queue(&world, &paths[1..]);
    world.until("main", "done", 1);
}

#[test]
fn files_that_are_not_what_nix_registered_are_never_published() {
    let (mut world, attic, _) = stage(TOKEN, "");
    start(&mut world);
    let set = [
        Made::new("small", "small", &[]),
        Made::new("large", noise(5, 9 << 20), &[]),
        Made::new("good", "g", &[]),
    ];
    let paths = made(&world, &set);
    fs::write(&paths[0], "SMALL").unwrap();
    fs::write(&paths[1], noise(6, 9 << 20)).unwrap();
    queue(&world, &paths);
    world.until("main", "dead", 2);
    world.until("main", "done", 1);
    assert_eq!(assert_whole(&world, &objects(&attic)), paths[2..]);
    assert!(last_error(&world).contains("is not what Nix registered"));
}

#[test]
fn a_daemon_that_is_killed_while_it_uploads_leaves_nothing_and_the_next_one_goes_on() {
    let (mut world, attic, _) = stage(TOKEN, "");
    attic.cache.fault(Rule::once("PUT", "upload-path", Fault::Stall));
    start(&mut world);
    let paths = made(&world, &[Made::new("large", noise(5, 40 << 20), &[]), Made::new("user", "u", &[0])]);
    queue(&world, &paths);
    wait::until(SOON, || attic.cache.log().iter().any(|seen| seen.target.contains("upload-path")));
    world.kill();
    assert!(objects(&attic).is_empty(), "nothing half is visible");
    start(&mut world);
    delivered(&world, "120s");
    assert_eq!(assert_whole(&world, &objects(&attic)).len(), 2);
}

#[test]
fn a_cache_that_lost_a_path_gets_it_again() {
    let (mut world, attic, _) = stage(TOKEN, "");
    start(&mut world);
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[0])]);
    queue(&world, &paths);
    delivered(&world, "60s");
    attic.cache.remove(&format!("/{NAME}/{}", narinfo_key(&paths[0])));
    let said = world.ask(&["verify", "--destination", "main"]);
    assert!(said.out.contains(&paths[0]) || said.err.contains(&paths[0]), "{said:?}");
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &objects(&attic)).len(), 2);
}

/// The source's own word is taken, a refusal has it asked anew, and nothing of Attic's own file is needed.
#[test]
fn credentials_come_before_the_file_and_a_new_token_is_in_use_at_once() {
    let source = "credentials = { file = { path = \"$W/token\" } }\ncredentials_ttl = \"1h\"";
    let (mut world, attic, _) = stage("wrong-canary", source);
    fs::write(world.path("token"), format!("ATTIC_TOKEN={TOKEN}\n")).unwrap();
    start(&mut world);
    let paths = made(&world, &[Made::new("a", "a", &[]), Made::new("b", "b", &[])]);
    queue(&world, &paths[..1]);
    delivered(&world, "60s");
    attic.change_token("second-token");
    fs::write(world.path("token"), "ATTIC_TOKEN=second-token\n").unwrap();
    queue(&world, &paths[1..]);
    delivered(&world, "60s");
    let second = world.list(&["--state", "done"]).into_iter().find(|one| one["path"] == *paths[1]).unwrap();
    assert_eq!(second["attempts"], 0, "it was not refused once: {second}");
    fs::write(world.path("token"), "ATTIC_TOKEN=canary-third\n").unwrap();
    attic.change_token("fourth-token");
    let third = made(&world, &[Made::new("c", "c", &[])]);
    queue(&world, &third);
    wait::until(SOON, || {
        let error = last_error(&world);
        error.contains("401") && error.contains("`credentials` (file)")
    });
    assert!(!format!("{}{:?}", world.log(), world.list(&[])).contains("canary-third"));
}

/// A name that leads to another server: nothing is taken to be there because the old one had it.
#[test]
fn a_server_name_that_leads_elsewhere_is_another_cache() {
    let (mut world, attic, _) = stage(TOKEN, "");
    world.configure("", &block(&format!("here:{NAME}"), ""));
    start(&mut world);
    let paths = made(&world, &[Made::new("base", "base", &[]), Made::new("top", "top", &[0])]);
    queue(&world, &paths[..1]);
    delivered(&world, "60s");
    assert!(objects(&attic).contains_key(&narinfo_key(&paths[0])));
    let secret = SecretKey::parse(&fs::read_to_string(world.path("server-1.sec")).unwrap()).unwrap();
    let store = world.path("nix/store");
    let sign = move |print: &str| secret.sign(print).to_string();
    let other = Attic::start(store.to_str().unwrap(), &[], Box::new(sign));
    fs::remove_dir_all(world.path(".config")).unwrap();
    log_in(&world, &other, TOKEN);
    queue(&world, &paths[1..]);
    delivered(&world, "60s");
    let there = objects(&other);
    assert!(paths.iter().all(|path| there.contains_key(&narinfo_key(path))), "{:?}", there.keys());
}
