//! Places that are hostile to one path (R5): it ends as a dead letter with its reason, the others get through at once,
//! and one command sends it after somebody has mended the place.

use std::time::Duration;

use test_kit::http_cache::{Fault, Rule};
use test_kit::wait;

use super::stage::{
    Made, Place, QUICK, assert_whole, block, delivered, hashes, made, narinfo_key, noise, queue,
};
use crate::world::{SOON, World};

/// What a place does to the poison.
struct Bad {
    name: &'static str,
    method: &'static str,
    /// To its narinfo, else to its archive.
    narinfo: bool,
    fault: Fault,
    /// Part of the reason.
    told: &'static str,
    /// It is dead at once.
    at_once: bool,
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Answer(status, headers, body.to_owned())
}

fn status(status: u16) -> Fault {
    answer(status, &[], "")
}

fn bad(name: &'static str, method: &'static str, narinfo: bool, fault: Fault, told: &'static str) -> Bad {
    Bad { name, method, narinfo, fault, told, at_once: false }
}

fn all_bad() -> Vec<Bad> {
    let late = answer(429, &[("Retry-After", "1")], "too many");
    let round = |status| answer(status, &[("Location", "/cache/round")], "");
    let evil = "\u{1b}]0;evil\u{7}\u{1b}[31mno\r\n";
    let at_once = |name, fault| Bad { at_once: true, ..bad(name, "PUT", false, fault, "413") };
    vec![
        bad("forbidden", "PUT", false, status(403), "403"),
        bad("forbidden-narinfo", "PUT", true, status(403), "403"),
        bad("unknown", "PUT", false, status(404), "404"),
        bad("conflict", "PUT", true, status(409), "409"),
        bad("condition", "PUT", false, status(412), "412"),
        bad("condition-narinfo", "PUT", true, status(412), "412"),
        at_once("large", status(413)),
        at_once("large-at-once", Fault::Early(413)),
        bad("later", "PUT", true, late, "429"),
        bad("broken", "PUT", false, status(500), "500"),
        bad("broken-narinfo", "PUT", true, status(500), "500"),
        bad("busy", "PUT", true, status(503), "503"),
        bad("evil", "PUT", true, answer(400, &[], evil), "400"),
        bad("reset", "PUT", false, Fault::Reset, "put nar/"),
        bad("cut", "PUT", false, Fault::CutAfter(100), "put nar/"),
        bad("stall", "PUT", false, Fault::Stall, "nothing moved"),
        bad("trickle", "GET", true, Fault::Trickle(1, Duration::from_millis(50)), "nothing moved"),
        bad("truncated", "GET", true, Fault::Truncated, "get "),
        bad("huge", "GET", true, answer(200, &[], &"x".repeat(2 << 20)), "more than 1048576 bytes"),
        bad("round", "GET", true, round(302), "get "),
        bad("round-put", "PUT", true, round(302), "30"),
        bad("nonsense", "GET", true, answer(200, &[], evil), "says something else than what was written"),
        bad("lying", "GET", true, answer(404, &[], ""), "then does not have it"),
        bad("broken-question", "GET", true, status(500), "500"),
    ]
}

#[test]
fn poison_ends_with_its_reason_and_holds_nobody() {
    const GOOD: usize = 12;
    let mut world = World::new("");
    let mut set: Vec<Made> =
        (0..=GOOD).map(|i| Made::new(&format!("p{i}"), noise(i as u64, 3_000), &[])).collect();
    set[0].text = noise(99, 200_000);
    set.push(Made::new("needs-poison", "needs", &[0, 1]));
    let paths = made(&world, &set);
    let poison = hashes(&world, None, &paths[..1]).remove(0);
    let archive = poison.strip_prefix("sha256:").unwrap().to_owned();
    let narinfo = narinfo_key(&paths[0]);
    let mut stands = Vec::new();
    let mut caches = String::new();
    let keys = format!("{QUICK}\ntimeout = \"2s\"");
    for kind in [1, 2] {
        for bad in all_bad() {
            let place = Place::all(&world).into_iter().nth(kind).unwrap();
            let id = format!("{}-{}", place.kind(), bad.name);
            let target = if bad.narinfo { &narinfo } else { &archive };
            let rule = Rule::always(bad.method, target, bad.fault.clone());
            place.server().unwrap().fault(Rule::always(
                "GET",
                "/cache/round",
                answer(302, &[("Location", "/cache/round")], ""),
            ));
            place.server().unwrap().fault(rule);
            caches.push_str(&block(&id, &place.url("retry-attempts=2&compression=zstd"), &keys));
            stands.push((id, place, bad));
        }
    }
    world.configure("", &caches);
    world.start();
    queue(&world, &paths);
    for (id, place, bad) in &stands {
        let settled = || {
            let status = world.status();
            let of = &status["destinations"][id.as_str()];
            (of["done"].as_u64().unwrap(), of["dead"].as_u64().unwrap())
        };
        assert!(
            wait::comes_true(Duration::from_secs(60), || settled() == (GOOD as u64, 2)),
            "{id}: {:?}, wanted {GOOD} and 2\n{:#?}",
            settled(),
            world.list(&["--destination", id])
        );
        for row in world.list(&["--destination", id, "--state", "dead"]) {
            let (path, why) = (row["path"].as_str().unwrap(), row["last_error"].as_str().unwrap());
            assert!(why.contains(bad.told), "{id}: {why}");
            assert!(!why.contains(['\u{1b}', '\u{7}', '\n', '\r']), "{id}: {why:?}");
            if path.ends_with("-needs-poison") {
                assert!(why.contains(&paths[0]) || why.contains(&narinfo), "{id}: {why}");
            } else {
                assert_eq!(path, paths[0], "{id}");
                assert_eq!(row["attempts"], if bad.at_once { 1 } else { 3 }, "{id}: {why}");
            }
        }
        // What may be read of it is whole. A lying place shows what it denies having.
        let objects = place.objects();
        if bad.method == "PUT" {
            assert_eq!(assert_whole(&world, &objects).len(), GOOD, "{id}");
        }
        wait::until(SOON, || place.server().unwrap().open_uploads() == 0);
        assert_eq!(world.status()["destinations"][id.as_str()]["breaker"], "closed", "{id}");
    }
    stands.iter().for_each(|(_, place, _)| place.server().unwrap().heal());
    let said = world.ask(&["retry", "--state", "dead"]);
    assert_eq!(said.out, format!("{} to be tried again\n", stands.len() * 2));
    delivered(&world, "60s");
    for (id, place, _) in &stands {
        assert_eq!(assert_whole(&world, &place.objects()).len(), paths.len(), "{id}");
    }
}

/// A part that the server says is another one: the object never appears, and nothing of it stays.
#[test]
fn a_large_path_whose_parts_are_refused_leaves_nothing() {
    let mut world = World::new("");
    let place = Place::all(&world).into_iter().nth(2).unwrap();
    world.configure("", &place.block("compression=zstd", QUICK));
    let paths = made(&world, &[Made::new("large", noise(1, 20 << 20), &[]), Made::new("good", "good", &[])]);
    let server = place.server().unwrap();
    let archive = hashes(&world, None, &paths[..1]).remove(0).replace("sha256:", "/cache/nar/");
    server.fault(Rule::always("PUT", &archive, Fault::WrongTag));
    world.start();
    queue(&world, &paths);
    world.until("s3", "done", 1);
    world.until("s3", "dead", 1);
    let why = world.list(&["--state", "dead"])[0]["last_error"].as_str().unwrap().to_owned();
    assert!(why.contains("InvalidPart"), "{why}");
    // It is given up beside the attempt, which does not wait for that.
    wait::until(SOON, || server.open_uploads() == 0);
    assert_eq!(assert_whole(&world, &place.objects()), paths[1..]);
    server.heal();
    assert_eq!(world.ask(&["retry", "--state", "dead"]).out, "1 to be tried again\n");
    delivered(&world, "60s");
    assert_eq!(assert_whole(&world, &place.objects()), paths);
}
